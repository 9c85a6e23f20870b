"""What every ``KeyStore`` must do. An adapter passes if a subclass of ``KeyStoreContract`` passes.

The subclass has a fixture ``open_keys``: each call opens one more store on the same, at first empty, database.
"""

import asyncio
from collections.abc import Callable

from api.identity.key_store import KeyStore, StoredSigningKey, StoredUserKey
from api.identity.master_key import Wrapped

OpenKeyStore = Callable[[], KeyStore]

OLD, NEW = "0" * 16, "1" * 16
NOW = 1_795_000_000_000_000
FIRST = StoredSigningKey("receipt", 1, "k" * 43, "p" * 43, Wrapped(b"\x00sealed\xff", OLD), NOW)


def user_key(user_id: str, key_id: int = 1, master_id: str = OLD) -> StoredUserKey:
    return StoredUserKey(user_id, f"{key_id:032x}", Wrapped(b"\x00\xff" * 30, master_id))


class KeyStoreContract:
    """The tests; ``open_keys`` comes from the subclass."""

    async def test_a_signing_key_is_kept_as_it_was_added_and_its_number_is_taken_once(
        self, open_keys: OpenKeyStore
    ) -> None:
        here, there = open_keys(), open_keys()
        second = FIRST._replace(number=2, kid="l" * 43)
        token = FIRST._replace(purpose="token", kid="m" * 43)
        for key in (token, second, FIRST):
            assert await here.add_signing_key(key)
        assert not await there.add_signing_key(second._replace(kid="x" * 43))
        assert await there.signing_keys() == [FIRST, second, token]
        await there.delete_signing_key(token)
        assert await here.signing_keys() == [FIRST, second]

    async def test_a_user_has_one_key_if_several_add_it_at_once(self, open_keys: OpenKeyStore) -> None:
        stores = [open_keys() for _ in range(4)]
        await asyncio.gather(
            *(store.add_user_keys([user_key("u1", n), user_key(f"u{n + 2}")]) for n, store in enumerate(stores))
        )
        assert await stores[0].user_keys(["u1"]) == await stores[1].user_keys(["u1"])
        found = await stores[0].user_keys([f"u{n}" for n in range(1, 8)])
        assert sorted(found) == ["u1", "u2", "u3", "u4", "u5"]
        assert found["u2"] == user_key("u2")

    async def test_users_are_told_apart_byte_for_byte(self, open_keys: OpenKeyStore) -> None:
        store = open_keys()
        await store.add_user_keys([user_key("meera", 1), user_key("Meera", 2)])
        assert {name: int(key.key_id) for name, key in (await store.user_keys(["meera", "Meera"])).items()} == {
            "meera": 1,
            "Meera": 2,
        }

    async def test_a_batch_of_a_thousand_users_is_added_and_read(self, open_keys: OpenKeyStore) -> None:
        store, names = open_keys(), [f"u{n}" for n in range(1_000)]
        await store.add_user_keys([user_key(name) for name in names])
        assert sorted(await store.user_keys(names)) == sorted(names)
        assert await store.user_keys([]) == {}

    async def test_a_deleted_user_key_is_gone_and_a_new_one_may_follow(self, open_keys: OpenKeyStore) -> None:
        here, there = open_keys(), open_keys()
        await here.add_user_keys([user_key("u1"), user_key("u2")])
        assert await there.delete_user_key("u1")
        assert not await here.delete_user_key("u1")
        assert sorted(await here.user_keys(["u1", "u2"])) == ["u2"]
        await here.add_user_keys([user_key("u1", 9)])
        assert (await there.user_keys(["u1"]))["u1"].key_id == f"{9:032x}"

    async def test_keys_are_wrapped_again_unless_they_have_changed(self, open_keys: OpenKeyStore) -> None:
        store = open_keys()
        await store.add_signing_key(FIRST)
        await store.add_user_keys([user_key("u1"), user_key("u2"), user_key("u3", master_id=NEW)])
        assert await store.master_ids() == {OLD, NEW}
        users = await store.user_keys_wrapped_by_others(NEW, "")
        assert users == [user_key("u1"), user_key("u2")]
        assert await store.user_keys_wrapped_by_others(NEW, "u1") == [user_key("u2")]
        await store.delete_user_key("u1")
        later = user_key("u1", 2)._replace(wrapped=Wrapped(b"later", OLD))
        await store.add_user_keys([later])
        again = Wrapped(b"again", NEW)
        await store.rewrap([(FIRST, again), *((key, again) for key in users)])
        assert await store.user_keys_wrapped_by_others(NEW, "") == [later], "what was not read is not replaced"
        assert (await store.user_keys(["u2"]))["u2"] == user_key("u2")._replace(wrapped=Wrapped(b"again", NEW))
        assert await store.signing_keys() == [FIRST._replace(wrapped=Wrapped(b"again", NEW))]
