"""A payout that its wallet has no room for: the rest is in the read of the bet, the service log, and a metric."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ledger.core.games.periods import name_of
from ledger.core.money import AMOUNT_MAX
from ledger.core.rejections import Code
from ledger.writer.requests import Refused
from projections.auditing.oracle import WalletOracle
from unit.api_in_memory import InMemoryApi
from unit.given import (
    NOON,
    SECOND_US,
    adjust,
    approve_withdrawal,
    deposit,
    open_wallet,
    place_bet,
    record_result,
    request_withdrawal,
)
from unit.node_in_memory import World
from unit.test_document_of_reads import schema_of
from unit.test_live import got, opened
from unit.test_settlement import everything_is_settled

PERIOD = name_of(NOON)
STAKE, PAYOUT = 1_000, 8_820
"""The payout of ``number:7``: 980 after the fee, times 9."""
UNPAID = PAYOUT - STAKE
"""The stakes were the only room left, so only as much as the bet's own stake is paid."""


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    """A wallet with two open bets on 7, which is full: nothing more than the two stakes fits."""
    async with InMemoryApi(tmp_path, 1) as api:
        await api.world.given(open_wallet(), deposit(2 * STAKE))
        for bet_id in ("b1", "b2"):
            await api.world.given(place_bet(STAKE, bet_id, game="wingo_30s", period=PERIOD, selection="number:7"))
        await api.world.given(deposit(AMOUNT_MAX - 2 * STAKE, "o2"))
        await api.fold()
        yield api


async def play(world: World) -> None:
    world.clock.now_us = NOON + 32 * SECOND_US
    await world.accepted(record_result("7", PERIOD))
    await everything_is_settled(world)


async def read(api: InMemoryApi, path: str) -> Any:
    await api.fold()
    response = await api.get(f"/v1/wallets/u1{path}")
    assert response.status == 200, response.body
    return response.json()


def amounts(bet: dict[str, Any]) -> tuple[str, int | None, int]:
    return bet["status"], bet["payout"], bet["unpaid"]


async def count(api: InMemoryApi) -> float:
    (line,) = (
        line
        for line in (await api.get("/metrics")).body.decode().splitlines()
        if line.startswith("stakelog_unpaid_payouts_total ")
    )
    return float(line.split()[1])


async def test_the_reads_of_a_bet_have_what_is_unpaid(api: InMemoryApi) -> None:
    assert amounts(await read(api, "/bets/b1")) == ("open", None, 0)
    await play(api.world)
    one = await read(api, "/bets/b1")
    schema_of("/v1/wallets/{user_id}/bets/{bet_id}", 200).validate(one)
    assert amounts(one) == ("won", STAKE, UNPAID)
    listed = await read(api, "/bets")
    assert [amounts(bet) for bet in listed["items"]] == [("won", STAKE, UNPAID)] * 2


async def test_a_feed_has_it_from_the_settlement_on(api: InMemoryApi) -> None:
    await api.world.given(open_wallet("u2"), deposit(STAKE, user_id="u2"))
    await api.fold()
    feed = opened(api, "u2")
    await got(api, feed)
    bet = place_bet(STAKE, "b1", game="wingo_30s", period=PERIOD, selection="number:7", user_id="u2")
    await api.world.given(bet, deposit(AMOUNT_MAX - STAKE, "o2", user_id="u2"))
    await play(api.world)
    await api.fold()
    bets = [json.loads(message.data) for message in await got(api, feed) if message.name == "bet"]
    assert [amounts(bet) for bet in bets] == [("open", None, 0), ("won", STAKE, UNPAID)]


@pytest.mark.system
async def test_the_oracle_has_the_same_bets(api: InMemoryApi) -> None:
    await play(api.world)
    oracle = WalletOracle("u1")
    for record in api.world.appended.records[0]:
        if json.loads(record)["user_id"] == "u1":
            oracle.apply(record)
    listed = (await read(api, "/bets"))["items"]
    assert [oracle.bets[bet["bet_id"]] for bet in listed] == listed


async def test_adjust_pays_it_once_the_wallet_has_room_and_the_bet_still_shows_it(api: InMemoryApi) -> None:
    await play(api.world)
    command = adjust(UNPAID, command_id="unpaid:b1")
    refused = await api.world.post(command)
    assert isinstance(refused, Refused)
    assert refused.rejection.code is Code.AMOUNT_OUT_OF_RANGE
    await api.world.given(request_withdrawal(UNPAID), approve_withdrawal(), command)
    assert amounts(await read(api, "/bets/b1")) == ("won", STAKE, UNPAID)
    assert (await read(api, ""))["balances"]["INR"]["cash"] == AMOUNT_MAX


async def test_each_is_counted_and_the_first_one_is_in_the_log(
    api: InMemoryApi, caplog: pytest.LogCaptureFixture
) -> None:
    assert await count(api) == 0
    caplog.set_level(logging.WARNING, "ledger")
    await play(api.world)
    assert await count(api) == 2
    first = next(record for record in caplog.records if "unpaid" in record.getMessage())
    assert first.levelno == logging.WARNING
    position = (await read(api, "/bets/b1"))["position"]
    assert first.getMessage() == (
        f"the wallet u1 has no room for the whole payout of its bet {position} (game wingo_30s, period {PERIOD}): "
        f"{UNPAID} INR in minor units are unpaid; pay them with `adjust` once it has room "
        "(unpaid payouts since the start: 1)"
    )


async def test_a_payout_that_fits_is_neither_counted_nor_warned_of(
    api: InMemoryApi, caplog: pytest.LogCaptureFixture
) -> None:
    await api.world.given(request_withdrawal(2 * PAYOUT), approve_withdrawal())
    caplog.set_level(logging.WARNING, "ledger")
    await play(api.world)
    assert amounts(await read(api, "/bets/b1")) == ("won", PAYOUT, 0)
    assert await count(api) == 0
    assert not [record for record in caplog.records if "unpaid" in record.getMessage()]
