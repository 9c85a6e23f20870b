"""Private texts of commands: encrypted before a command reaches a node, and decrypted when a response is made.

What the ledger stores is base64 of::

    1 | key_id (16 bytes) | nonce (12) | length of writer (1) | writer | AES-256-GCM of the texts as JSON

``key_id`` is that of the user's key, ``writer`` the id of the client that posted the command. The associated data is
``stakelog-private:1 <key_id> <writer> <user_id> <command_id>``, with ``key_id`` in hex: a text that is moved to
another user or command, or given another writer, does not open.

Invariants:
(1) no process keeps a user's key longer than for one request: a key that is destroyed is gone for all at once;
(2) a new text is encrypted only under a key that the store has at that moment;
(3) a request reads the keys of all its users at once.
"""

import logging
import secrets
from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api.identity.key_store import KeyStore, StoredUserKey, user_key_name
from api.identity.master_key import KEY_BYTES, NONCE_BYTES, KeyDamaged, MasterKeys

_VERSION: Final = b"\x01"
_ID_BYTES: Final = 16
_WRITER_AT: Final = 1 + _ID_BYTES + NONCE_BYTES

_decode: Final = msgspec.json.Decoder(dict[str, str]).decode
_encode: Final = msgspec.json.encode
_log = logging.getLogger(__name__)

Texts = dict[str, str]


class PlainTexts(NamedTuple):
    """Texts that a client posts with a command."""

    user_id: str
    command_id: str
    texts: Texts


class Encrypted(NamedTuple):
    """Texts as the ledger has them."""

    user_id: str
    command_id: str
    text: str

    @property
    def writer(self) -> str | None:
        """The client that wrote them; None: the text is damaged."""
        parts = _parts_of(self)
        return None if parts is None else parts.writer


class _Parts(NamedTuple):
    key_id: str
    nonce: bytes
    writer: str
    ciphertext: bytes


class PrivateTexts:
    """Encrypts and decrypts under the users' keys in ``store``."""

    def __init__(self, store: KeyStore, masters: MasterKeys) -> None:
        self._store, self._masters = store, masters

    async def encrypt(self, plain: Sequence[PlainTexts], writer: str) -> list[str]:
        """Encrypt; users without a key get one. Raises IdentityUnavailable, MasterKeyUnusable."""
        ciphers = await self._keys_to_encrypt({one.user_id for one in plain})
        return [_encrypt(one, *ciphers[one.user_id], writer) for one in plain]

    async def decrypt(self, encrypted: Sequence[Encrypted]) -> list[Texts | None]:
        """Decrypt. None: the key is destroyed, or, with an error in the service log, key or text are damaged. Raises
        IdentityUnavailable, MasterKeyUnusable."""
        stored = await self._store.user_keys({one.user_id for one in encrypted})
        ciphers: dict[str, tuple[str, AESGCM]] = {}
        for user_id, key in stored.items():
            try:
                ciphers[user_id] = self._cipher(key)
            except KeyDamaged as error:
                _log.error("%s; the private texts of %s are returned as null", error, user_id)
        return [_decrypt(one, ciphers.get(one.user_id)) for one in encrypted]

    async def destroy(self, user_id: str) -> bool:
        """Destroy the user's key: nothing that was encrypted under it opens again. False: there was none. Raises
        IdentityUnavailable."""
        return await self._store.delete_user_key(user_id)

    async def _keys_to_encrypt(self, user_ids: Collection[str]) -> dict[str, tuple[str, AESGCM]]:
        stored = await self._store.user_keys(user_ids)
        while missing := [user_id for user_id in user_ids if user_id not in stored]:  # again if a key is destroyed
            await self._store.add_user_keys([self._new_key(user_id) for user_id in missing])
            stored |= await self._store.user_keys(missing)
        return {user_id: self._cipher(key) for user_id, key in stored.items()}

    def _new_key(self, user_id: str) -> StoredUserKey:
        key_id, key = secrets.token_hex(_ID_BYTES), secrets.token_bytes(KEY_BYTES)
        return StoredUserKey(user_id, key_id, self._masters.wrap(key, user_key_name(user_id, key_id)))

    def _cipher(self, key: StoredUserKey) -> tuple[str, AESGCM]:
        opened = self._masters.unwrap(key.wrapped, key.name)
        if len(opened) != KEY_BYTES:
            raise KeyDamaged(key.name, f"it does not have {KEY_BYTES} bytes")
        return key.key_id, AESGCM(opened)


def _encrypt(one: PlainTexts, key_id: str, cipher: AESGCM, writer: str) -> str:
    name, nonce = writer.encode(), secrets.token_bytes(NONCE_BYTES)
    ciphertext = cipher.encrypt(nonce, _encode(one.texts), _associated(one, key_id, writer))
    encrypted = _VERSION + bytes.fromhex(key_id) + nonce + bytes([len(name)]) + name + ciphertext
    return b64encode(encrypted).decode()


def _decrypt(one: Encrypted, key: tuple[str, AESGCM] | None) -> Texts | None:
    parts = _parts_of(one)
    if parts is not None:
        if key is None or key[0] != parts.key_id:
            return None
        try:
            return _decode(
                key[1].decrypt(parts.nonce, parts.ciphertext, _associated(one, parts.key_id, parts.writer))
            )
        except (InvalidTag, msgspec.MsgspecError):
            pass  # logged below
    _log.error(
        "the private texts of the command %s of %s do not open: they were changed; `stakelog audit verify` finds "
        "where. They are returned as null",
        one.command_id,
        one.user_id,
    )
    return None


def _parts_of(one: Encrypted) -> _Parts | None:
    try:
        octets = b64decode(one.text, validate=True)
        end = _WRITER_AT + 1 + octets[_WRITER_AT]
        writer = octets[_WRITER_AT + 1 : end].decode("ascii")
    except (ValueError, IndexError):
        return None
    if octets[:1] != _VERSION:
        return None
    return _Parts(octets[1 : 1 + _ID_BYTES].hex(), octets[1 + _ID_BYTES : _WRITER_AT], writer, octets[end:])


def _associated(one: PlainTexts | Encrypted, key_id: str, writer: str) -> bytes:
    # None of these has a space.
    return f"stakelog-private:1 {key_id} {writer} {one.user_id} {one.command_id}".encode()
