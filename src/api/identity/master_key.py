"""The master key: it wraps the keys in the identity store, which are useless without it.

It is 32 random bytes in base64, from ``STAKELOG_MASTER_KEY``, from the file ``STAKELOG_MASTER_KEY_FILE``, or from
``master.key`` in the data folder, which the first start of an embedded service makes. Each may have several keys, one
a line or separated by commas: the first wraps, the others only unwrap what they wrapped. So a master key is replaced
while services run: see ``docs/private-data.md``.

Invariants:
(1) what is wrapped names the master key that wrapped it, by ``MasterKey.id``;
(2) it opens only with the same *name*: a wrapped key cannot be given to another user, or used for another purpose;
(3) a file that others on the machine can read is refused.
"""

import binascii
import os
import secrets
import stat
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ledger.errors import FolderUnusable, LedgerError
from ledger.files import MASTER_KEY, sync

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""Of AES-GCM, at random: 2^32 messages under one key are allowed (NIST SP 800-38D). No user has as many commands."""


class MasterKeyUnusable(LedgerError):
    """There is no master key, or it is not one, or others can read it, or it is not the one that wrapped the keys."""


class KeyDamaged(MasterKeyUnusable):
    """A key in the store was changed, or is not whole."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"the key {name} in the identity store is damaged: {reason}. Restore the store from a backup"
        )
        self.name = name


class Wrapped(NamedTuple):
    """A key as the store keeps it."""

    ciphertext: bytes
    """Nonce and AES-256-GCM's output."""
    master_id: str


class _MasterKey(NamedTuple):
    id: str
    cipher: AESGCM


class MasterKeys:
    """The master key, and former ones that still unwrap."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        assert keys, "there is a master key"
        assert all(len(key) == KEY_BYTES for key in keys), "a master key has 32 bytes"
        named = [_MasterKey(sha256(b"stakelog-master-key:" + key).hexdigest()[:16], AESGCM(key)) for key in keys]
        self._first = named[0]
        self._by_id = {key.id: key for key in named}

    @property
    def id(self) -> str:
        """Of the key that wraps: a part of its hash, which tells nothing else about it."""
        return self._first.id

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._by_id)

    def wrap(self, key: bytes, name: str) -> Wrapped:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return Wrapped(nonce + self._first.cipher.encrypt(nonce, key, name.encode()), self._first.id)

    def unwrap(self, wrapped: Wrapped, name: str) -> bytes:
        """Raises MasterKeyUnusable, KeyDamaged."""
        master = self._by_id.get(wrapped.master_id)
        if master is None:
            raise wrong_master_key({wrapped.master_id}, self)
        nonce, encrypted = wrapped.ciphertext[:NONCE_BYTES], wrapped.ciphertext[NONCE_BYTES:]
        try:
            return master.cipher.decrypt(nonce, encrypted, name.encode())
        except (InvalidTag, ValueError):
            raise KeyDamaged(name, f"it does not open under the master key {master.id}") from None


def wrong_master_key(needed: set[str], given: MasterKeys) -> MasterKeyUnusable:
    """The keys in the store are wrapped by others than the given ones."""
    return MasterKeyUnusable(
        f"the keys in the identity store are wrapped by the master key {', '.join(sorted(needed))}, and the "
        f"given one is {', '.join(sorted(given.ids))}: give the one that wrapped them (STAKELOG_MASTER_KEY, "
        f"STAKELOG_MASTER_KEY_FILE, or {MASTER_KEY} in the data folder)"
    )


def parse_master_keys(text: str, source: str) -> MasterKeys:
    """``source`` names the setting or the file in the message; the text is never in it. Raises MasterKeyUnusable."""
    keys = []
    for line in text.replace(",", "\n").split():
        try:
            key = b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise MasterKeyUnusable(
                f"{source} has no master key: write {KEY_BYTES} random bytes in base64, as "
                "`head -c 32 /dev/urandom | base64` prints them"
            )
        keys.append(key)
    if not keys:
        raise MasterKeyUnusable(f"{source} is empty: it must have {KEY_BYTES} random bytes in base64")
    return MasterKeys(keys)


def read_master_keys(path: Path, *, group_may_read: bool = False) -> MasterKeys:
    """``group_may_read``: for a file that a secret store mounts. Raises MasterKeyUnusable."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & (0o037 if group_may_read else 0o077):
                raise MasterKeyUnusable(f"others may read the master key: run `chmod 600 {path}`")
            text = file.read().decode("ascii", "replace")
    except OSError as error:
        raise MasterKeyUnusable(f"the master key in {path} cannot be read: {error.strerror}") from error
    return parse_master_keys(text, str(path))


def new_master_key() -> str:
    """In base64."""
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def make_master_key(path: Path) -> MasterKeys:
    """Make the file durably with a new key, or read the one that another process made first. Raises
    MasterKeyUnusable, FolderUnusable."""
    if not path.exists():
        try:
            write_master_keys(path, [new_master_key()], replace=False)
        except OSError as error:
            raise FolderUnusable(f"the master key cannot be made in {path.parent}: {error.strerror}") from error
    return read_master_keys(path)


def write_master_keys(path: Path, keys: Sequence[str], *, replace: bool) -> None:
    """Write the file as a whole and durably, readable to this user only. Raises OSError.

    ``replace=False``: a file that is there stays as it is.
    """
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, "".join(f"{key}\n" for key in keys).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if replace:
            new.replace(path)
        elif not path.exists():
            _link(new, path)
    finally:
        new.unlink(missing_ok=True)
    sync(path.parent)


def _link(new: Path, path: Path) -> None:
    try:
        os.link(new, path)
    except FileExistsError:
        return  # another process was first
