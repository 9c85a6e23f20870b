"""What every ``IdentityStore`` must do. An adapter passes if a subclass of ``IdentityStoreContract`` passes.

The subclass has a fixture ``open_store``: each call opens one more store on the same, at first empty, database.
"""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from api.identity.identity import ADMIN, GAME_SERVER, OPERATOR
from api.identity.ports import (
    ChangedBy,
    Client,
    Family,
    Grace,
    IdentityStore,
    LastAdmin,
    Refresh,
    Reused,
    secret_id_of,
)

OpenIdentityStore = Callable[[], IdentityStore]

NOW, LATER, END = 1_795_000_000_000_000, 1_795_000_900_000_000, 1_795_900_000_000_000
PUBLIC_KEY = "MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
NARROWED = Client(
    "games", GAME_SERVER, "$argon2id$1", NOW, ("wingo_1m", "k3_1m"), ("place_bet",), secret_since_us=NOW
)
GAMES = replace(NARROWED, public_key=PUBLIC_KEY)
MEERA = Client("meera", OPERATOR, "$argon2id$2", NOW, secret_since_us=NOW)
FAMILY = Family("f1", "games", None, NOW, secret_id_of(GAMES.secret_hash))
OF_PLAYER = Family("f2", "games", "u1", NOW)
GRACE, NO_GRACE = Grace(LATER, LATER, NOW), Grace(NOW, LATER, NOW)


def refresh(number: int, handle: str = "h") -> Refresh:
    return Refresh(handle.rjust(64, "0"), str(number).rjust(64, "0"))


async def spend(store: IdentityStore, number: int, now_us: int = NOW) -> tuple[Family, Client] | Reused | None:
    return await store.spend(refresh(number), refresh(number + 1), now_us, END, LATER)


