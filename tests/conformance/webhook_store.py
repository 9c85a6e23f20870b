"""What every ``WebhookStore`` must do. An adapter passes if a subclass of ``WebhookStoreContract`` passes.

The subclass has a fixture ``open_webhooks``: each call opens one more store, and the store of its secrets, on the
same, at first empty, database.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from api.identity.key_store import KeyStore, StoredWebhookSecret
from api.identity.master_key import Wrapped
from api.webhooks.ports import ENDPOINTS_MAX, Claimed, Endpoint, Letter, Saved, StoredEndpoint, Totals, WebhookStore

OpenWebhookStore = Callable[[], tuple[WebhookStore, KeyStore]]

OLD, NEW = "0" * 16, "1" * 16
NOW = 1_795_000_000_000_000
SHOP = Endpoint("wh_1", "https://shop.example/hooks", ("deposited", "bet_settled"), 3_600, True, NOW)
CRM = Endpoint("wh_2", "https://crm.example/", None, 60, False, NOW + 1)


def secret(endpoint: Endpoint, number: int = 1) -> StoredWebhookSecret:
    return StoredWebhookSecret(endpoint.endpoint_id, number, Wrapped(b"\x00sealed\xff%d" % number, OLD))


def letter(seq: int, partition: int = 1, **members: Any) -> Letter:
    tried = Letter(partition, seq, "Meera", "deposited", NOW, 1, NOW + 1, NOW + 2, "status 500")
    return replace(tried, **members)


def saved(claim: int, seq: int, **members: Any) -> Saved:
    return Saved(1, claim, seq, (), (), ())._replace(**members)


class WebhookStoreContract:
    """The tests; ``open_webhooks`` comes from the subclass."""

    async def test_endpoints_are_kept_changed_and_deleted_with_all_that_they_have(
        self, open_webhooks: OpenWebhookStore
    ) -> None:
        (here, keys), (there, _) = open_webhooks(), open_webhooks()
        assert await here.endpoints() == []
        assert await here.add(CRM, secret(CRM), [0, 0])
        assert await here.add(SHOP, secret(SHOP), [7, 9])
        assert await there.endpoints() == [StoredEndpoint(SHOP, [secret(SHOP)]), StoredEndpoint(CRM, [secret(CRM)])]
        assert await there.totals() == {"wh_1": Totals(0, 0, [7, 9]), "wh_2": Totals(0, 0, [0, 0])}
        changed = replace(CRM, url="https://crm.example/2", types=("deposited",), give_up_s=90, enabled=True)
        assert await here.change(changed)
        assert not await here.change(replace(CRM, endpoint_id="wh_3"))
        assert (await there.endpoints())[1].endpoint == replace(changed, revision=2), (
            "a change is seen by its revision"
        )
        claimed = await here.claim("wh_1", 1, 10)
        assert claimed == Claimed(1, 9, [], False, [])
        assert await here.save("wh_1", [saved(1, 9, waiting=[letter(8)])]) == set()
        assert await there.delete("wh_1")
        assert not await there.delete("wh_1")
        assert await here.totals() == {"wh_2": Totals(0, 0, [0, 0])}
        assert await here.claim("wh_1", 1, 10) is None
        assert [one.endpoint_id for one in await keys.webhook_secrets()] == ["wh_2"]
        assert await here.save("wh_1", [saved(1, 10)]) == {1}, "a sender that has not heard of it saves nothing"

    async def test_there_is_a_bound_on_endpoints(self, open_webhooks: OpenWebhookStore) -> None:
        store, _ = open_webhooks()
        many = [replace(SHOP, endpoint_id=f"wh_{number}") for number in range(ENDPOINTS_MAX + 1)]
        assert [await store.add(one, secret(one), [0]) for one in many] == [True] * ENDPOINTS_MAX + [False]
        assert len(await store.endpoints()) == ENDPOINTS_MAX

    async def test_two_secrets_sign_after_a_rotation_and_all_can_be_wrapped_again(
        self, open_webhooks: OpenWebhookStore
    ) -> None:
        (here, keys), (there, _) = open_webhooks(), open_webhooks()
        await here.add(SHOP, secret(SHOP), [0])
        done = await asyncio.gather(*(one.rotate(secret(SHOP, 2), 1, NOW + 5) for one in (here, there)))
        assert sorted(done) == [False, True], "one of two rotations at the same time"
        assert await here.rotate(secret(SHOP, 3), 2, NOW + 6)
        assert not await here.rotate(secret(CRM, 2), 1, NOW)
        ((endpoint, secrets),) = await there.endpoints()
        assert secrets == [secret(SHOP, 2)._replace(until_us=NOW + 6), secret(SHOP, 3)]
        assert endpoint.revision > SHOP.revision + 1, "senders learn of it by the revision"
        assert await keys.master_ids() == {OLD}
        again = [(one, Wrapped(b"again", NEW)) for one in await keys.webhook_secrets()]
        await keys.rewrap([again[0], (again[1][0]._replace(wrapped=Wrapped(b"changed", OLD)), again[1][1])])
        assert [one.wrapped for one in await keys.webhook_secrets()] == [
            Wrapped(b"again", NEW),
            secret(SHOP, 3).wrapped,
        ]
        assert await keys.master_ids() == {OLD, NEW}

    async def test_only_who_claimed_a_partition_last_saves_it(self, open_webhooks: OpenWebhookStore) -> None:
        (here, _), (there, _) = open_webhooks(), open_webhooks()
        await here.add(SHOP, secret(SHOP), [3, 3])
        assert await here.claim("wh_1", 1, 10) == Claimed(1, 3, [], False, [])
        kept = [letter(4), letter(5, attempts=0, first_at_us=0, next_at_us=0, error="", user_id="meera")]
        assert await here.save("wh_1", [saved(1, 6, waiting=kept)]) == set()
        assert await there.claim("wh_1", 1, 10) == Claimed(2, 6, kept, False, [])
        assert await here.save("wh_1", [saved(1, 7, delivered=[4]), saved(0, 4)._replace(partition=0)]) == {1}
        again = replace(kept[0], attempts=2, error="status 502")
        assert await there.save("wh_1", [saved(2, 8, waiting=[again], delivered=[5])]) == set()
        assert await here.claim("wh_1", 1, 10) == Claimed(3, 8, [again], False, [])
        assert await here.save("wh_1", [saved(3, 8, dead=[again])]) == set()
        assert await here.claim("wh_1", 1, 10) == Claimed(4, 8, [], False, []), (
            "a dead letter waits for a replay only"
        )
        assert await there.totals() == {"wh_1": Totals(0, 1, [4, 8])}
        assert await here.save("wh_1", [saved(4, 8, waiting=[letter(12)], dead=[letter(10)])]) == set()
        assert await there.claim("wh_1", 1, 10) == Claimed(5, 8, [letter(12)], False, [10, 12]), (
            "letters after the cursor are named, dead ones too"
        )

    async def test_dead_letters_are_listed_by_position_and_replayed(self, open_webhooks: OpenWebhookStore) -> None:
        store, _ = open_webhooks()
        await store.add(SHOP, secret(SHOP), [0, 0])
        await store.add(CRM, secret(CRM), [0, 0])
        for partition in range(2):
            for endpoint_id in ("wh_1", "wh_2"):
                claimed = await store.claim(endpoint_id, partition, 10)
                assert claimed is not None
                dead = [letter(seq, partition) for seq in range(1, 300)]
                await store.save(endpoint_id, [saved(claimed.claim, 299, dead=dead)._replace(partition=partition)])
        assert await store.dead_letters("wh_1", None, 2) == [letter(1, 0), letter(2, 0)]
        assert await store.dead_letters("wh_1", (0, 298), 2) == [letter(299, 0), letter(1, 1)]
        assert await store.revive("wh_1", {(0, 2), (1, 7), (1, 999)}, NOW + 9) == 2
        assert await store.claim("wh_1", 1, 10) == Claimed(
            3, 299, [letter(7, attempts=0, first_at_us=0, next_at_us=NOW + 9, error="")], False, []
        ), "the claim before it is void, so that its sender reads them"
        assert await store.revive("wh_1", None, NOW) == 596
        claimed = await store.claim("wh_1", 1, 10)
        assert claimed is not None
        assert ([one.seq for one in claimed.letters], claimed.more) == ([*range(1, 11)], True)
        assert await store.totals() == {"wh_1": Totals(598, 0, [299, 299]), "wh_2": Totals(0, 598, [299, 299])}

    async def test_a_replay_sets_cursors_back_and_deletes_the_letters_after_them(
        self, open_webhooks: OpenWebhookStore
    ) -> None:
        store, _ = open_webhooks()
        await store.add(SHOP, secret(SHOP), [50, 0])
        claimed = await store.claim("wh_1", 1, 10)
        assert claimed is not None
        await store.save("wh_1", [saved(1, 60, waiting=[letter(9), letter(11)], dead=[letter(8), letter(10)])])
        assert await store.rewind("wh_1", {1: 10, 0: 51})
        assert not await store.rewind("wh_3", {1: 10})
        assert await store.save("wh_1", [saved(1, 61)]) == {1}, "who sent before cannot undo it"
        assert await store.totals() == {"wh_1": Totals(1, 1, [50, 9])}
        assert await store.rewind("wh_1", {0: 70}), "a partition that has not got so far"
        assert (await store.totals())["wh_1"].cursors == [50, 9]
