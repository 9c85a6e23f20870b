"""The keys of the service, under the master key that the settings name."""

from typing import Final

from api.composition.settings import SQLITE, Settings
from api.identity.key_store import KeyStore
from api.identity.keys import KeyRing, Keys
from api.identity.master_key import (
    MASTER_KEY,
    MasterKeys,
    MasterKeyUnusable,
    make_master_key,
    parse_master_keys,
    read_master_keys,
)
from api.identity.private import PrivateTexts
from ledger.ports import Clock

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
