"""Signed requests: HTTP Message Signatures (RFC 9421) over a Content-Digest (RFC 9530), with Ed25519.

A signature covers exactly the method, the path and the query as they are sent, and the digest of the body:

    Content-Digest: sha-256=:<base64>:
    Signature-Input: sig=("@method" "@path" "@query" "content-digest");created=<Unix s>;nonce="<any>";keyid="<client>"
    Signature: sig=:<base64>:

Invariants:
(1) a request passes only if the key of its own client signed these bytes, at most ``WINDOW_S`` ago;
(2) a request passes once: its nonce is remembered longer than its signature is accepted. If that cannot be done, the
    request is refused; so is one that was signed before the start of a process that remembers nonces by itself;
(3) nothing of a request is used before its signature is checked, and no nonce is stored for a wrong signature.

This is a profile of the RFC: fixed components and parameters, which any library for it can produce. A library would
have to be told to refuse all else; the one for Python has 2,500 lines.
"""

import base64
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from hmac import compare_digest
from time import time
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from msgspec import Struct

from api.identity.identity import PUBLIC_KEY_PATTERN
from api.limits.ports import Nonces

WINDOW_S: Final = 60
"""How far ``created`` may be from this node's clock. Chosen: clocks are seconds apart, and nonces are few."""
KEEP_S: Final = 3.0 * WINDOW_S
"""How long a nonce is remembered. A signature is accepted for two windows; the third is for clocks of nodes that
differ."""

_COMPONENTS: Final = ("@method", "@path", "@query", "content-digest")
_LABEL: Final = r"([a-z][a-z0-9_.*-]{0,31})="
_PARAMETER: Final = r';([a-z]+)=(\d{1,12}|"[!#-\[\]-~]{1,128}")'
_INPUT: Final = re.compile(rf'{_LABEL}(\(([a-z@" -]{{1,100}})\)((?:{_PARAMETER})+))')
_SIGNATURE: Final = re.compile(rf"{_LABEL}:([A-Za-z0-9+/]{{86}}==):")
_DIGEST: Final = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")
_PARAMETERS: Final = frozenset({"created", "nonce", "keyid", "alg"})


class BadSignature(Exception):
    """A request is not signed by its client, or was sent before. The text is for the client."""


class Signed(Struct, frozen=True):
    """What a request's headers say of its signature."""

    parameters: str
    """As they were sent: they are signed too."""
    created_s: int
    nonce: str
    keyid: str
    signature: bytes
    digest: str
    """The header Content-Digest."""
    components: tuple[str, ...]


def read_public_key(text: str) -> Ed25519PublicKey:
    """Raises ValueError unless it is spelled like ``PUBLIC_KEY_PATTERN``."""
    if not re.search(PUBLIC_KEY_PATTERN, text):
        raise ValueError("not an Ed25519 public key in base64")
    key = load_der_public_key(base64.b64decode(text))
    assert isinstance(key, Ed25519PublicKey), "the pattern begins with the OID of Ed25519"
    return key


class SignedRequests:
    """Checks the requests of clients that have registered a key."""

    def __init__(self, nonces: Nonces, *, time_s: Callable[[], float] = time, since_s: float = float("-inf")) -> None:
        """``since_s``: what was signed before may have been accepted by a process whose nonces are forgotten."""
        self._nonces, self._time_s, self._since_s = nonces, time_s, since_s

    async def check(
        self,
        client_id: str,
        public_key: str,
        method: str,
        target: tuple[bytes, bytes],
        headers: Mapping[bytes, bytes],
        body: bytes,
    ) -> None:
        """``target``: path and query, as they were sent. Raises BadSignature; SharedUnavailable if the nonce cannot
        be remembered."""
        signed = read_signature(headers)
        if signed.keyid != client_id:
            raise BadSignature("keyid must be the client_id")
        if abs(self._time_s() - signed.created_s) > WINDOW_S:
            raise BadSignature(f"created is more than {WINDOW_S} s from the clock of this service")
        if signed.created_s < self._since_s:
            raise BadSignature("created is before the start of this service: sign again")
        try:
            read_public_key(public_key).verify(signed.signature, base_of(signed, method, target))
        except InvalidSignature:
            raise BadSignature("the signature is not of this client's key over this method, path and query") from None
        digest = base64.b64encode(sha256(body).digest()).decode()
        if not compare_digest(signed.digest, f"sha-256=:{digest}:"):
            raise BadSignature("Content-Digest is not that of the body")
        if not await self._nonces.is_new(f"{client_id}:{signed.nonce}"):
            raise BadSignature("the nonce was used before")


def read_signature(headers: Mapping[bytes, bytes]) -> Signed:
    """Raises BadSignature where a header is missing or of another form."""
    found = {name: headers.get(name, b"").decode("latin-1") for name in (b"signature-input", b"signature")}
    digest = headers.get(b"content-digest", b"").decode("latin-1")
    described, signature = _INPUT.fullmatch(found[b"signature-input"]), _SIGNATURE.fullmatch(found[b"signature"])
    if described is None or signature is None or described[1] != signature[1] or not _DIGEST.fullmatch(digest):
        raise BadSignature("this client must sign its requests: send Signature-Input, Signature and Content-Digest")
    components = tuple(described[3].replace('"', "").split(" "))
    if described[3] != " ".join(f'"{name}"' for name in components) or sorted(components) != sorted(_COMPONENTS):
        raise BadSignature(f"the signature must cover {', '.join(_COMPONENTS)} and nothing else")
    pairs = re.findall(_PARAMETER, described[4])
    parameters = dict(pairs)
    if len(parameters) != len(pairs) or not _PARAMETERS >= parameters.keys() >= {"created", "nonce", "keyid"}:
        raise BadSignature(
            "the signature must have the parameters created, nonce and keyid; alg is optional; no others are allowed"
        )
    if not parameters["created"].isdigit() or parameters.get("alg", '"ed25519"') != '"ed25519"':
        raise BadSignature("created must be an integer, and alg, if it is given, ed25519")
    texts = {name: value.strip('"') for name, value in parameters.items()}
    return Signed(
        described[2],
        int(texts["created"]),
        texts["nonce"],
        texts["keyid"],
        base64.b64decode(signature[2]),
        digest,
        components,
    )


def base_of(signed: Signed, method: str, target: tuple[bytes, bytes]) -> bytes:
    """The text that is signed: RFC 9421, section 2.5."""
    path, query = target
    values = {
        "@method": method.encode(),
        "@path": path,
        "@query": b"?" + query,
        "content-digest": signed.digest.encode(),
    }
    lines = [b'"%s": %s' % (name.encode(), values[name]) for name in signed.components]
    return b"\n".join((*lines, b'"@signature-params": ' + signed.parameters.encode("latin-1")))
