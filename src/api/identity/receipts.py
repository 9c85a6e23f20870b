"""Receipts and the public keys that check them, without a service.

A receipt is signed with Ed25519 over the UTF-8 text ``stakelog-receipt:<partition>:<seq>:<head>:<signed_at_us>``. Its
``record`` is the event's record as text, ``head`` the record's SHA-256, ``signature`` base64url without padding.
"""

from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta, Struct

from ledger.core.record import EMPTY_SHA256

_SIGNATURE_EXAMPLE: Final = "A" * 86
_KID_EXAMPLE: Final = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


class Receipt(Struct, frozen=True, forbid_unknown_fields=True):
    """A proof that the ledger had this record, for one who has the public keys and nothing else."""

    record: Annotated[str, Meta(description="The event's record, byte for byte, as text")]
    head: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256 of the record", examples=[EMPTY_SHA256])]
    partition: Annotated[int, Meta(ge=0, description="The event's partition", examples=[3])]
    seq: Annotated[int, Meta(ge=1, description="The event's seq", examples=[42])]
    signed_at_us: Annotated[
        int, Meta(ge=0, description="When it was signed: Unix microseconds, UTC", examples=[1_795_438_800_000_000])
    ]
    kid: Annotated[str, Meta(description="The key at `/.well-known/jwks.json`", examples=[_KID_EXAMPLE])]
    signature: Annotated[
        str,
        Meta(
            description=(
                "Ed25519 over the UTF-8 text `stakelog-receipt:<partition>:<seq>:<head>:<signed_at_us>`, base64url "
                "without padding"
            ),
            examples=[_SIGNATURE_EXAMPLE],
        ),
    ]


def receipt_text(partition: int, seq: int, head: str, signed_at_us: int) -> bytes:
    """What is signed."""
    return f"stakelog-receipt:{partition}:{seq}:{head}:{signed_at_us}".encode()


class NotReadable(ValueError):
    """The bytes are not a receipt, or not a JWK Set. The text says why."""


class _Jwk(Struct):
    kid: str
    kty: str = ""
    crv: str = ""
    x: str = ""


class _Jwks(Struct):
    keys: list[_Jwk]


class _Place(Struct):
    partition: int
    seq: int


_decode_jwks: Final = msgspec.json.Decoder(_Jwks).decode
_decode_receipt: Final = msgspec.json.Decoder(Receipt).decode
_decode_place: Final = msgspec.json.Decoder(_Place).decode


class PublicKeys:
    """kid → the key that checks signatures."""

    def __init__(self, keys: dict[str, Ed25519PublicKey], *, refuse_unknown: bool = True) -> None:
        """``refuse_unknown``: a signature by another key is a fault. Otherwise it is not checked: see ``in``."""
        self._keys, self._refuse_unknown = keys, refuse_unknown

    def __contains__(self, kid: str) -> bool:
        return kid in self._keys

    def fault(self, kid: str, text: bytes, signature: str) -> str | None:
        """Why the signature is not the key's over ``text``; None: it is."""
        key = self._keys.get(kid)
        if key is None:
            return (
                None
                if not self._refuse_unknown
                else f"it is signed by the key {kid}, which is not among the given keys"
            )
        try:
            key.verify(octets_of(signature), text)
        except (InvalidSignature, ValueError):
            return f"its signature is not that of the key {kid}: it was changed, or forged"
        return None


def read_keys(jwks: bytes, *, refuse_unknown: bool = True) -> PublicKeys:
    """The Ed25519 keys of a JWK Set. ``refuse_unknown``: see ``PublicKeys``. Raises NotReadable."""
    try:
        found = _decode_jwks(jwks).keys
        keys = {
            jwk.kid: Ed25519PublicKey.from_public_bytes(octets_of(jwk.x))
            for jwk in found
            if (jwk.kty, jwk.crv) == ("OKP", "Ed25519")
        }
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise NotReadable(f"not a JWK Set: {error}") from None
    return PublicKeys(keys, refuse_unknown=refuse_unknown)


def read_receipt(receipt: bytes) -> Receipt:
    """Raises NotReadable."""
    try:
        return _decode_receipt(receipt)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotReadable(f"not a receipt: {error}") from None


def receipt_fault(receipt: Receipt, keys: PublicKeys) -> str | None:
    """What is wrong with the receipt; None: the holder of the key had this record at this place."""
    record = receipt.record.encode()
    if sha256(record).hexdigest() != receipt.head:
        return "its head is not the hash of its record"
    try:
        place = _decode_place(record)
    except msgspec.MsgspecError:
        return "its record cannot be read"
    if (place.partition, place.seq) != (receipt.partition, receipt.seq):
        return f"its record is that of partition {place.partition}, seq {place.seq}"
    text = receipt_text(receipt.partition, receipt.seq, receipt.head, receipt.signed_at_us)
    return keys.fault(receipt.kid, text, receipt.signature)


def octets_of(base64url: str) -> bytes:
    return urlsafe_b64decode(base64url + "=" * (-len(base64url) % 4))
