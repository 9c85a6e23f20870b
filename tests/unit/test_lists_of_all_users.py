"""Lists of all users' items: the queues of orders and adjustments, page by page while events arrive."""

from pathlib import Path
from typing import Any

import pytest

from ledger.core.position import PARTITIONS_MAX, partition_of
from projections.models import orders
from projections.reads.cursors import CURSOR_MAX, write_cursor
from projections.tables.all_users import CHANGES_MAX
from projections.tables.queries import CLOCKS_DIFFER_US, Cursor
from unit.api_in_memory import InMemoryApi
from unit.given import (
    SECOND_US,
    approve_withdrawal,
    deposit,
    open_wallet,
    propose_adjustment,
    reject_adjustment,
    reject_withdrawal,
    request_withdrawal,
)

LAST_US = 2**53 - 1


def snapshot(changes: list[list[tuple[int, int, int]]], unfolded_us: int | None = None) -> tuple[int, ...]:
    """Of a first page whose first order was made at 0 in partition 0."""
    first = (0, *("",) * 8, 1, 0, None, None)
    return orders.LIST.snapshot(changes, first, unfolded_us)


# --- cursors ----------------------------------------


def test_a_cursor_has_at_most_512_characters_with_1024_partitions() -> None:
    changes = [[(number, 2**53 - 1 - number, LAST_US) for number in range(PARTITIONS_MAX)]]
    numbers = snapshot(changes)
    assert numbers[0] == 1, "not all of them fit"
    assert orders.LIST.is_snapshot({"status": "pending"}, numbers)
    cursor = Cursor((LAST_US, PARTITIONS_MAX - 1, 2**53 - 1), numbers)
    assert len(write_cursor(("orders", "", {"status": "pending"}), cursor)) <= CURSOR_MAX == 512


def test_a_cursor_names_the_last_change_of_each_partition_that_the_first_page_knew() -> None:
    since_us = 1_000 * SECOND_US - CLOCKS_DIFFER_US
    changes = [[(3, 9, 1_000 * SECOND_US), (3, 7, since_us), (1, 2, since_us - 1)], [(2, 5, since_us)]]
    assert snapshot(changes) == (0, since_us, 2, 5, 3, 9)


def test_a_cursor_begins_at_the_oldest_event_that_is_known_and_not_folded() -> None:
    assert snapshot([[(3, 9, 1_000 * SECOND_US)]], unfolded_us=5) == (0, 5, 3, 9)


def test_a_cursor_is_approximate_if_more_changed_than_a_first_page_reads() -> None:
    assert snapshot([[(3, 9 + number, SECOND_US) for number in range(CHANGES_MAX)]])[0] == 1
    assert snapshot([[(3, 9 + number, SECOND_US) for number in range(CHANGES_MAX - 1)]])[0] == 0


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({}, (0, 1)),
        ({"status": "pending"}, ()),
        ({"status": "pending"}, (0,)),
        ({"status": "pending"}, (0, 1, 2)),
        ({"status": "pending"}, (0, 1) * 40),
    ],
)
async def test_a_cursor_with_another_snapshot_is_malformed(
    tmp_path: Path, filters: dict[str, Any], numbers: tuple[int, ...]
) -> None:
    forged = write_cursor(("orders", "", filters), Cursor((1, 1, 1), numbers[:56]))
    status = "&status=pending" if filters else ""
    async with InMemoryApi(tmp_path) as api_client:
        if len(numbers) <= 56:
            answer = await api_client.get(f"/v1/orders?cursor={forged}{status}")
            assert (answer.status, answer.json()["field"]) == (400, "cursor")
        else:
            assert not orders.LIST.is_snapshot(filters, numbers)


# --- pages ----------------------------------------

USERS = tuple(f"u{number}" for number in range(8))


async def queue(
    api_client: InMemoryApi, path: str, cursor: str | None = None, limit: int = 3
) -> tuple[list[str], str | None]:
    more = "" if cursor is None else f"&cursor={cursor}"
    page = (await api_client.get(f"{path}&limit={limit}{more}")).json()
    return [item.get("order_id") or item["adjustment_id"] for item in page["items"]], page["next_cursor"]


async def rest(api_client: InMemoryApi, path: str, cursor: str | None) -> list[str]:
    found: list[str] = []
    while cursor is not None:
        items, cursor = await queue(api_client, path, cursor)
        found += items
    return found


