"""``TokenKeys`` of one process: a key that is made at its start, and gone with it."""

import base64
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import json

from api.identity.ports import SigningKey


def jwk_of(public: Ed25519PublicKey, use: str = "sig") -> dict[str, str]:
    """The key as a JWK (RFC 8037), with its thumbprint (RFC 7638) as ``kid``."""
    x = _base64url(public.public_bytes_raw())
    members = {"crv": "Ed25519", "kty": "OKP", "x": x}  # the thumbprint's, in its order
    return {**members, "kid": _base64url(sha256(json.encode(members)).digest()), "use": use, "alg": "EdDSA"}


class ProcessKeys:
    """One key for the life of the process."""

    def __init__(self) -> None:
        private = Ed25519PrivateKey.generate()
        self._public = private.public_key()
        self._jwk = jwk_of(self._public)
        self._signing = SigningKey(self._jwk["kid"], private)

    def signing(self) -> SigningKey:
        return self._signing

    def public(self, kid: str) -> Ed25519PublicKey | None:
        return self._public if kid == self._signing.kid else None

    def jwks(self) -> list[dict[str, str]]:
        return [self._jwk]


def _base64url(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
