"""The keys of the service, under the master key that the settings name."""

from typing import Final

from api.composition.settings import SQLITE, Settings
from api.identity.key_store import KeyStore
from api.identity.keys import KeyRing, Keys, Rewrapped, refuse_other_master_key, rewrap_all
from api.identity.master_key import (
    MasterKeys,
    MasterKeyUnusable,
    make_master_key,
    new_master_key,
    parse_master_keys,
    read_master_keys,
    write_master_keys,
)
from api.identity.private import PrivateTexts
from ledger.errors import FolderUnusable
from ledger.files import MASTER_KEY
from ledger.ports import Clock
from ledger.sqlite.folder import FolderLock

_GIVE_ONE: Final = "set STAKELOG_MASTER_KEY_FILE to a file with 32 random bytes in base64"


def make_keys(store: KeyStore, masters: MasterKeys, clock: Clock) -> Keys:
    return Keys(KeyRing(store, masters, clock), PrivateTexts(store, masters))


async def master_keys_of(settings: Settings, store: KeyStore) -> MasterKeys | None:
    """The master key. An embedded service makes one where there are no keys yet. None: login is off, and nodes that
    share a log have none. Raises MasterKeyUnusable, FolderUnusable, IdentityUnavailable."""
    if settings.master_key is not None:
        return parse_master_keys(settings.master_key, "STAKELOG_MASTER_KEY")
    if settings.master_key_file is not None:
        return read_master_keys(settings.master_key_file, group_may_read=True)
    if settings.log != SQLITE:
        if settings.auth:
            raise MasterKeyUnusable(f"the nodes of one log share a master key: {_GIVE_ONE}, the same for each")
        return None
    path = settings.data / MASTER_KEY
    if not path.exists() and await store.master_ids():
        raise MasterKeyUnusable(
            f"{path} is missing, and the keys in the identity store are wrapped by it: restore the file, or "
            f"{_GIVE_ONE}. Without it private texts are lost"
        )
    return make_master_key(path)


async def replace_master_key(settings: Settings, store: KeyStore) -> tuple[Rewrapped, str]:
    """Wrap all keys by the first of the given master keys, or, where it is in the data folder, by a new one. Returns
    what was wrapped again, and the master key's id. Raises LedgerError; the next call then continues.

    In a data folder the file has both master keys until all keys are wrapped by the new one, so no key is ever lost.
    If a key is damaged, the file keeps both: the damaged key may be restored later.
    """
    if settings.master_key is not None or settings.master_key_file is not None or settings.log != SQLITE:
        masters = await master_keys_of(settings, store)
        if masters is None:
            raise MasterKeyUnusable(f"there is no master key: {_GIVE_ONE}")
        await refuse_other_master_key(store, masters)
        return await rewrap_all(store, masters), masters.id
    path = settings.data / MASTER_KEY
    lock = FolderLock(settings.data)
    try:
        masters = await master_keys_of(settings, store)
        assert masters is not None, "it is in the folder"
        await refuse_other_master_key(store, masters)
        if len(masters.ids) == 1:  # else the last call was interrupted
            write_master_keys(path, [new_master_key(), *path.read_text().split()], replace=True)
            masters = read_master_keys(path)
        done = await rewrap_all(store, masters)
        if not done.damaged:
            write_master_keys(path, path.read_text().split()[:1], replace=True)
        return done, masters.id
    except OSError as error:
        raise FolderUnusable(f"{path} cannot be replaced: {error.strerror}; it still opens all keys") from error
    finally:
        lock.release()