@pytest.mark.parametrize("partitions", [1, 4, 300])
@pytest.mark.system
async def test_a_queue_has_what_was_pending_at_the_first_page_while_withdrawals_are_decided(
    tmp_path: Path, partitions: int
) -> None:
    async with InMemoryApi(tmp_path, partitions) as api_client:
        for number, user_id in enumerate(USERS):
            await api_client.world.given(open_wallet(user_id), deposit(100, f"d{number}", user_id=user_id))
            api_client.world.clock.now_us += 1
            await api_client.world.given(request_withdrawal(1, f"w{number}", user_id=user_id))
        await api_client.world.given(approve_withdrawal("w1", user_id="u1"), reject_withdrawal("w3", user_id="u3"))
        await api_client.fold()
        pending, approved = "/v1/orders?status=pending", "/v1/orders?kind=withdrawal&status=approved"
        first, cursor = await queue(api_client, pending)
        of_approved, next_approved = await queue(api_client, approved, limit=1)
        assert (first, of_approved, next_approved) == (["w7", "w6", "w5"], ["w1"], None)
        await api_client.world.given(approve_withdrawal("w2", user_id="u2"), reject_withdrawal("w7", user_id="u7"))
        await api_client.world.given(request_withdrawal(1, "new", user_id="u0"))
        await api_client.fold()
        assert await rest(api_client, pending, cursor) == ["w4", "w2", "w0"]
        first, cursor = await queue(api_client, approved, limit=1)
        assert first == ["w2"]
        await api_client.world.given(approve_withdrawal("w0", user_id="u0"))
        await api_client.fold()
        assert await rest(api_client, approved, cursor) == ["w1"]


async def test_a_queue_of_adjustments_has_what_was_proposed_at_the_first_page(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path) as api_client:
        for number, user_id in enumerate(USERS):
            api_client.world.clock.now_us += 1
            await api_client.world.given(open_wallet(user_id), propose_adjustment(1, f"a{number}", user_id=user_id))
        await api_client.world.given(reject_adjustment("a2", user_id="u2"))
        await api_client.fold()
        first, cursor = await queue(api_client, "/v1/adjustments?status=proposed", limit=5)
        assert first == ["a7", "a6", "a5", "a4", "a3"]
        await api_client.world.given(reject_adjustment("a1", user_id="u1"), reject_adjustment("a4", user_id="u4"))
        await api_client.fold()
        assert await rest(api_client, "/v1/adjustments?status=proposed", cursor) == ["a1", "a0"]


async def test_a_decision_by_a_clock_that_is_a_minute_behind_skips_no_order(tmp_path: Path) -> None:
    """The clocks of two writers differ by less than ``CLOCKS_DIFFER_US``; the reader's clock is a day ahead."""
    async with InMemoryApi(tmp_path) as api_client:
        behind = USERS[0]
        ahead = next(user_id for user_id in USERS if partition_of(user_id, 4) != partition_of(behind, 4))
        await api_client.world.given(open_wallet(behind), deposit(100, user_id=behind), open_wallet(ahead))
        await api_client.world.given(deposit(100, user_id=ahead), request_withdrawal(1, "w0", user_id=behind))
        start_us = api_client.world.clock.now_us
        api_client.world.clock.now_us += CLOCKS_DIFFER_US - 1
        await api_client.world.given(request_withdrawal(1, "w1", user_id=ahead))
        api_client.world.clock.now_us = start_us + 86_400 * SECOND_US
        await api_client.fold()
        first, cursor = await queue(api_client, "/v1/orders?status=pending", limit=1)
        assert first == ["w1"]
        api_client.world.clock.now_us = start_us
        await api_client.world.given(approve_withdrawal("w0", user_id=behind))
        await api_client.fold()
        assert await rest(api_client, "/v1/orders?status=pending", cursor) == ["w0"]


async def test_a_cursor_has_at_most_512_characters_whatever_the_queue_has(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 64) as api_client:
        users = [f"user-{number}" for number in range(150)]
        await api_client.world.given(*(open_wallet(user_id) for user_id in users))
        await api_client.world.given(*(deposit(100, user_id=user_id) for user_id in users))
        await api_client.world.given(*(request_withdrawal(1, "w", user_id=user_id) for user_id in users))
        await api_client.world.given(*(approve_withdrawal("w", user_id=user_id) for user_id in users[:100]))
        await api_client.fold()
        found: list[str] = []
        cursor = ""
        while True:
            page = (await api_client.get(f"/v1/orders?status=pending&limit=7{cursor}")).json()
            found += [item["user_id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            assert len(page["next_cursor"]) <= CURSOR_MAX
            cursor = f"&cursor={page['next_cursor']}"
        assert len(found) == len(set(found))
        assert set(found) >= set(users[100:])
