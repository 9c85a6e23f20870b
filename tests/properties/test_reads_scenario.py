"""The logs of the comparison of reads: their contents, and that the reference model reads them correctly."""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import pytest

from ledger.core.events import DATA_OF
from properties.naive_reads import (
    BET_STATUSES,
    ORDER_STATUSES,
    Doc,
    Event,
    NaiveReads,
    NotFound,
    every_queue,
    every_read,
)
from properties.reads_scenario import MAYFLY, NEVER_OPENED, USERS, WHALE, Scenario, make_scenario
from properties.scenarios import seen
from unit.node_in_memory import World

SEEDS: Final = range(8)


@lru_cache
def scenario(seed: int) -> Scenario:
    return make_scenario(seed)


@lru_cache
def reads_of(seed: int) -> NaiveReads:
    return NaiveReads(scenario(seed).records)


def everything(*names: str) -> Iterator[Doc]:
    """Each item and document of those reads, of all wallets in all scenarios."""
    for seed in SEEDS:
        reads = reads_of(seed)
        for user_id in USERS:
            for name in names:
                answer = getattr(reads, name)(user_id)
                if not isinstance(answer, NotFound):
                    yield from answer.get("items", [answer])


def events() -> Iterator[Any]:
    return (event for seed in SEEDS for event in reads_of(seed).events)


# --- what is in them -----------------------------------------------------------------------------------------------


@pytest.mark.system
def test_a_seed_always_makes_the_same_scenario() -> None:
    assert make_scenario(5) == scenario(5)
    assert make_scenario(6) != scenario(5)


@pytest.mark.system
def test_its_records_are_those_of_all_partitions_by_time_and_all_are_events() -> None:
    for seed in SEEDS:
        records = scenario(seed).records
        assert sorted(records) == sorted(record for records in scenario(seed).partitions for record in records)
        assert len(reads_of(seed).events) == len(records)
        times = [event["time_us"] for event in reads_of(seed).events]
        assert times == sorted(times)
        assert len(set(times)) < len(times) / 2


def test_it_has_the_requested_length_and_number_of_partitions() -> None:
    many = make_scenario(1, commands=700, partitions=5)
    assert len(many.partitions) == 5
    assert 350 < len(many.records) < 1_600
    assert sum(bool(records) for records in many.partitions) >= 3


@pytest.mark.system
def test_every_type_of_event_happens() -> None:
    # A log that one process writes alone is never opened by its writer.
    assert {event["type"] for event in events()} == set(DATA_OF) - {"writer_opened"}


def test_bets_holds_transfers_and_orders_occur_in_every_state() -> None:
    assert {bet["status"] for bet in everything("bets")} == set(BET_STATUSES)
    assert {hold["status"] for hold in everything("holds")} == {"open", "captured", "released", "expired"}
    assert {order["status"] for seed in SEEDS for order in reads_of(seed).orders()["items"]} == set(ORDER_STATUSES)
    assert any(hold["captured"] not in (None, hold["amount"]) for hold in everything("holds"))
    transfers = {_ending(seed, event) for seed in SEEDS for event in reads_of(seed).events}
    assert {("delivered", None), ("returned", "wallet_not_open"), ("returned", "wallet_closed")} <= transfers
    assert ("returned", "balance_max_exceeded") in transfers


def _ending(seed: int, sent: Event) -> tuple[str, str | None] | None:
    """Status and reason of the transfer that an event sent."""
    if sent["type"] != "transfer_sent":
        return None
    transfer = reads_of(seed).transfer(sent["user_id"], sent["data"]["transfer_id"])
    assert not isinstance(transfer, NotFound)
    return transfer["status"], transfer["reason"]


def test_wallets_are_open_frozen_and_closed_and_one_is_never_opened() -> None:
    assert {wallet["status"] for wallet in everything("wallet")} == {"open", "frozen", "closed"}
    assert any(reads_of(seed).wallet(NEVER_OPENED) == NotFound("wallet_not_found") for seed in SEEDS)
    assert any(event["user_id"] == NEVER_OPENED for event in events())
    assert any(event["user_id"] == MAYFLY and event["type"] == "transfer_refused" for event in events())


def test_referrals_reach_the_sixth_level() -> None:
    members = [referrals["levels"] for referrals in everything("referrals")]
    assert any(levels[0]["members"] > 1 for levels in members)
    assert any(levels[5]["members"] > 0 for levels in members)


def test_some_sums_are_too_large_for_a_double() -> None:
    rows = [row for seed in SEEDS for row in _totals(seed, WHALE)]
    assert any(row["staked"] > 2**54 and row["staked"] % 2 for row in rows)


def _totals(seed: int, user_id: str) -> list[Doc]:
    stats = reads_of(seed).stats(user_id)
    return [] if isinstance(stats, NotFound) else stats["totals"]


def test_wallets_and_kinds_share_ids() -> None:
    ids = {
        (kind, event["user_id"], event["data"][kind])
        for event in reads_of(0).events
        for kind in ("bet_id", "hold_id", "order_id")
        if kind in event["data"]
    }
    assert len({(kind, id_) for kind, _, id_ in ids}) < len(ids)
    assert len({(user_id, id_) for _, user_id, id_ in ids}) < len(ids)


# --- what they mean ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_reads_the_same_wallets_as_the_ledger(seed: int) -> None:
    world = World(partitions=len(scenario(seed).partitions))
    world.appended.records = scenario(seed).partitions
    wallets = world.replayed()
    assert set(wallets) == set(reads_of(seed).users())
    for user_id, wallet in wallets.items():
        expected = seen(wallet)
        assert reads_of(seed).wallet(user_id) == (NotFound("wallet_not_found") if expected is None else expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_balances_in_the_history_are_those_of_the_records(seed: int) -> None:
    events = {f"{event['partition']}:{event['seq']}": event for event in reads_of(seed).events}
    for user_id in USERS:
        history = reads_of(seed).history(user_id)
        for item in [] if isinstance(history, NotFound) else history["items"]:
            assert item["balances"] == events[item["position"]]["balances"][item["asset"]]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_balance_at_a_time_is_that_of_the_wallet_then(seed: int) -> None:
    reads = reads_of(seed)
    for cut in (10, 40, 90):
        then = reads.at(dict.fromkeys(range(3), cut))
        for user_id in then.users():
            wallet, balance = then.wallet(user_id), then.balance(user_id)
            if not isinstance(wallet, NotFound):
                assert not isinstance(balance, NotFound)
                can_take = {
                    asset: {name: held[name] for name in ("available", "withdrawable")}
                    for asset, held in wallet["balances"].items()
                }
                assert wallet["balances"] == {
                    asset: {**held, **can_take[asset]} for asset, held in balance["balances"].items()
                }


@pytest.mark.system
def test_every_document_survives_encoding_as_json() -> None:
    reads = reads_of(2)
    asked = [*every_queue(reads), *(read for user_id in USERS for read in every_read(reads, user_id))]
    assert len(asked) > 1_000
    for name, params, answer in asked:
        if not isinstance(answer, NotFound):
            assert json.loads(json.dumps(answer)) == answer, (name, params)
