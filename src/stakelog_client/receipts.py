"""Receipts: the check that the holder of a key had a record at a place. It needs `stakelog_client[receipts]`.

A receipt is signed with Ed25519 over the UTF-8 text `stakelog-receipt:<partition>:<seq>:<head>:<signed_at_us>`.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from hashlib import sha256

import msgspec
from msgspec import Struct

from stakelog_client.errors import ChainBroken, ReceiptInvalid
from stakelog_client.events import Event, continued
from stakelog_client.generated.models import Receipt


class _Jwk(Struct):
    kid: str
    kty: str = ""
    crv: str = ""
    x: str = ""


class _Jwks(Struct):
    keys: list[_Jwk]


def check_receipt(receipt: Receipt, keys: bytes) -> Event:
    """The event of the receipt, whose signature is that of one of `keys`: a JWK Set, as `/.well-known/jwks.json` has
    it. Raises ReceiptInvalid."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    record = receipt.record.encode()
    if sha256(record).hexdigest() != receipt.head:
        raise ReceiptInvalid("its head is not the hash of its record")
    try:
        event = continued(record, receipt.partition, receipt.seq, None)
    except ChainBroken as error:
        raise ReceiptInvalid(f"its record is that of another place: {error}") from error
    text = f"stakelog-receipt:{receipt.partition}:{receipt.seq}:{receipt.head}:{receipt.signed_at_us}"
    try:
        known = msgspec.json.decode(keys, type=_Jwks).keys
        public = next(
            (_octets(one.x) for one in known if (one.kid, one.kty, one.crv) == (receipt.kid, "OKP", "Ed25519")), None
        )
        if public is None:
            raise ReceiptInvalid(f"it is signed by the key {receipt.kid}, which is not among the given keys")
        Ed25519PublicKey.from_public_bytes(public).verify(_octets(receipt.signature), text.encode())
    except (msgspec.MsgspecError, ValueError) as error:
        raise ReceiptInvalid(f"the keys or the signature cannot be read: {error}") from error
    except InvalidSignature:
        raise ReceiptInvalid(
            f"its signature is not that of the key {receipt.kid}: it was changed, or forged"
        ) from None
    return event


def _octets(base64url: str) -> bytes:
    return urlsafe_b64decode(base64url + "=" * (-len(base64url) % 4))
