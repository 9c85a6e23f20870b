"""The keys that sign: those of access tokens, and those of receipts and seals (Ed25519).

Every process has them in memory and reads them again every ``RELOAD_S``. Keys of one purpose follow each other:
the one that signs is the newest whose time has come.

Invariants:
(1) a key is published, at ``/.well-known/jwks.json``, ``PUBLISHED_S`` before it signs: by then every process has it;
(2) a token's key stays published until the last token that it signed has expired; then it is deleted. A stolen one
    is deleted at once (``replace_token_key``), which ends all access tokens;
(3) a key of receipts stays published permanently, since receipts are checked after years. It signs no token, and a
    token's key no receipt;
(4) a private key is in the store only wrapped by the master key;
(5) a damaged key signs nothing, is not published, and stops no other key: it is logged by name, and stays in the
    store. If no key of a purpose is whole, a new one signs at once.
"""

import asyncio
import logging
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec import json

from api.identity.key_store import AnyStoredKey, KeyStore, StoredSigningKey
from api.identity.master_key import KeyDamaged, MasterKeys, Wrapped, wrong_master_key
from api.identity.ports import IdentityUnavailable, SigningKey
from api.identity.private import PrivateTexts
from api.identity.tokens import ACCESS_S
from ledger import background
from ledger.errors import LedgerError
from ledger.operations.seals import utc
from ledger.ports import Clock

TOKEN: Final = "token"  # noqa: S105 - the name of a purpose
RECEIPT: Final = "receipt"
PURPOSES: Final = (TOKEN, RECEIPT)

RELOAD_S: Final = 60
PUBLISHED_S: Final = 600
"""Chosen: ten times ``RELOAD_S``, and as long as other readers of the JWKS may keep it."""
LAST_TOKEN_S: Final = ACCESS_S + 300
"""How long a token key is kept after its successor began to sign: until its last token has expired, with room for
clocks and for a process that has read its keys ``RELOAD_S`` ago."""
TOKEN_KEY_S: Final = 30 * 86_400
"""A token's key that is this old gets a successor. Chosen: short, because the change costs nothing."""

_log = logging.getLogger(__name__)


class Signature(NamedTuple):
    """``signature`` is base64url without padding, as in JOSE."""

    kid: str
    signature: str


class Keys(NamedTuple):
    """What the service does with keys."""

    ring: "KeyRing"
    private: PrivateTexts


