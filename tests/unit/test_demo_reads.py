"""The demo's reads and their findings: a service in memory with right reads, and services with wrong ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from random import Random
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import pytest

from demo.apps import Apps
from demo.books import expected_reads as expected_reads
from demo.books.books import Books
from demo.books.rules import money_rules
from demo.books.wallets import Order
from demo.login import Senders
from demo.play import CountingClient, Read, Tally
from demo.traffic.plan import Day
from demo.traffic.server import GameServer
from properties.naive_reads import NaiveReads, NotFound
from unit.test_demo_traffic import FLOWS, NO_FLOWS, LedgerInMemory, Played

DAY = Day(users=20, commands=320, seed=5, servers=1, periods=4, campaigns=False)

Doc = dict[str, Any]


class ServiceInMemory(CountingClient):
    """A service whose reads are the naive reads of the ledger's log; ``lie`` changes a document before it is sent."""

    def __init__(
        self,
        table: LedgerInMemory,
        *,
        late: int = 0,
        lie: Callable[[str, Doc], Doc] = lambda _, document: document,
        always_304: bool = False,
    ) -> None:
        """``late``: so many events are missing from its reads, though its ``as_of`` includes them."""
        super().__init__("http://service", Tally(), Senders("http://service"))
        self.table, self.late, self.lie, self.always_304 = table, late, lie, always_304
        self.asked: list[str] = []

    async def get(self, kind: str, path: str, etag: str | None = None) -> Read:
        self.asked.append(path)
        url = urlsplit(path)
        query = dict(parse_qsl(url.query))
        events = self.table.events
        reads = NaiveReads(events[: len(events) - self.late])
        document = self._document(reads, [unquote(part) for part in url.path.split("/")[2:]], query)
        if isinstance(document, NotFound):
            return Read(404, {}, None)
        document = self.lie(kind, msgspec.json.decode(msgspec.json.encode(document)))
        mark = sha256(msgspec.json.encode(document)).hexdigest()
        if etag is not None and (etag == mark or self.always_304):
            return Read(304, {}, etag)
        place = f"0:{len(events)}"
        several = kind in ("queue page of 50", "leaderboard")
        as_of = {"positions": [place], "lag_ms": 0} if several else {"position": place, "lag_ms": 0}
        return Read(200, {**document, **({} if "as_of" in document else {"as_of": as_of})}, mark)

    def _document(self, reads: NaiveReads, parts: Sequence[str], query: dict[str, str]) -> Doc | NotFound:
        match parts:
            case ["wallets", user]:
                return reads.wallet(user)
            case ["wallets", user, "stats"]:
                return reads.stats(user)
            case ["wallets", user, "history"]:
                return _page(reads.history(user), query)
            case ["wallets", user, "grants"]:
                return _page(reads.grants(user), query)
            case ["wallets", user, "referrals"]:
                return reads.referrals(user)
            case ["wallets", user, "bets"]:
                return _page(reads.bets(user, status=query.get("status")), query)
            case ["orders"]:
                return _page(reads.orders(kind=query["kind"], status=query["status"]), query)
            case ["orders", user, order_id]:
                return reads.order(user, order_id)
            case ["leaderboards", name]:
                return reads.leaderboard(name, query["asset"], self.table.now_us, int(query["limit"]))
        raise AssertionError(parts)


def _page(listed: Doc | NotFound, query: dict[str, str]) -> Doc | NotFound:
    if isinstance(listed, NotFound):
        return listed
    begin, limit = int(query.get("cursor", 0)), int(query["limit"])
    items, end = listed["items"], begin + limit
    return {"items": items[begin:end], "next_cursor": str(end) if end < len(items) else None}


