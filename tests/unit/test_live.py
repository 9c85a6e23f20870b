"""Live feeds inside one process: what a feed gets, from where it continues, and what one client can make others pay.

The expected events are made from the responses to the commands, not from the tables that the hub reads.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest

from api.identity.identity import AUDITOR, GAME_SERVER, PLAYER
from ledger.core.games.periods import name_of
from projections.live import hub as hub_module
from projections.live import topics
from projections.live.feed import DROPPED, HEARTBEAT, QUEUE_MAX, Feed, Message
from projections.live.hub import HEARTBEAT_S, REFUSED, SLOW, STATE_EVERY_S, Hub, HubClosed, TooManyFeeds, UnknownId
from projections.live.port import Gap
from projections.models import periods
from projections.storage.port import Difference, ReadModel
from projections.tables.queries import Query, Rows
from unit.api_in_memory import InMemoryApi
from unit.given import (
    NOON,
    SECOND_US,
    cancel_bet,
    cancel_period,
    deposit,
    freeze_wallet,
    open_wallet,
    place_bet,
    record_result,
    settle_bet,
)
from unit.login_in_memory import LoginInMemory, bearer

GAME: Final = "wingo_30s"
PERIOD: Final = name_of(NOON)
NEXT_PERIOD: Final = name_of(NOON + 30 * SECOND_US)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    async with InMemoryApi(tmp_path, 1) as api:
        await api.world.given(open_wallet(), deposit(1_000))
        await api.fold()
        yield api


def opened(
    api: InMemoryApi, *user_ids: str, game: str | None = None, last_id: str | None = None, payers: Sequence[str] = ()
) -> Feed:
    games = [] if game is None else [api.world.node.rules.games[game]]
    return api.hub.open(user_ids, games, last_id, payers, lambda: None)


async def got(api: InMemoryApi, feed: Feed) -> list[Message]:
    """What the feed has got so far of everything that is folded."""
    await feed.started
    users = [topic.key for topic in feed.topics if isinstance(topic, topics.UserTopic)]
    games = [topic.game for topic in feed.topics if isinstance(topic, topics.GameTopic)]
    # A feed that begins is read in one batch with the changes of its topics.
    api.hub.tell(Gap(None, 0))
    barrier = api.hub.open(users, games, None, (), lambda: None)
    await barrier.started
    api.hub.remove(barrier)
    return [*(await feed.waiting())] if feed.queue else []


def shown(messages: Sequence[Message]) -> list[tuple[str, Any]]:
    """Bets as (id, status), balances as the cash, results as (period, result)."""
    found: list[tuple[str, Any]] = []
    for message in messages:
        data = json.loads(message.data)
        match message.name:
            case "bet":
                found.append(("bet", (data["bet_id"], data["status"])))
            case "balance":
                found.append(("balance", data["balances"]["INR"]["cash"]))
            case "result":
                found.append(("result", (data["period"], data["result"], data["cancelled"])))
            case name:
                found.append((name, data.get("status")))
    return found


async def test_a_feed_begins_with_the_wallet_and_then_has_each_change_once(api: InMemoryApi) -> None:
    feed = opened(api, "u1")
    assert shown(await got(api, feed)) == [("balance", 1_000)]
    await api.world.given(place_bet(100, "b1"), place_bet(50, "b2"), settle_bet(300, "b1"), cancel_bet("b2"))
    await api.fold()
    messages = await got(api, feed)
    assert shown(messages) == [
        ("bet", ("b1", "open")),
        ("bet", ("b2", "open")),
        ("bet", ("b1", "won")),
        ("bet", ("b2", "cancelled")),
        ("balance", 1_200),
    ]
    assert len({message.id for message in messages}) == len(messages)
    assert await got(api, feed) == []


async def test_the_balance_is_the_document_of_the_wallet(api: InMemoryApi) -> None:
    feed = opened(api, "u1")
    (message,) = await got(api, feed)
    assert message.data == (await api.get("/v1/wallets/u1")).body


async def test_a_bet_has_its_user_and_its_place_in_the_log(api: InMemoryApi) -> None:
    feed = opened(api, "u1")
    await got(api, feed)
    placed = await api.world.accepted(place_bet(100, "b1"))
    settled = await api.world.accepted(settle_bet(0, "b1"))
    await api.fold()
    open_bet, lost = [json.loads(message.data) for message in await got(api, feed) if message.name == "bet"]
    assert (open_bet["position"], open_bet["settled_position"], open_bet["payout"]) == (
        str(placed.position),
        None,
        None,
    )
    assert (lost["position"], lost["settled_position"]) == (str(placed.position), str(settled.position))
    assert {open_bet["user_id"], lost["user_id"]} == {"u1"}


async def test_a_wallet_that_changes_without_money_is_sent(api: InMemoryApi) -> None:
    feed = opened(api, "u1")
    await got(api, feed)
    await api.world.given(freeze_wallet())
    await api.fold()
    (message,) = await got(api, feed)
    assert json.loads(message.data)["status"] == "frozen"


async def test_a_user_without_a_wallet_can_be_followed_and_the_feed_names_its_beginning(api: InMemoryApi) -> None:
    feed = opened(api, "new")
    (beginning,) = await got(api, feed)
    assert (beginning.name, beginning.data) == ("", b"")
    await api.world.given(open_wallet("new"), deposit(7, user_id="new"))
    await api.fold()
    again = opened(api, "new", last_id=beginning.id)
    assert shown(await got(api, feed)) == shown(await got(api, again)) == [("balance", 7)]


async def test_from_each_id_a_feed_continues_with_exactly_the_rest(api: InMemoryApi) -> None:
    feed = opened(api, "u1", game=GAME)
    messages = await got(api, feed)
    await api.world.given(*(place_bet(10, f"b{number}") for number in range(4)), settle_bet(31, "b1"))
    await api.fold()
    messages += await got(api, feed)
    api.world.clock.now_us = NOON + 32 * SECOND_US
    await api.world.given(record_result("7", PERIOD), cancel_bet("b3"), settle_bet(0, "b0"))
    await api.fold()
    messages += await got(api, feed)
    rest = [message for message in messages if message.name in ("bet", "result")]
    assert len(rest) == 8
    for number, message in enumerate(messages):
        again = opened(api, "u1", game=GAME, last_id=message.id)
        continued = await got(api, again)
        api.hub.remove(again)
        after = [one for one in messages[number + 1 :] if one.name in ("bet", "result")]
        # Of two topics each one's events are in order; how they mix is free.
        for name in ("bet", "result"):
            assert [one.data for one in continued if one.name == name] == [
                one.data for one in after if one.name == name
            ], message
        balances = [one.data for one in messages[number + 1 :] if one.name == "balance"]
        assert [shown([one]) for one in continued if one.name == "balance"] == (
            [[("balance", 1_001)]] if balances else []
        ), message


async def test_nothing_comes_again_after_the_last_id(api: InMemoryApi) -> None:
    feed = opened(api, "u1", game=GAME)
    await api.world.given(place_bet(10, "b1"))
    await api.fold()
    messages = await got(api, feed)
    again = opened(api, "u1", game=GAME, last_id=messages[-1].id)
    assert [one for one in await got(api, again) if one.name != "distribution"] == []


@pytest.mark.system
async def test_a_long_absence_is_made_up_in_the_order_of_the_log(
    api: InMemoryApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "EVENTS_MAX", 3)
    feed = opened(api, "u1")
    (first,) = await got(api, feed)
    api.hub.remove(feed)
    bets = [f"b{number:02}" for number in range(20)]
    await api.world.given(*(place_bet(1, bet) for bet in bets), *(settle_bet(0, bet) for bet in reversed(bets)))
    await api.fold()
    feed = opened(api, "u1", last_id=first.id)
    messages: list[Message] = []
    async with asyncio.timeout(60):
        while not messages or messages[-1].name != "balance":
            messages += await feed.waiting()
    assert shown(messages) == [
        *(("bet", (bet, "open")) for bet in bets),
        *(("bet", (bet, "lost")) for bet in reversed(bets)),
        ("balance", 980),
    ]


async def test_results_come_once_with_their_position_also_out_of_order(api: InMemoryApi) -> None:
    feed = opened(api, game=GAME)
    await got(api, feed)
    api.world.clock.now_us = NOON + 62 * SECOND_US
    later = await api.world.accepted(record_result("3", NEXT_PERIOD))
    await api.world.given(cancel_period(PERIOD))
    await api.fold()
    results = [message for message in await got(api, feed) if message.name == "result"]
    assert shown(results) == [("result", (NEXT_PERIOD, "3", False)), ("result", (PERIOD, None, True))]
    assert json.loads(results[0].data)["position"] == str(later.position)


async def test_a_distribution_is_the_document_of_the_present_period(api: InMemoryApi) -> None:
    await api.world.given(place_bet(10, "b1", game=GAME, period=PERIOD, selection="red"))
    await api.fold()
    feed = opened(api, game=GAME)
    (message,) = await got(api, feed)
    assert message.name == "distribution"
    assert message.data == (await api.get(f"/v1/games/{GAME}/periods/{PERIOD}")).body


async def test_a_distribution_is_sent_at_most_twice_a_second(api: InMemoryApi) -> None:
    feed = opened(api, game=GAME)
    times_s: list[float] = []
    messages: list[Message] = []
    async with asyncio.timeout(60):
        number = 0
        while len(messages) < 4:
            await api.world.given(place_bet(1, f"b{number}", game=GAME, period=PERIOD, selection="red"))
            await api.fold()
            number += 1
            if feed.queue:
                times_s.append(feed.sent_s)
                messages += await feed.waiting()
            await asyncio.sleep(0.01)
    assert len(messages) == len(times_s), "two at once"
    assert all(after - before >= STATE_EVERY_S for before, after in pairwise(times_s))


class HeldModel:
    """A read model that holds each read of a distribution back, after it was made, until ``go`` is set."""

    def __init__(self, model: ReadModel) -> None:
        self._model = model
        self.held, self.go = asyncio.Event(), asyncio.Event()

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:
        rows = await self._model.fetch(queries, quick=quick)
        if any(query.builder is periods.distribution_statement for query in queries):
            self.held.set()
            await self.go.wait()
        return rows

    async def close(self) -> None:
        await self._model.close()


async def test_a_bet_that_becomes_known_while_the_distribution_is_read_is_sent_too(api: InMemoryApi) -> None:
    game = "wingo_10m"  # so long that the end of the period does not send it
    feed = opened(api, game=game)
    await got(api, feed)
    api.hub._model = model = HeldModel(api.model)
    await api.world.given(place_bet(10, "b1", game=game, period=PERIOD, selection="red"))
    await api.fold()
    await model.held.wait()
    last = await api.world.accepted(place_bet(10, "b2", game=game, period=PERIOD, selection="red"))
    await api.fold()
    async with asyncio.timeout(60):
        while api.hub._announced.get(0, 0) < last.position.seq:  # noqa: ASYNC110 - the hub sends no event
            await asyncio.sleep(0.01)
        model.go.set()
        numbers = []
        while 2 not in numbers:
            for message in await feed.waiting():
                numbers += [item["bets"] for item in json.loads(message.data or b"{}").get("distribution", ())]


async def test_where_wrong_rows_are_refused_a_feed_of_games_is_dropped_too(api: InMemoryApi) -> None:
    feed = opened(api, game=GAME)
    await got(api, feed)
    api.reads.suspects.refuse = True
    await api.differ(0, Difference(0, f"game:{GAME}", "period", f'["{GAME}","{PERIOD}",""]', "result", "7", "8"))
    await api.world.given(place_bet(10, "b1", game=GAME, period=PERIOD, selection="red"))
    await api.fold()
    async with asyncio.timeout(60):
        (message,) = await feed.waiting()
    assert (message.name, json.loads(message.data)) == (DROPPED, {"reason": REFUSED})


async def test_a_feed_gets_nothing_of_other_users_and_games(api: InMemoryApi) -> None:
    feed = opened(api, "u1", game="k3_1m")
    await got(api, feed)
    await api.world.given(open_wallet("u2"), deposit(9, user_id="u2"), place_bet(5, "x", user_id="u2"))
    api.world.clock.now_us = NOON + 32 * SECOND_US
    await api.world.given(record_result("7", PERIOD))
    await api.fold()
    assert [one for one in await got(api, feed) if one.name != "distribution"] == []


# --- clients that are slow, too many, or not allowed ---------------------------------------------------------------


async def test_a_client_that_reads_nothing_keeps_a_bounded_number_of_messages_and_misses_none(
    api: InMemoryApi,
) -> None:
    slow, quick = opened(api, "u1"), opened(api, "u1")
    bets = [f"b{number:03}" for number in range(3 * QUEUE_MAX)]
    expected = [("bet", (bet, "open")) for bet in bets]
    await slow.started
    quickly: list[Message] = []
    for begin in range(0, len(bets), 50):
        await api.world.given(*(place_bet(1, bet) for bet in bets[begin : begin + 50]))
        await api.fold()
        quickly += await got(api, quick)
    assert [one for one in shown(quickly) if one[0] == "bet"] == expected, "it does not wait for the slow one"
    assert len(slow.queue) == QUEUE_MAX
    slowly: list[Message] = []
    async with asyncio.timeout(60):
        while not slowly or shown(slowly[-1:]) != [("balance", 1_000 - len(bets))]:
            assert len(slow.queue) <= QUEUE_MAX
            slowly += await slow.waiting()
    assert [one for one in shown(slowly) if one[0] == "bet"] == expected


async def test_a_client_that_does_not_read_for_long_is_dropped_and_told_why(api: InMemoryApi) -> None:
    now_s = 100.0
    hub = Hub(api.model, api.reads, lambda _: b"{}", None, feeds_max=9, feeds_of_user_max=9, clock_s=lambda: now_s)
    feed = hub.open(["u1"], [], None, [], lambda: None)
    await feed.started
    await api.world.given(*(place_bet(1, f"b{number:03}") for number in range(QUEUE_MAX)))
    await api.fold()
    async with asyncio.timeout(60):
        while feed.full_since_s is None:  # noqa: ASYNC110 - the hub has no event for it
            await asyncio.sleep(0.01)
    now_s += hub_module.SLOW_S + 1
    async with asyncio.timeout(60):
        while not feed.dropped:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    (message,) = await feed.waiting()
    assert (message.name, json.loads(message.data)) == (DROPPED, {"reason": SLOW})
    assert not await feed.waiting()
    await hub.stop()


async def test_a_silent_feed_has_heartbeats(api: InMemoryApi) -> None:
    now_s = 100.0
    hub = Hub(api.model, api.reads, lambda _: b"{}", None, feeds_max=9, feeds_of_user_max=9, clock_s=lambda: now_s)
    feed = hub.open(["u1"], [], None, [], lambda: None)
    await feed.waiting()
    now_s += HEARTBEAT_S
    async with asyncio.timeout(60):
        (message,) = await feed.waiting()
    assert message == (HEARTBEAT, "", b"")
    await hub.stop()


async def test_the_hub_finds_what_it_was_not_told(api: InMemoryApi) -> None:
    hub = Hub(api.model, api.reads, lambda _: b"{}", None, feeds_max=9, feeds_of_user_max=9)
    feed = hub.open(["u1"], [], None, [], lambda: None)
    await feed.waiting()
    await api.world.given(place_bet(1, "b1"))
    await api.fold()
    async with asyncio.timeout(60):
        messages = await feed.waiting()
    assert [one.name for one in messages] == ["bet", "balance"]
    await hub.stop()


async def test_tables_that_are_behind_the_id_send_nothing_until_they_are_not(api: InMemoryApi) -> None:
    feed = opened(api, "u1")
    (message,) = await got(api, feed)
    scope, _, _ = message.id.partition("~")
    ahead = opened(api, "u1", last_id=f"{scope}~3.00000000")  # a node whose tables had one event more
    assert await got(api, ahead) == []
    await api.world.given(place_bet(1, "b3"), place_bet(1, "b4"))
    await api.fold()
    assert shown(await got(api, ahead)) == [("bet", ("b4", "open")), ("balance", 998)]


async def test_the_limits_of_feeds(api: InMemoryApi) -> None:
    feeds = [opened(api, "u1", payers=["a"]) for _ in range(3)]
    with pytest.raises(TooManyFeeds) as refused:
        opened(api, "u1", payers=["a"])
    assert not refused.value.of_all
    feeds += [opened(api, "u1", payers=[payer]) for payer in ("b", "b", "c", "c", "d", "d", "e")]
    with pytest.raises(TooManyFeeds) as refused:
        opened(api, "u1", payers=["f"])
    assert refused.value.of_all
    api.hub.remove(feeds[0])
    api.hub.remove(feeds[0])
    assert opened(api, "u1", payers=["a"])


@pytest.mark.parametrize(
    "last_id", ["x", "~", "{scope}~", "{scope}~1.0,2.0", "{scope}~-1.", "{scope}~1.zz", "other~2."]
)
async def test_an_id_that_was_not_given_out_is_refused(api: InMemoryApi, last_id: str) -> None:
    (message,) = await got(api, opened(api, "u1"))
    scope, _, _ = message.id.partition("~")
    with pytest.raises(UnknownId):
        opened(api, "u1", last_id=last_id.format(scope=scope))
    with pytest.raises(UnknownId):
        opened(api, "u2", last_id=message.id)


async def test_a_closed_hub_drops_its_feeds_and_opens_none(api: InMemoryApi) -> None:
    feed = opened(api, "u1")
    await feed.waiting()
    cut = asyncio.Event()
    feed.cut = cut.set
    api.hub.close()
    (message,) = await feed.waiting()
    assert json.loads(message.data) == {"reason": "shutting_down"}
    with pytest.raises(HubClosed):
        opened(api, "u1")
    async with asyncio.timeout(60):
        await cut.wait()  # it did not end by itself


# --- the route -----------------------------------------------------------------------------------------------------


async def test_who_may_read_which_feed(tmp_path: Path) -> None:
    async with LoginInMemory(tmp_path) as login, InMemoryApi(tmp_path, login=login.parts) as api:
        player, server = await login.token(PLAYER, "u1"), await login.token(GAME_SERVER)
        auditor = await login.token(AUDITOR)

        async def status(token: str, query: str) -> int:
            return (await api.ask("HEAD", f"/v1/live{query}", bearer(token))).status

        assert (await api.ask("HEAD", "/v1/live?user_id=u1")).status == 401
        assert await status(player, "?user_id=u1") == 200
        assert await status(player, "") == 200
        assert await status(player, f"?game={GAME}") == 200
        assert await status(player, "?user_id=u2") == 403
        assert await status(player, "?user_id=u1&user_id=u2") == 403
        assert await status(server, "?user_id=u1&user_id=u2") == 200
        assert await status(auditor, f"?game={GAME}&user_id=u2") == 200
        assert await status(server, "?user=u1") == 400


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "malformed_request"),
        ("?game=unknown", 404, "game_not_found"),
        ("?user_id=u1&last_event_id=x", 400, "malformed_request"),
        ("?user_id=%20", 400, "malformed_request"),
    ],
)
async def test_what_a_feed_is_refused_for(api: InMemoryApi, query: str, status: int, code: str) -> None:
    response = await api.get(f"/v1/live{query}")
    assert (response.status, response.json()["code"]) == (status, code)
    assert not api.hub.feeds


async def test_the_limits_are_problems(api: InMemoryApi) -> None:
    for _ in range(3):
        opened(api, "u1", payers=["client local u1"])
    response = await api.get("/v1/live?user_id=u1")
    assert (response.status, response.json()["code"], response.headers["retry-after"]) == (429, "rate_limited", "5")
    api.hub.bound(3)
    response = await api.get("/v1/live?user_id=u2")
    assert (response.status, response.json()["code"]) == (503, "overloaded")


async def test_an_ordinary_request_for_the_socket_is_told_what_to_do(api: InMemoryApi) -> None:
    response = await api.get("/v1/live/ws?user_id=u1")
    assert response.status == 404
    assert "WebSocket" in response.json()["detail"]