class KeyRing:
    """The signing keys of one process. Its ``signing``, ``public``, ``accepts`` and ``jwks`` are
    ``TokenKeys``."""

    def __init__(self, store: KeyStore, masters: MasterKeys, clock: Clock) -> None:
        self._store, self._masters, self.clock = store, masters, clock
        self._keys: dict[str, list[StoredSigningKey]] = {}
        self._private: dict[str, Ed25519PrivateKey] = {}
        self._damaged: frozenset[str] = frozenset()
        self._token_kids: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the keys, and make the first ones. Without the database they are read as soon as it responds. Raises
        MasterKeyUnusable."""
        try:
            await self.reload()
        except IdentityUnavailable as error:
            _log.warning("nothing is signed yet: %s", error)
        self._task = background.keep(self._keep_reloading, "signing-keys")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _keep_reloading(self) -> None:
        while True:
            await asyncio.sleep(RELOAD_S if self._keys else 1.0)
            try:
                await self.reload()
            except LedgerError as error:
                _log.warning("the signing keys cannot be read: %s; trying again", error)

    async def reload(self) -> None:
        """Read the keys; add those that are due, and delete those that no token needs. Raises MasterKeyUnusable,
        IdentityUnavailable."""
        if not self._keys:
            await refuse_other_master_key(self._store, self._masters)
        stored = _by_purpose(await self._store.signing_keys())
        whole = _by_purpose(self._open([key for keys in stored.values() for key in keys]))
        now_us = self.clock()
        for purpose in PURPOSES:
            known = whole.get(purpose, [])
            if not known or (purpose == TOKEN and now_us - known[-1].used_from_us >= TOKEN_KEY_S * 1_000_000):
                published_s = PUBLISHED_S if known else 0
                await self.add(purpose, stored.get(purpose, []), now_us, published_s)
        private: dict[str, Ed25519PrivateKey] = {}
        keys = _by_purpose(self._open(await self._store.signing_keys(), private))
        if not all(keys.get(purpose) for purpose in PURPOSES):
            raise IdentityUnavailable("the signing keys were changed while they were read")
        for key, successor in pairwise(tuple(keys[TOKEN])):
            if now_us >= successor.used_from_us + LAST_TOKEN_S * 1_000_000:
                await self._store.delete_signing_key(key)
                keys[TOKEN].remove(key)
        assert keys[TOKEN], "the newest key has no successor, so it stays"
        for key in (key for purpose in keys.values() for key in purpose):
            if self._keys and key.kid not in self._private:
                _log.info("a new key for %ss, %s, signs from %s", key.purpose, key.kid, utc(key.used_from_us))
        self._keys, self._private = keys, private
        self._token_kids = frozenset(key.kid for key in keys[TOKEN])

    def _open(
        self, stored: Sequence[StoredSigningKey], private: dict[str, Ed25519PrivateKey] | None = None
    ) -> list[StoredSigningKey]:
        """The keys that are not damaged; the private key of each is added to ``private``. A damaged key is logged
        once. Raises MasterKeyUnusable."""
        whole, damaged = [], set()
        for key in stored:
            try:
                opened = self._private.get(key.kid) or _private_key(self._masters, key)
                if jwk_of(opened.public_key()) != jwk_of_stored(key):
                    raise KeyDamaged(key.name, "its public key is another one")
            except KeyDamaged as error:
                damaged.add(key.name)
                if key.name not in self._damaged:
                    _log.error("%s; it signs nothing, and what it has signed cannot be checked until then", error)
                continue
            whole.append(key)
            if private is not None:
                private[key.kid] = opened
        self._damaged = frozenset(damaged)
        return whole

    async def add(
        self, purpose: str, known: Sequence[StoredSigningKey], now_us: int, published_s: int = PUBLISHED_S
    ) -> StoredSigningKey | None:
        """A new key, after the known ones; it signs after ``published_s``, and the first at once. ``known``: damaged
        ones too. None: another process added it."""
        private = Ed25519PrivateKey.generate()
        public = private.public_key()
        number, kid = known[-1].number + 1 if known else 1, jwk_of(public)["kid"]
        used_from_us = now_us + published_s * 1_000_000 if known else now_us
        unwrapped = Wrapped(b"", "")
        made = StoredSigningKey(purpose, number, kid, _base64url(public.public_bytes_raw()), unwrapped, used_from_us)
        key = made._replace(wrapped=self._masters.wrap(private.private_bytes_raw(), made.name))
        return key if await self._store.add_signing_key(key) else None

    async def rotate(self, purpose: str) -> StoredSigningKey | None:
        """Add a key now. It signs after ``PUBLISHED_S``. None: another process did the same."""
        return await self.add(purpose, _by_purpose(await self._store.signing_keys()).get(purpose, []), self.clock())

    async def replace_token_key(self) -> StoredSigningKey | None:
        """Add a key for tokens that signs now, and delete all others: one of them is stolen. Every process does the
        same within ``RELOAD_S``: until then some refuse tokens of the new key. None: another process has just added
        a key, and none is deleted."""
        known = _by_purpose(await self._store.signing_keys()).get(TOKEN, [])
        key = await self.add(TOKEN, known, self.clock(), published_s=0)
        if key is not None:
            for stolen in known:
                await self._store.delete_signing_key(stolen)
        return key

    # --- tokens ----------------------------------------------------------------------------------------------------

    def signing(self) -> SigningKey:
        """Of access tokens. Raises IdentityUnavailable."""
        kid = self._current(TOKEN).kid
        return SigningKey(kid, self._private[kid])

    def public(self, kid: str) -> Ed25519PublicKey | None:
        """The key that verifies tokens; None: tokens of this key are not accepted."""
        return self._private[kid].public_key() if kid in self._token_kids else None

    def accepts(self, kid: str) -> bool:
        """Whether ``public`` has the key."""
        return kid in self._token_kids

    def jwks(self) -> list[dict[str, str]]:
        """The published keys of all purposes."""
        return [jwk_of_stored(key) for purpose in self._keys.values() for key in purpose]

    # --- receipts and seals ----------------------------------------------------------------------------------------

    @property
    def receipt_kid(self) -> str:
        """The key that ``sign`` uses now. Raises IdentityUnavailable."""
        return self._current(RECEIPT).kid

    def sign(self, text: bytes) -> Signature:
        """Sign the text of a receipt or a seal. Raises IdentityUnavailable."""
        kid = self.receipt_kid
        return Signature(kid, _base64url(self._private[kid].sign(text)))

    def _current(self, purpose: str) -> StoredSigningKey:
        """The key that signs: the newest whose time has come, or the first."""
        keys = self._keys.get(purpose)
        if not keys:
            raise IdentityUnavailable("the signing keys could not be read yet")
        now_us = self.clock()
        return next((key for key in reversed(keys) if key.used_from_us <= now_us), keys[0])


def key_rows(keys: Sequence[StoredSigningKey]) -> list[dict[str, str | int]]:
    """What an operator sees of the keys."""
    return [
        {
            "purpose": key.purpose,
            "kid": key.kid,
            "signs_from": utc(key.used_from_us),
            "signs_from_us": key.used_from_us,
            "master_key": key.wrapped.master_id,
        }
        for key in keys
    ]


async def refuse_other_master_key(store: KeyStore, masters: MasterKeys) -> None:
    """Raises MasterKeyUnusable if a key in the store is wrapped by another master key than the given ones."""
    others = await store.master_ids() - masters.ids
    if others:
        raise wrong_master_key(others, masters)


class Rewrapped(NamedTuple):
    """``wrapped``: how many keys another master key had wrapped; ``damaged``: the names of those that do not open and
    are left as they are."""

    wrapped: int
    damaged: list[str]


async def rewrap_all(store: KeyStore, masters: MasterKeys) -> Rewrapped:
    """Wrap every key by the first of the master keys. It may be interrupted: at any time each key is wrapped by one
    of the master keys, and the next call continues. Raises MasterKeyUnusable, IdentityUnavailable."""
    done = Rewrapped(0, [])
    few: list[AnyStoredKey] = [*await store.signing_keys(), *await store.webhook_secrets()]
    done = await _rewrap(store, masters, [key for key in few if key.wrapped.master_id != masters.id], done)
    after = ""
    while users := await store.user_keys_wrapped_by_others(masters.id, after):
        done = await _rewrap(store, masters, users, done)
        after = users[-1].user_id
    return done


async def _rewrap(store: KeyStore, masters: MasterKeys, keys: Sequence[AnyStoredKey], before: Rewrapped) -> Rewrapped:
    wrapped: list[tuple[AnyStoredKey, Wrapped]] = []
    damaged = list(before.damaged)
    for key in keys:
        try:
            wrapped.append((key, masters.wrap(masters.unwrap(key.wrapped, key.name), key.name)))
        except KeyDamaged as error:
            _log.error("%s", error)
            damaged.append(key.name)
    if wrapped:
        await store.rewrap(wrapped)
    return Rewrapped(before.wrapped + len(wrapped), damaged)


def jwk_of(public: Ed25519PublicKey) -> dict[str, str]:
    """The key as a JWK (RFC 8037), with its thumbprint (RFC 7638) as ``kid``."""
    members = {
        "crv": "Ed25519",
        "kty": "OKP",
        "x": _base64url(public.public_bytes_raw()),
    }  # the thumbprint's, in order
    return {**members, "kid": _base64url(sha256(json.encode(members)).digest()), "use": "sig", "alg": "EdDSA"}


def jwk_of_stored(key: StoredSigningKey) -> dict[str, str]:
    return {"crv": "Ed25519", "kty": "OKP", "x": key.public, "kid": key.kid, "use": "sig", "alg": "EdDSA"}


def _private_key(masters: MasterKeys, key: StoredSigningKey) -> Ed25519PrivateKey:
    """Raises MasterKeyUnusable, KeyDamaged."""
    try:
        return Ed25519PrivateKey.from_private_bytes(masters.unwrap(key.wrapped, key.name))
    except ValueError:
        raise KeyDamaged(key.name, "it is not a key of Ed25519") from None


def _by_purpose(keys: Sequence[StoredSigningKey]) -> dict[str, list[StoredSigningKey]]:
    found: dict[str, list[StoredSigningKey]] = {}
    for key in keys:
        found.setdefault(key.purpose, []).append(key)
    return found


def _base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()