class ReadDay(Played):
    """A day in which the apps read after each wave."""

    def __init__(self, day: Day, rules: Mapping[str, Any] = NO_FLOWS, **service: Any) -> None:
        self.books, self.waves, self.sent = Books(money_rules(rules)), [], []
        self.table = LedgerInMemory(day.seed, rules)
        self.service = ServiceInMemory(self.table, **service)
        self.apps = Apps(self.service, self.books, day.seed)
        server = GameServer(day, 0, self.books)
        rng = Random(day.seed)
        for wave in server.waves():
            posts = list(wave.posts)
            rng.shuffle(posts)
            for post in posts:
                self._play(post)
            asyncio.run(self.apps.after_wave(server, wave))

    def end(self) -> list[str]:
        """The findings when all transfers have arrived and every wallet is read whole."""
        due_us = self.books.latest_due_us()
        self.books.settle(due_us)
        self.table.quiet(max(due_us, self.table.now_us))
        self.apps.findings = []
        asyncio.run(self.apps.every_wallet({0: len(self.table.events)}, lambda _: None))
        return self.apps.findings


@pytest.fixture(scope="module")
def honest() -> ReadDay:
    return ReadDay(DAY)


def test_right_reads_have_no_findings_during_the_day_and_at_its_end(honest: ReadDay) -> None:
    assert honest.apps.findings == []
    assert honest.end() == []
    kinds = {path.split("?")[0].rpartition("/")[2] for path in honest.service.asked}
    assert {"history", "bets", "stats", "orders"} <= kinds


def test_right_reads_of_a_day_with_money_flows_have_no_findings() -> None:
    day = ReadDay(DAY, FLOWS)
    assert day.apps.findings == []
    assert day.end() == []


def test_apps_read_with_the_position_of_their_last_response(honest: ReadDay) -> None:
    assert sum("min_position=0:" in path for path in honest.service.asked) > len(honest.service.asked) * 0.9


def test_a_service_that_claims_events_which_its_reads_lack_is_found() -> None:
    assert ReadDay(DAY, late=4).apps.findings


def test_a_wrong_304_is_found() -> None:
    assert any("in the books" in line for line in ReadDay(DAY, always_304=True).apps.findings)


def _stale_as_of(_: str, document: Doc) -> Doc:
    return {**document, "as_of": {"position": "0:1", "positions": ["0:1"], "lag_ms": 0}}


def _without_second(kind: str, document: Doc) -> Doc:
    return (
        {**document, "items": document["items"][:1] + document["items"][2:]}
        if kind.startswith("history")
        else document
    )


def _without_oldest_bet(kind: str, document: Doc) -> Doc:
    return {**document, "items": document["items"][:-1]} if kind.startswith("bets") else document


def _a_win_less(kind: str, document: Doc) -> Doc:
    for row in document["games"] if kind == "statistics" else ():
        row["wins"] -= 1
    return document


def _one_more(kind: str, document: Doc) -> Doc:
    for balance in document["balances"].values() if kind == "wallet" else ():
        balance["bonus"] += 1
    return document


def _another_change(kind: str, document: Doc) -> Doc:
    for item in document["items"][:1] if kind.startswith("history") else ():
        item["change"]["cash"] += 1
    return document


def _other_status(kind: str, document: Doc) -> Doc:
    return {**document, "status": "rejected"} if kind == "order" else document


def _empty_queue(kind: str, document: Doc) -> Doc:
    return {**document, "items": [], "next_cursor": None} if kind.startswith("queue") else document


def _no_shape(kind: str, document: Doc) -> Doc:
    return {"lost": True} if kind == "statistics" else document


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        (_stale_as_of, "not at min_position"),
        (_without_second, "history"),
        (_without_oldest_bet, "bets"),
        (_a_win_less, "statistics games"),
        (_one_more, "bonus is"),
        (_another_change, "does not follow"),
        (_other_status, "has status rejected"),
        (_empty_queue, "queue: lacks"),
        (_no_shape, "does not have the contract's shape"),
    ],
)
@pytest.mark.system
def test_a_wrong_read_is_found_during_the_day(lie: Callable[[str, Doc], Doc], said: str) -> None:
    findings = ReadDay(DAY, lie=lie).apps.findings
    assert any(said in line for line in findings), findings[:3]


# -- lists of all users, each with one fault --


def desk(*statuses: str) -> tuple[Books, list[Doc]]:
    """Books with a withdrawal of each status, and as queue items, newest first."""
    books = Books()
    items: list[Doc] = []
    for at, status in enumerate(statuses):
        books.wallet(f"u{at}").orders["o"] = Order("withdrawal", "INR", 100 + at, at, status)
        item = {"user_id": f"u{at}", "order_id": "o", "asset": "INR", "amount": 100 + at, "created_at_us": at}
        items.insert(0, {**item, "position": f"0:{at}"})
    return books, items