class IdentityStoreContract:
    """The tests; ``open_store`` comes from the subclass."""

    async def test_a_client_is_kept_as_it_was_added(self, open_store: OpenIdentityStore) -> None:
        here, there = open_store(), open_store()
        assert await here.clients() == []
        assert await here.client("games") is None
        assert await here.add_client(MEERA)
        assert await here.add_client(GAMES)
        assert await there.clients() == [GAMES, MEERA]
        assert await there.client("games") == GAMES
        assert await there.client("GAMES") is None, "ids are compared byte for byte"

    async def test_an_id_is_taken_once(self, open_store: OpenIdentityStore) -> None:
        store = open_store()
        assert await store.add_client(GAMES)
        assert not await store.add_client(replace(MEERA, client_id="games"))
        assert await store.add_client(replace(MEERA, client_id="Games")), "an id in other letters is another id"
        assert await store.client("games") == GAMES

    async def test_a_rotation_keeps_the_secret_before_it_for_a_time(self, open_store: OpenIdentityStore) -> None:
        store = open_store()
        await store.add_client(GAMES)
        assert await store.rotate("games", "$argon2id$new", NOW + 5, GRACE)
        assert await store.client("games") == replace(
            GAMES,
            secret_hash="$argon2id$new",  # noqa: S106
            secret_since_us=NOW + 5,
            old_secret_hash=GAMES.secret_hash,
            old_secret_until_us=LATER,
        )
        assert not await store.rotate("unknown", "$argon2id$new", NOW, NO_GRACE)

    async def test_a_rotation_with_a_grace_revokes_nothing(self, open_store: OpenIdentityStore) -> None:
        store = open_store()
        await store.add_client(GAMES)
        assert await store.begin(FAMILY, refresh(1), END)
        assert await store.rotate("games", "$argon2id$new", NOW, GRACE)
        assert await store.begin(FAMILY._replace(family="f2"), refresh(1, "other"), END), "until the grace ends"
        assert not await store.begin(FAMILY._replace(created_at_us=LATER), refresh(1, "late"), END)
        assert isinstance(await spend(store, 1), tuple)
        assert await store.revocations(0) == []

    async def test_a_rotation_without_grace_revokes_all_families_of_the_client_and_no_other(
        self, open_store: OpenIdentityStore
    ) -> None:
        here, there = open_store(), open_store()
        await here.add_client(GAMES)
        await here.add_client(MEERA)
        assert await here.begin(FAMILY, refresh(1), END)
        assert await here.begin(OF_PLAYER, refresh(1, "player"), END, "f1")
        assert await here.begin(FAMILY._replace(family="f3"), refresh(1, "unused"), NOW + 1), (
            "no access token is left"
        )
        meera = Family("f4", "meera", None, NOW, secret_id_of(MEERA.secret_hash))
        assert await here.begin(meera, refresh(1, "meera"), END)
        assert await there.rotate("games", "$argon2id$new", NOW, Grace(NOW, LATER, NOW + 1))
        assert await spend(here, 1) is None
        for name, left in (("player", None), ("unused", None), ("meera", (meera, MEERA))):
            assert await here.spend(refresh(1, name), refresh(2, name), NOW, END, LATER) == left, name
        revoked = await here.revocations(0)
        first, second = (one.number for one in revoked)
        assert second == first + 1
        assert {(one.client_id, one.family) for one in revoked} == {(None, "f1"), (None, "f2")}
        assert not await here.begin(FAMILY._replace(family="f5"), refresh(1, "new"), END), "the secret is replaced"
        assert not await here.begin(OF_PLAYER._replace(family="f6"), refresh(1, "new"), END, "f1")
        assert await here.spend(refresh(1, "new"), refresh(2, "new"), NOW, END, LATER) is None, (
            "nothing is left of it"
        )

    async def test_of_a_rotation_and_logins_at_the_same_time_no_family_of_the_old_secret_is_left(
        self, open_store: OpenIdentityStore
    ) -> None:
        here, there = open_store(), open_store()
        await here.add_client(GAMES)
        await asyncio.gather(
            *(
                (here, there)[n % 2].begin(FAMILY._replace(family=f"f{n}"), refresh(1, f"h{n}"), END)
                for n in range(8)
            ),
            there.rotate("games", "$argon2id$new", NOW, NO_GRACE),
        )
        left = [await here.spend(refresh(1, f"h{n}"), refresh(2, f"h{n}"), NOW, END, LATER) for n in range(8)]
        assert left == [None] * 8

    async def test_a_disabled_client_stays_listed_and_has_no_tokens(self, open_store: OpenIdentityStore) -> None:
        store = open_store()
        await store.add_client(GAMES)
        await store.begin(FAMILY, refresh(1), END)
        assert await store.disable("games", NOW + 7, LATER)
        assert await store.disable("games", NOW + 9, LATER), "a second time changes nothing"
        assert not await store.disable("unknown", NOW, LATER)
        assert await store.clients() == [replace(GAMES, disabled_at_us=NOW + 7)]
        assert not await store.rotate("games", "$argon2id$new", NOW, NO_GRACE)
        assert not await store.add_client(GAMES)
        assert await spend(store, 1) is None
        assert [(one.client_id, one.family) for one in await store.revocations(0)] == [("games", None)]

    async def test_a_change_of_a_client_and_who_made_it_are_stored_together(
        self, open_store: OpenIdentityStore
    ) -> None:
        here, there = open_store(), open_store()
        asha, root = ChangedBy("asha@host", "machine"), ChangedBy("root", "http")
        await here.add_client(GAMES, asha)
        assert not await here.add_client(GAMES, root)
        assert not await there.rotate("unknown", "$argon2id$new", NOW, NO_GRACE, root)
        assert await there.rotate("games", "$argon2id$new", NOW + 1, NO_GRACE, root)
        assert await here.rotate("games", "$argon2id$more", NOW + 2, GRACE, root)
        for _ in range(2):  # the second time nothing is done
            assert await there.disable("games", NOW + 3, LATER, asha)
        changes = await here.changes(0)
        assert [(one.at_us - NOW, one.what, one.client_id, one.by, one.origin) for one in changes] == [
            (GAMES.created_at_us - NOW, "added", "games", *asha),
            (1, "rotated", "games", *root),
            (2, "rotated", "games", *root),
            (3, "disabled", "games", *asha),
        ]
        assert [one.number for one in changes] == sorted({one.number for one in changes})
        assert await here.changes(changes[1].number) == changes[2:]
        await here.delete_expired(LATER + 10**15)
        assert await here.changes(0) == changes, "an audit trail does not expire"

    async def test_one_admin_stays_enabled(self, open_store: OpenIdentityStore) -> None:
        stores = [open_store(), open_store()]
        names = ["admin-1", "admin-2"]
        for name in names:
            await stores[0].add_client(replace(GAMES, client_id=name, role=ADMIN))
        done = await asyncio.gather(
            *(store.disable(name, NOW, LATER) for store, name in zip(stores, names, strict=True)),
            return_exceptions=True,
        )
        (refused,) = (one for one in done if isinstance(one, BaseException))
        assert isinstance(refused, LastAdmin)
        assert len([one for one in await stores[0].clients() if one.disabled_at_us is None]) == 1
        assert len(await stores[0].revocations(0)) == 1

    async def test_a_refresh_token_is_replaced_by_the_next_one(self, open_store: OpenIdentityStore) -> None:
        here, there = open_store(), open_store()
        await here.add_client(GAMES)
        await here.begin(Family("f1", "games", "u1", NOW), refresh(1), END)
        assert await spend(here, 1) == (Family("f1", "games", "u1", NOW), GAMES)
        assert await spend(there, 2) == (Family("f1", "games", "u1", NOW), GAMES)
        assert await here.revocations(0) == []

    async def test_a_spent_token_revokes_its_family(self, open_store: OpenIdentityStore) -> None:
        store = open_store()
        await store.add_client(GAMES)
        await store.begin(FAMILY, refresh(1), END)
        await store.begin(FAMILY._replace(family="f2"), refresh(1, "other"), END)
        await spend(store, 1)
        await spend(store, 2)
        assert await spend(store, 1) == Reused("f1", "games"), "spent two tokens ago"
        assert await spend(store, 3) is None, "the token that was not spent is revoked too"
        assert await spend(store, 2) == Reused("f1", "games")
        (revoked,) = await store.revocations(0)
        assert (revoked.client_id, revoked.family) == (None, "f1")
        other = await store.spend(refresh(1, "other"), refresh(2, "other"), NOW, END, LATER)
        assert other == (FAMILY._replace(family="f2"), GAMES)

    async def test_of_concurrent_uses_of_one_token_exactly_one_succeeds(self, open_store: OpenIdentityStore) -> None:
        stores = [open_store(), open_store()]
        await stores[0].add_client(GAMES)
        await stores[0].begin(FAMILY, refresh(0), END)
        found = await asyncio.gather(
            *(stores[number % 2].spend(refresh(0), refresh(number), NOW, END, LATER) for number in range(1, 9))
        )
        assert sum(isinstance(one, tuple) and not isinstance(one, Reused) for one in found) == 1
        assert found.count(Reused("f1", "games")) == 7
        assert [one.family for one in await stores[0].revocations(0)] == ["f1"], "it is revoked once"

    async def test_an_expired_or_unknown_token_is_refused_and_revokes_nothing(
        self, open_store: OpenIdentityStore
    ) -> None:
        store = open_store()
        await store.add_client(GAMES)
        await store.begin(FAMILY, refresh(1), END)
        assert await spend(store, 1, now_us=END) is None
        assert await store.spend(refresh(1, "unknown"), refresh(2, "unknown"), NOW, END, LATER) is None
        assert await store.revocations(0) == []
        assert await spend(store, 1, now_us=END - 1) == (FAMILY, GAMES)

    async def test_a_logout_revokes_the_family_by_any_of_its_tokens(self, open_store: OpenIdentityStore) -> None:
        store = open_store()
        await store.add_client(GAMES)
        await store.begin(FAMILY, refresh(1), END)
        await spend(store, 1)
        assert await store.revoke(refresh(1), NOW, LATER) == "f1"
        assert await store.revoke(refresh(2), NOW, LATER) == "f1"
        assert await store.revoke(refresh(2, "unknown"), NOW, LATER) is None
        assert await spend(store, 2) is None
        assert len(await store.revocations(0)) == 1

    async def test_revocations_are_read_in_order_from_any_number_on(self, open_store: OpenIdentityStore) -> None:
        stores = [open_store(), open_store()]
        names = [f"client-{number}" for number in range(8)]
        for name in names:
            await stores[0].add_client(replace(GAMES, client_id=name))
        await asyncio.gather(*(stores[number % 2].disable(name, NOW, LATER) for number, name in enumerate(names)))
        found = await stores[1].revocations(0)
        numbers = [one.number for one in found]
        assert numbers == sorted(set(numbers)), "each has a number of its own, also those made at once"
        assert sorted(str(one.client_id) for one in found) == names
        assert await stores[0].revocations(numbers[4]) == found[5:]

    async def test_what_has_expired_is_deleted_and_numbers_go_on(self, open_store: OpenIdentityStore) -> None:
        store = open_store()
        await store.add_client(GAMES)
        await store.begin(FAMILY, refresh(1), END)
        await store.revoke(refresh(1), NOW, LATER)
        await store.delete_expired(LATER - 1)
        (first,) = await store.revocations(0)
        await store.delete_expired(END)
        assert await store.revocations(0) == []
        assert await store.revoke(refresh(1), NOW, LATER) is None
        await store.begin(FAMILY, refresh(1), END)
        await store.revoke(refresh(1), NOW, LATER)
        (second,) = await store.revocations(0)
        assert second.number > first.number
        assert await store.revocations(first.number) == [second]