def test_a_queue_is_complete_in_order_and_without_decided_orders() -> None:
    books, (decided, *items) = desk("pending", "pending", "pending", "approved")
    queue = expected_reads.Queue(books)
    assert queue.check(items) == []
    assert any("lacks" in line for line in queue.check(items[1:]))
    assert any("in order" in line for line in queue.check(items[::-1]))
    assert any("times" in line for line in queue.check([items[0], *items]))
    assert any("another amount" in line for line in queue.check([{**items[0], "amount": 1}, *items[1:]]))
    assert any("not pending" in line for line in queue.check([decided, *items]))


def test_an_order_with_a_decision_under_way_may_be_in_the_queue_or_not() -> None:
    books, items = desk("pending", "pending")
    queue = expected_reads.Queue(books)
    books.sending({"type": "reject_withdrawal", "command_id": "c", "user_id": "u1", "order_id": "o"})
    queue.after_first_page()
    assert queue.check(items) == queue.check(items[1:]) == []
    assert queue.check(items[:1])


def test_an_order_decided_before_the_first_page_arrived_may_be_in_the_queue_or_not() -> None:
    books, items = desk("pending", "pending")
    queue = expected_reads.Queue(books)
    books.wallets["u1"].orders["o"].status = "rejected"
    queue.after_first_page()
    assert queue.check(items) == queue.check(items[1:]) == []
    assert queue.check(items[:1])


def test_an_order_decided_after_the_first_page_must_still_be_in_the_queue() -> None:
    books, items = desk("pending", "pending")
    queue = expected_reads.Queue(books)
    queue.after_first_page()
    books.sending({"type": "reject_withdrawal", "command_id": "c", "user_id": "u1", "order_id": "o"})
    assert queue.check(items) == []
    assert any("lacks ('u1', 'o')" in line for line in queue.check(items[1:]))


def test_a_board_is_ranked_and_right_for_the_users_of_the_day(honest: ReadDay) -> None:
    books = honest.books
    seen = NaiveReads(honest.table.events).leaderboard("net_day", "INR", honest.table.now_us, 200)
    users = list(books.wallets)

    def findings(items: list[Doc], limit: int = 200) -> list[str]:
        return expected_reads.leaderboard(books, users, "net_day", "INR", {**seen, "items": items}, limit)

    items = seen["items"]
    assert len(items) > 3
    assert findings(items) == []
    assert findings(items[:3], limit=3) == []
    assert any("in the books" in line for line in findings(items[:3]))
    assert any("not in order" in line for line in findings(items[::-1]))
    assert any("not ranked" in line for line in findings(items[1:]))
    assert any(
        "in the books" in line for line in findings([{**items[0], "value": items[0]["value"] + 1}, *items[1:]])
    )


# -- what the books allow while money is under way --


def test_coming_money_may_be_in_the_wallet_or_not_during_the_day() -> None:
    books = Books()
    wallet = books.wallet("u1")
    wallet.status = "open"
    wallet.cash["INR"], wallet.coming["INR"] = 100, 30

    def found(cash: int) -> list[str]:
        balances = {"INR": {"cash": cash, "bonus": 0, "held": 0, "available": cash, "withdrawable": cash}}
        return books.differences("u1", {"status": "open", "balances": balances}, settled=False)

    assert found(100) == found(130) == []
    assert found(99)
    assert found(131)


def test_an_as_of_of_another_partition_or_a_negative_lag_is_named() -> None:
    assert expected_reads.as_of("w", {"as_of": {"position": "4:50", "lag_ms": 0}}, {3: 42})
    assert expected_reads.as_of("w", {"as_of": {"position": "3:50", "lag_ms": -1}}, {3: 42})
    assert expected_reads.as_of("w", {"as_of": {"position": "3:42", "lag_ms": 7}}, {3: 42}) == []
    assert expected_reads.as_of("w", {"as_of": {"positions": ["3:50"], "lag_ms": 0}}, {3: 42, 4: 1}, several=True)
