"""The reads over HTTP: each says what the events until its own ``as_of`` say, also while events arrive.

What an answer must be is never written down here: the records come from ``/v1/events``, and the reference model of
the reads makes of them what the answer must be at the position that it names.
"""

import gzip
import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from urllib.parse import quote, urlencode

import pytest

from properties.naive_reads import (
    NONE_SUCH,
    Cut,
    Doc,
    NaiveReads,
    NotFound,
    Page,
    assert_walked,
    every_queue,
    every_read,
    target_of,
)
from system.service import Service

pytestmark = pytest.mark.system

PARTITIONS: Final = 4
SEQ_MAX: Final = 2**53 - 1
ODD: Final = "a/b//%2F?#&+=%20\"'\\;x"
"""An id that a path must keep whole."""
STRANGER: Final = "stranger"
"""Has events, but was never opened."""
GHOST: Final = "ghost"
"""Has none."""
USERS: Final = ("anna", "bob", "carl", "dora", "erin", "frank", "Anna", STRANGER, GHOST)


# --- the client ----------------------------------------------------------------------------------------------------


_numbers = itertools.count()


def new_id() -> str:
    return f"n{next(_numbers)}"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection that is kept alive; for one thread."""

    def __init__(self, service: Service) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, target: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """``headers`` are named with underscores for their dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            self._connection.request(method, target, body, named)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            if method != "GET":
                raise
            # The service closes a connection that was idle for a while; the next request opens another one.
            self._connection.close()
            self._connection.request(method, target, body, named)
            response = self._connection.getresponse()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )

    def read(self, target: str, **params: Any) -> Doc:
        """The document at ``target``, which must be there; a busy machine may take its time to make it true."""
        if "min_position" in params:
            params = {"timeout_ms": 10_000, **params}
        answer = self.ask(with_params(target, params))
        assert answer.status == 200, answer
        assert answer.headers["content-type"] == "application/json"
        document: Doc = answer.json()
        assert_as_of(document["as_of"])
        return document

    def post(self, user_id: str, type_: str, actor: str = "local", **fields: Any) -> Doc:
        """The acknowledgement of a command, which must be taken."""
        command = self.command(user_id, type_, **fields)
        headers = {"Content_Type": "application/json", "Stakelog_Actor": actor}
        answer = self.ask("/v1/commands", "POST", json.dumps(command).encode(), **headers)
        assert answer.status == 201, (command, answer)
        result: Doc = answer.json()
        return result

    def post_many(self, commands: list[Doc]) -> None:
        """All must be taken; returns when they can be read."""
        body = json.dumps(commands).encode()
        answer = self.ask("/v1/commands/batch", "POST", body, Content_Type="application/json")
        assert answer.status == 200, answer
        assert all(item["status"] == 201 for item in answer.json()), answer.json()
        ends = {item["result"]["partition"]: item["result"]["seq"] for item in answer.json()}
        self.read("/v1/orders", limit=1, min_position=positions(ends))

    def command(self, user_id: str, type_: str, **fields: Any) -> Doc:
        return {"type": type_, "command_id": new_id(), "user_id": user_id, **fields}

    def reads(self) -> NaiveReads:
        """What the reads must say of everything that is durable now."""
        records: list[bytes] = []
        for partition in range(PARTITIONS):
            from_seq = 1
            while page := self.ask(
                with_params("/v1/events", {"partition": partition, "from_seq": from_seq, "limit": 10_000})
            ).body.splitlines():
                records += page
                from_seq += len(page)
        return NaiveReads(records)

    def walk(self, target: str, limit: int = 200, pause_s: float = 0.0, **params: Any) -> list[Page]:
        """All pages of a list, one after the other."""
        pages: list[Page] = []
        while True:
            document = self.read(target, limit=limit, **params)
            assert set(document) == {"items", "next_cursor", "as_of"}
            assert len(document["items"]) <= limit
            pages.append(Page(document["items"], cut_of(document)))
            params["cursor"] = document["next_cursor"]
            if params["cursor"] is None:
                return pages
            assert document["items"], "an empty page with another behind it"
            assert len(pages) < 1_000, "the list has no end"
            time.sleep(pause_s)


def with_params(target: str, params: dict[str, Any]) -> str:
    if not params:
        return target
    return f"{target}{'&' if '?' in target else '?'}{urlencode(params)}"


def assert_as_of(as_of: Doc) -> None:
    if "position" in as_of:
        assert set(as_of) == {"position", "lag_ms"}
        positions = [as_of["position"]]
    else:
        assert set(as_of) == {"positions", "lag_ms"}
        positions = as_of["positions"]
        assert isinstance(positions, list)
    assert type(as_of["lag_ms"]) is int
    assert as_of["lag_ms"] >= 0
    for position in positions:
        partition, seq = position.split(":")
        assert f"{int(partition)}:{int(seq)}" == position


def cut_of(document: Doc) -> Cut:
    as_of = document["as_of"]
    positions = as_of["positions"] if "positions" in as_of else [as_of["position"]]
    return {int(partition): int(seq) for partition, seq in (position.split(":") for position in positions)}


def assert_problem(answer: Answer, status: int, code: str, field: str | None = None) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer
    problem = answer.json()
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code), problem
    assert problem["type"] == f"urn:stakelog:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    if field is not None:
        assert problem.get("field") == field, problem


# --- the scenario --------------------------------------------------------------------------------------------------


def bet(bet_id: str, stake: int, **more: Any) -> Doc:
    told = {"bet_id": bet_id, "game": "external", "period": "r/1", "selection": "größer 🪔", "asset": "INR"}
    return {**told, "stake": stake, **more}


def inr(amount: int) -> Doc:
    return {"asset": "INR", "amount": amount}


def tell(client: Client) -> None:
    """A scenario in which everything that is read has every state, told command by command."""
    post = client.post
    post("anna", "open_wallet", metadata={"campaign": "दीपावली"})
    for user_id, referrer_id in (("bob", "anna"), ("carl", "bob"), ("dora", "carl"), ("frank", STRANGER)):
        post(user_id, "open_wallet", referrer_id=referrer_id)
    post("erin", "open_wallet")
    post("anna", "deposit", order_id="o1", **inr(100_000), bonus=2_000)
    post("anna", "deposit", order_id="O1", asset="GOLD", amount=50)
    charged = post("anna", "deposit", order_id=ODD, **inr(700), bonus=30)
    post("anna", "reverse", position=charged["position"], reason="charged back")
    wrong = post("anna", "adjust", **inr(20), reason="entered too low")
    post("anna", "reverse", position=wrong["position"], reason="it was right")
    # Bets: won, lost, cancelled, open; one that was cancelled before it came; ids that differ by their case.
    for bet_id, stake in (("b1", 500), ("B1", 40), (ODD, 30), ("b3", 20)):
        post("anna", "place_bet", **bet(bet_id, stake))
    post("anna", "place_bet", **bet("g1", 5, asset="GOLD", period="r/2"))
    post("anna", "place_bet", **bet("g2", 1_900, spend="bonus_first"))
    post("anna", "settle_bet", bet_id="b1", payout=900)
    post("anna", "settle_bet", bet_id="B1", payout=0)
    post("anna", "settle_bet", bet_id="g1", payout=6)
    post("anna", "cancel_bet", bet_id=ODD, reason="void")
    post("anna", "cancel_bet", bet_id="b9")
    # Withdrawals, holds, bonuses, adjustments, limits.
    for order_id in ("w1", "w2", "w3"):
        post("anna", "request_withdrawal", order_id=order_id, **inr(1_000))
    post("anna", "approve_withdrawal", order_id="w1", reason="fine")
    post("anna", "reject_withdrawal", order_id="w2", reason="the name differs")
    for hold_id in ("h1", "h2", "h3", ODD):
        post("anna", "hold", hold_id=hold_id, **inr(300), expires_at_us=SEQ_MAX)
    post("anna", "capture_hold", hold_id="h1", amount=120)
    post("anna", "capture_hold", hold_id="h2")
    post("anna", "release_hold", hold_id="h3")
    post("anna", "hold", hold_id="h4", **inr(300), expires_at_us=-1)
    post("anna", "grant_bonus", grant_id="g1", **inr(70))
    post("anna", "grant_bonus", grant_id="g2", **inr(80), expires_at_us=-1)
    post("anna", "propose_adjustment", adjustment_id="a1", **inr(-15), reason="goodwill")
    post("anna", "approve_adjustment", "op:2", adjustment_id="a1")
    post("anna", "set_limits", asset="INR", credit_limit=1_000, stake_max_per_day=0)
    post("anna", "set_limits", asset="INR", stake_max_per_day=None, balance_max=500_000)
    post("anna", "set_limits", asset="USDT", withdrawal_max_per_day=5)
    # The same ids in other wallets, transfers in each state, statuses.
    post("carl", "deposit", order_id="o1", **inr(5_000))
    post("carl", "place_bet", **bet("b1", 77))
    post("dora", "close_wallet", reason="asked for")
    for transfer_id, to_user_id in (("t1", "bob"), ("t2", STRANGER), (ODD, "carl"), ("t4", "dora")):
        post("anna", "transfer", transfer_id=transfer_id, to_user_id=to_user_id, **inr(250))
    post("bob", "freeze_wallet", reason="under review")


FOLLOW_UPS: Final = 1 + 2 + 3 + 1 + 3 * 4
"""Of the scenario: the counts of four referrals (bob, carl, dora, frank), three events of each of four transfers."""


def until(says: Callable[[], bool], within_s: float = 60.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not says():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def follow_ups(client: Client) -> int:
    return sum(event["type"].startswith(("referral_", "transfer_")) for event in client.reads().events)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("reads") / "data", PARTITIONS=str(PARTITIONS)) as service:
        with Client(service) as client:
            tell(client)
            until(lambda: follow_ups(client) == FOLLOW_UPS)
            client.read("/v1/orders", min_position=positions(ends_of(client.reads())), timeout_ms=10_000)
        yield service
    assert "Traceback" not in service.log_text()
    assert "internal_error" not in service.log_text()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service) as client:
        yield client


@pytest.fixture
def wallet(client: Client) -> str:
    """A wallet of this test's own, with some money."""
    return fresh(client)


def fresh(client: Client) -> str:
    user_id = new_id()
    client.post(user_id, "open_wallet")
    deposited = client.post(user_id, "deposit", order_id="first", **inr(1_000_000))
    client.read(f"/v1/wallets/{user_id}", min_position=deposited["position"])
    return user_id


def partition_of(client: Client, user_id: str) -> int:
    (partition,) = cut_of(client.read(f"/v1/wallets/{quote(user_id)}", consistency="strong"))
    return partition


def ends_of(reads: NaiveReads) -> dict[int, int]:
    ends: dict[int, int] = {}
    for event in reads.events:
        ends[event["partition"]] = event["seq"]
    return ends


def positions(cut: Cut) -> str:
    return ",".join(f"{partition}:{seq}" for partition, seq in cut.items())


# --- each read says what the events say ----------------------------------------------------------------------------


@pytest.mark.parametrize("user_id", USERS)
def test_every_read_of_a_wallet_says_what_its_events_say(client: Client, user_id: str) -> None:
    reads = client.reads()
    opened = isinstance(reads.wallet(user_id), dict)
    partition = partition_of(client, user_id) if opened else 0
    end = {partition: ends_of(reads)[partition]} if opened else {}
    for name, params, expected in every_read(reads, user_id):
        if NONE_SUCH in (params.get("type"), params.get("asset")):
            continue  # whether such a filter is empty or malformed is open
        target = with_params(target_of(name, user_id, params), {"min_position": positions(end)} if end else {})
        if isinstance(expected, NotFound):
            assert_problem(client.ask(target), 404, expected.code)
            continue
        if "items" in expected:
            (page,) = client.walk(target)
            assert (page.items, page.as_of) == (expected["items"], end), (name, params)
            continue
        document = client.read(target)
        assert cut_of(document) == end
        assert document.pop("as_of")["lag_ms"] == 0, "nothing is known that is missing"
        if name == "balance" and not params:  # now is whenever it was asked
            at_us = document.pop("at_us")
            assert at_us is None or abs(at_us / 1e6 - time.time()) < 60
            del expected["at_us"]
        assert document == expected, (name, params)


def test_the_queue_says_what_the_events_of_all_wallets_say(client: Client) -> None:
    reads = client.reads()
    ends = ends_of(reads)
    assert len({event["partition"] for event in reads.events if event["type"] == "deposited"}) > 1
    for name, params, expected in every_queue(reads):
        assert not isinstance(expected, NotFound)
        some = {} if "user_id" in params else ends  # of named users only their own partitions
        waited: dict[str, Any] = {"min_position": positions(some)} if some else {}
        pages = client.walk(target_of(name, "", params), limit=200, **waited)
        assert [item for page in pages for item in page.items] == expected["items"], params
        for page in pages:
            found = {partition: seq for partition, seq in page.as_of.items() if seq}
            assert found == {partition: seq for partition, seq in ends.items() if partition in page.as_of}


def test_a_response_names_the_positions_at_which_it_is_true_while_events_arrive(
    service: Service, client: Client
) -> None:
    """Of one wallet and of the queue: whatever came, and went, is compared at the position that the answer names."""
    chance = random.Random(7)
    users = [fresh(client) for _ in range(6)]
    heard: list[tuple[str, str, Doc]] = []
    places: set[str] = set()
    deadline = time.monotonic() + 60  # the writer may be slow to begin
    with Writing(service, lambda writer: betting(writer, users)):
        while len(heard) < 150 or (len(places) <= 10 and time.monotonic() < deadline):
            user_id = chance.choice(users)
            name = chance.choice(("wallet", "balance", "history", "bets", "holds", "stats", "referrals", "orders"))
            limited = {"limit": 200} if name in ("history", "bets", "holds", "orders") else {}
            document = client.read(target_of(name, user_id, {}), **limited)
            heard.append((name, user_id, document))
            places.add(json.dumps(document["as_of"]))
    reads = client.reads()
    assert len(places) > 10, "nothing arrived"
    for name, user_id, document in heard:
        then = reads.at(cut_of(document))
        expected = then.orders() if name == "orders" else getattr(then, name)(user_id)
        assert not isinstance(expected, NotFound)
        if "items" in expected:
            assert document["items"] == expected["items"][:200], name
            assert (document["next_cursor"] is None) == (len(expected["items"]) <= 200)
        else:
            ignored = ("as_of", "at_us") if name == "balance" else ("as_of",)
            assert {key: value for key, value in document.items() if key not in ignored} == {
                key: value for key, value in expected.items() if key not in ignored
            }, name


def test_the_queue_draws_on_every_partition(client: Client) -> None:
    document = client.read("/v1/orders", limit=1)
    assert sorted(cut_of(document)) == list(range(PARTITIONS))
    assert document["as_of"]["positions"] == sorted(document["as_of"]["positions"])


def test_nothing_is_missing_in_a_quiet_service(client: Client) -> None:
    ends = positions(ends_of(client.reads()))
    assert client.read("/v1/orders", min_position=ends)["as_of"]["lag_ms"] == 0


def test_reads_are_the_same_after_a_kill(tmp_path: Path) -> None:
    service = Service(tmp_path / "data", PARTITIONS=str(PARTITIONS))
    with service:
        with Client(service) as client:
            user_id = fresh(client)
            acknowledged = client.post(user_id, "place_bet", **bet("b1", 5))
            before = client.read(f"/v1/wallets/{user_id}/history", min_position=acknowledged["position"])
        service.kill()
        service.start()
        with Client(service) as client:
            acknowledged = client.post(user_id, "settle_bet", bet_id="b1", payout=9)
            after = client.read(f"/v1/wallets/{user_id}/history", min_position=acknowledged["position"])
            assert after["items"][1:] == before["items"]
            assert [item["position"] for item in after["items"][:1]] == [acknowledged["position"]]


# --- what one has written, one reads -----------------------------------------------------------------------------


def test_a_read_at_the_position_of_a_command_includes_it(client: Client, wallet: str) -> None:
    at = f"/v1/wallets/{wallet}"
    for number in range(15):
        placed = client.post(wallet, "place_bet", **bet(f"b{number}", 10))
        seen = {"min_position": placed["position"]}
        assert client.read(f"{at}/bets/b{number}", **seen)["status"] == "open"
        assert client.read(f"{at}/history", limit=1, **seen)["items"][0]["position"] == placed["position"]
        settled = client.post(wallet, "settle_bet", bet_id=f"b{number}", payout=number)
        seen = {"min_position": settled["position"]}
        bets = client.read(f"{at}/bets", limit=1, **seen)["items"]
        assert (bets[0]["bet_id"], bets[0]["payout"]) == (f"b{number}", number)
        assert client.read(f"{at}/stats", **seen)["totals"][0]["bets"] == number + 1
        order_id = f"o{number}"
        deposited = client.post(wallet, "deposit", order_id=order_id, **inr(5))
        seen = {"min_position": deposited["position"]}
        balance = deposited["balances"]["INR"]
        assert client.read(at, **seen)["balances"]["INR"] == {
            **balance,
            "available": balance["cash"],
            "withdrawable": balance["cash"],
        }
        assert client.read(f"{at}/balance", **seen)["balances"]["INR"] == balance
        assert client.read(f"/v1/orders/{wallet}/{order_id}", **seen)["position"] == deposited["position"]
        newest = client.read("/v1/orders", limit=1, **seen)["items"][0]
        assert (newest["user_id"], newest["order_id"]) == (wallet, order_id)


def test_a_wallet_is_found_as_soon_as_its_opening_is_reached(client: Client) -> None:
    for number in range(10):
        opened = client.post(f"new{number}", "open_wallet")
        document = client.read(f"/v1/wallets/new{number}", min_position=opened["position"])
        assert document["opened_at_us"] == opened["time_us"]


def test_a_strong_read_knows_what_was_acknowledged_before_it(client: Client, wallet: str) -> None:
    for number in range(20):
        deposited = client.post(wallet, "deposit", order_id=f"o{number}", **inr(5))
        document = client.read(f"/v1/wallets/{wallet}", consistency="strong")
        assert document["balances"]["INR"]["cash"] == deposited["balances"]["INR"]["cash"]
        (at,) = cut_of(document).values()
        assert at >= deposited["seq"]
        assert document["as_of"]["lag_ms"] == 0


def test_a_strong_read_and_a_plain_one_say_the_same(client: Client) -> None:
    for user_id in ("anna", "bob", "carl", "dora", "erin", "frank"):
        strong = client.read(f"/v1/wallets/{user_id}", consistency="strong")
        plain = client.read(f"/v1/wallets/{user_id}", min_position=strong["as_of"]["position"])
        assert {**strong, "as_of": None} == {**plain, "as_of": None}


def test_only_the_wallet_is_read_strongly(client: Client) -> None:
    for target in ("/v1/wallets/anna/bets", "/v1/wallets/anna/stats", "/v1/orders"):
        assert_problem(client.ask(f"{target}?consistency=strong"), 400, "malformed_request", "consistency")
    assert_problem(client.ask("/v1/wallets/anna?consistency=weak"), 400, "malformed_request", "consistency")


@pytest.mark.parametrize("target", ["/v1/wallets/anna", "/v1/wallets/anna/stats", "/v1/orders"])
def test_a_position_that_is_not_reached_in_time_is_not_yet_visible(client: Client, target: str) -> None:
    partition = partition_of(client, "anna")
    began_s = time.monotonic()
    answer = client.ask(f"{target}?min_position={partition}:{SEQ_MAX}&timeout_ms=150")
    assert_problem(answer, 504, "not_yet_visible")
    assert time.monotonic() - began_s >= 0.15
    assert_problem(client.ask(f"{target}?min_position={partition}:{SEQ_MAX}&timeout_ms=0"), 504, "not_yet_visible")


def test_a_read_waits_2_seconds_for_a_position_by_default(client: Client) -> None:
    began_s = time.monotonic()
    partition = partition_of(client, "anna")
    assert_problem(client.ask(f"/v1/wallets/anna/bets?min_position={partition}:{SEQ_MAX}"), 504, "not_yet_visible")
    assert time.monotonic() - began_s >= 2.0


def test_a_read_returns_as_soon_as_its_position_is_reached(service: Service, client: Client, wallet: str) -> None:
    here = client.read(f"/v1/wallets/{wallet}", consistency="strong")["as_of"]["position"]
    partition, seq = here.split(":")

    def late() -> None:
        time.sleep(0.3)
        with Client(service) as other:
            other.post(wallet, "deposit", order_id="late", **inr(5))

    thread = threading.Thread(target=late)
    thread.start()
    began_s = time.monotonic()
    target = f"/v1/orders/{wallet}/late?min_position={partition}:{int(seq) + 1}&timeout_ms=10000"
    order = client.ask(target)
    thread.join()
    assert (order.status, order.json()["order_id"]) == (200, "late")
    assert 0.25 < time.monotonic() - began_s < 9, "its time limit is 10 s"


def test_several_positions_are_all_waited_for(client: Client) -> None:
    ends = ends_of(client.reads())
    assert len(ends) == PARTITIONS
    client.read("/v1/orders", min_position=positions(ends))
    partition = max(ends)
    least = positions({**ends, partition: SEQ_MAX})
    assert_problem(client.ask(f"/v1/orders?min_position={least}&timeout_ms=20"), 504, "not_yet_visible")
    here = partition_of(client, "anna")
    both = f"{here}:1,{here}:{ends[here]}"
    assert cut_of(client.read("/v1/wallets/anna", min_position=both))[here] >= ends[here]


# --- what is not there, and what is malformed ----------------------------------------------------------------------

ONE_WALLET: Final = ("", "/balance", "/history", "/bets", "/bets/b", "/holds", "/holds/h", "/transfers/t", "/stats")
MORE_LISTS: Final = ("/v1/wallets/anna/transfers", "/v1/wallets/anna/grants", "/v1/adjustments")
READS_OF_ANNA: Final = (
    *(f"/v1/wallets/anna{path}" for path in ("", "/balance", "/history", "/bets", "/bets/b1", "/holds", "/holds/h1")),
    *("/v1/wallets/anna/transfers/t1", "/v1/wallets/anna/stats", "/v1/wallets/anna/referrals", "/v1/orders/anna/o1"),
)
LISTS: Final = (
    *("/v1/wallets/anna/history", "/v1/wallets/anna/bets", "/v1/wallets/anna/holds", "/v1/orders"),
    *MORE_LISTS,
)
EVERY_READ: Final = (*READS_OF_ANNA, "/v1/orders")


@pytest.mark.parametrize("user_id", [STRANGER, GHOST, "Anna", "partition"])
def test_a_wallet_that_was_never_opened_is_not_found_whatever_else_it_has(client: Client, user_id: str) -> None:
    for path in (*ONE_WALLET, "/referrals"):
        assert_problem(client.ask(f"/v1/wallets/{user_id}{path}"), 404, "wallet_not_found")
    assert_problem(client.ask(f"/v1/orders/{user_id}/o1"), 404, "wallet_not_found")
    assert_problem(client.ask(f"/v1/wallets/{user_id}?consistency=strong"), 404, "wallet_not_found")
    assert_problem(client.ask(f"/v1/wallets/{user_id}", If_None_Match="*"), 404, "wallet_not_found")


def test_a_user_without_a_wallet_has_events(client: Client) -> None:
    types = {event["type"] for event in client.reads().events if event["user_id"] == STRANGER}
    assert types == {"referral_void", "transfer_refused"}


def test_a_wallet_with_earlier_events_is_found_once_it_was_opened(client: Client, wallet: str) -> None:
    client.post(wallet, "transfer", transfer_id="t", to_user_id="latecomer", **inr(5))
    until(lambda: any(event["user_id"] == "latecomer" for event in client.reads().events))
    assert_problem(client.ask("/v1/wallets/latecomer"), 404, "wallet_not_found")
    opened = client.post("latecomer", "open_wallet")
    document = client.read("/v1/wallets/latecomer", min_position=opened["position"])
    assert (document["status"], document["balances"]) == ("open", {})


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/v1/wallets/anna/bets/b9", "bet_not_found"),
        ("/v1/wallets/anna/bets/never", "bet_not_found"),
        ("/v1/wallets/bob/bets/b1", "bet_not_found"),
        ("/v1/wallets/anna/bets/b", "bet_not_found"),
        ("/v1/wallets/anna/bets/b_", "bet_not_found"),
        ("/v1/wallets/anna/holds/H1", "hold_not_found"),
        ("/v1/wallets/carl/holds/h1", "hold_not_found"),
        ("/v1/wallets/anna/transfers/T1", "transfer_not_found"),
        ("/v1/wallets/bob/transfers/t1", "transfer_not_found"),
        ("/v1/orders/anna/g1", "order_not_found"),
        ("/v1/orders/bob/o1", "order_not_found"),
        ("/v1/orders/anna/W1", "order_not_found"),
        ("/v1/wallets/anna/nothing", "not_found"),
    ],
)
def test_an_item_that_the_wallet_lacks_is_not_found(client: Client, target: str, code: str) -> None:
    assert_problem(client.ask(target), 404, code)


@pytest.mark.parametrize("encoded", [quote(ODD, safe=""), "".join(f"%{byte:02x}" for byte in ODD.encode())])
def test_an_id_keeps_its_slashes_and_signs(client: Client, encoded: str) -> None:
    assert client.read(f"/v1/wallets/anna/bets/{encoded}")["bet_id"] == ODD
    assert client.read(f"/v1/wallets/anna/holds/{encoded}")["hold_id"] == ODD
    assert client.read(f"/v1/wallets/anna/transfers/{encoded}")["transfer_id"] == ODD
    assert client.read(f"/v1/orders/anna/{encoded}")["order_id"] == ODD
    assert client.read(f"/v1/wallets/%61nna/bets/{encoded}")["bet_id"] == ODD


@pytest.mark.parametrize("user_id", ["%ff", "%00", "game:x", "partition:1", "~", "a" * 65, "anna%0A", "%C3%A9"])
def test_a_malformed_user_id_in_a_path_is_named(client: Client, user_id: str) -> None:
    for path in (*ONE_WALLET, "/referrals"):
        assert_problem(client.ask(f"/v1/wallets/{user_id}{path}"), 400, "malformed_request", "user_id")
    assert_problem(client.ask(f"/v1/orders/{user_id}/o1"), 400, "malformed_request", "user_id")


@pytest.mark.parametrize("id_", ["%ff", "%20", "%00", "a" * 129, "%C3%A9", "b1%0A"])
def test_a_malformed_id_in_a_path_is_named(client: Client, id_: str) -> None:
    for path, field in (("bets", "bet_id"), ("holds", "hold_id"), ("transfers", "transfer_id")):
        assert_problem(client.ask(f"/v1/wallets/anna/{path}/{id_}"), 400, "malformed_request", field)
    assert_problem(client.ask(f"/v1/orders/anna/{id_}"), 400, "malformed_request", "order_id")


@pytest.mark.parametrize("target", EVERY_READ)
def test_an_unknown_query_parameter_is_named(client: Client, target: str) -> None:
    assert_problem(client.ask(f"{target}?unknown=1"), 400, "malformed_request", "unknown")
    assert_problem(client.ask(f"{target}?timeout_ms=5&timeout_ms=5"), 400, "malformed_request", "timeout_ms")
    assert_problem(client.ask(f"{target}?timeout_ms=5&%ff=1"), 400, "malformed_request")


@pytest.mark.parametrize("target", [read for read in EVERY_READ if read not in LISTS])
def test_what_is_no_list_has_no_pages(client: Client, target: str) -> None:
    assert_problem(client.ask(f"{target}?limit=5"), 400, "malformed_request", "limit")
    assert_problem(client.ask(f"{target}?cursor=x"), 400, "malformed_request", "cursor")


def test_malformed_takes_precedence_over_not_found(client: Client) -> None:
    assert_problem(client.ask(f"/v1/wallets/{GHOST}/bets?limit=0"), 400, "malformed_request", "limit")
    assert_problem(client.ask(f"/v1/wallets/{GHOST}?unknown=1"), 400, "malformed_request", "unknown")


@pytest.mark.parametrize("limit", ["0", "201", "abc", "-1", "+1", "1.0", "", "%D9%A1", "9" * 5_000])
@pytest.mark.parametrize("target", LISTS)
def test_a_limit_that_is_not_from_1_to_200_is_malformed(client: Client, target: str, limit: str) -> None:
    assert_problem(client.ask(f"{target}?limit={limit}"), 400, "malformed_request", "limit")


@pytest.mark.parametrize("target", LISTS)
def test_a_limit_of_1_or_200_is_taken(client: Client, target: str) -> None:
    assert len(client.read(target, limit=1)["items"]) == 1
    client.read(target, limit=200)


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/v1/wallets/anna/balance?at_us=abc", "at_us"),
        ("/v1/wallets/anna/balance?at_us=", "at_us"),
        ("/v1/wallets/anna/balance?at_us=1.5", "at_us"),
        ("/v1/wallets/anna/balance?at_us=" + "9" * 5_000, "at_us"),
        ("/v1/wallets/anna/history?from_us=abc", "from_us"),
        ("/v1/wallets/anna/history?to_us=abc", "to_us"),
        ("/v1/wallets/anna/history?status=open", "status"),
        ("/v1/wallets/anna/bets?status=banana", "status"),
        ("/v1/wallets/anna/bets?status=OPEN", "status"),
        ("/v1/wallets/anna/bets?asset=INR", "asset"),
        ("/v1/orders?kind=banana", "kind"),
        ("/v1/orders?status=banana", "status"),
        ("/v1/orders?user_id=~", "user_id"),
    ],
)
def test_a_malformed_filter_is_named(client: Client, target: str, field: str) -> None:
    assert_problem(client.ask(target), 400, "malformed_request", field)


@pytest.mark.parametrize("target", EVERY_READ)
def test_a_malformed_or_foreign_position_is_named(client: Client, target: str) -> None:
    here = partition_of(client, "anna")
    for text in ("", "x", "1", f"{here}:", f"{here}:x", f"{here}:-1", f"{here}:1,", f"{here}:1;{here}:2", "%D9%A1:1"):
        answer = client.ask(f"{target}?min_position={text}")
        assert_problem(answer, 400, "malformed_request", "min_position")
    other = (here + 1) % PARTITIONS
    foreign = [f"{PARTITIONS}:1", f"{here}:1,{PARTITIONS}:1"]
    if target != "/v1/orders":
        foreign += [f"{other}:1", f"{here}:1,{other}:1"]
    for text in foreign:
        answer = client.ask(f"{target}?min_position={text}")
        assert_problem(answer, 400, "malformed_request", "min_position")


@pytest.mark.parametrize("target", EVERY_READ)
def test_a_time_out_beyond_10_seconds_is_malformed(client: Client, target: str) -> None:
    for text in ("10001", "-1", "abc", "", "1.5"):
        assert_problem(client.ask(f"{target}?timeout_ms={text}"), 400, "malformed_request", "timeout_ms")
    assert client.ask(f"{target}?timeout_ms=10000").status == 200


@pytest.mark.parametrize("target", EVERY_READ)
def test_a_read_is_only_read(client: Client, target: str) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        response = client.ask(target, method)
        assert (response.status, response.headers["allow"]) == (405, "GET, HEAD"), method
        assert_problem(response, 405, "method_not_allowed")


@pytest.mark.parametrize("target", EVERY_READ)
def test_head_returns_the_headers_of_get_without_a_body(client: Client, target: str) -> None:
    get, head = client.ask(target), client.ask(target, "HEAD")
    assert (head.status, head.headers["content-type"]) == (200, get.headers["content-type"])
    assert int(head.headers["content-length"]) > 0
    assert head.body == b""


# --- pages ---------------------------------------------------------------------------------------------------------


_TURN_S: Final = 0.01
"""Between two pages, so that something is written meanwhile."""


class Writing:
    """A client that posts all the time, in a thread: ``with Writing(service, does): …``.

    ``does`` is called with its client again and again, for as long as the block lasts.
    """

    def __init__(self, service: Service, does: Callable[[Client], None]) -> None:
        self._service, self._does = service, does
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _write(self) -> None:
        try:
            with Client(self._service) as client:
                while not self._stop.is_set():
                    self._does(client)
                    time.sleep(0.001)  # the readers want a core too
        except Exception as error:  # noqa: BLE001 - told to the test when the block ends
            self._failure = error


def betting(client: Client, users: list[str]) -> None:
    """A few of the things that happen to wallets."""
    name = new_id()
    user_id = random.choice(users)
    client.post(user_id, "place_bet", **bet(name, 10))
    match random.randrange(5):
        case 0:
            client.post(user_id, "cancel_bet", bet_id=name)
        case 1:
            client.post(user_id, "settle_bet", bet_id=name, payout=random.choice((0, 20)))
        case 2:
            client.post(user_id, "hold", hold_id=name, **inr(5))
            client.post(user_id, "capture_hold", hold_id=name, amount=3)
        case 3:
            client.post(user_id, "request_withdrawal", order_id=name, **inr(5))
        case _:
            client.post(user_id, "deposit", order_id=name, **inr(5), bonus=1)


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_pages_are_the_list_in_pieces(client: Client, limit: int) -> None:
    reads = client.reads()
    for target, expected in (
        ("/v1/wallets/anna/history?asset=INR&type=bet_placed", reads.history("anna", asset="INR", type="bet_placed")),
        ("/v1/wallets/anna/bets?status=won", reads.bets("anna", status="won")),
        ("/v1/wallets/anna/bets?game=external&period=r%2F1", reads.bets("anna", game="external", period="r/1")),
        ("/v1/wallets/anna/holds", reads.holds("anna")),
    ):
        assert not isinstance(expected, NotFound)
        assert len(expected["items"]) > 1
        pages = client.walk(target, limit)
        assert [item for page in pages for item in page.items] == expected["items"]
        assert all(len(page.items) == limit for page in pages[:-1])
        assert pages[-1].items, "the last page is the one with the last item"


def test_a_page_has_50_items_by_default(client: Client, wallet: str) -> None:
    client.post_many([client.command(wallet, "deposit", order_id=f"o{n}", **inr(1)) for n in range(60)])
    position = client.post(wallet, "deposit", order_id="last", **inr(1))["position"]
    assert len(client.read(f"/v1/wallets/{wallet}/history", min_position=position)["items"]) == 50
    assert len(client.read("/v1/orders", min_position=position)["items"]) == 50


def test_a_walk_may_change_its_limit_and_may_be_walked_again(client: Client) -> None:
    target = "/v1/wallets/anna/history"
    first = client.read(target, limit=3)
    second = client.read(target, limit=2, cursor=first["next_cursor"])
    assert client.read(target, limit=2, cursor=first["next_cursor"])["items"] == second["items"]
    whole = client.read(target, limit=5)["items"]
    assert first["items"] + second["items"] == whole


@pytest.mark.parametrize(
    ("target", "others"),
    [
        (
            "/v1/wallets/anna/history?asset=INR",
            (
                *("/v1/wallets/anna/history", "/v1/wallets/anna/history?asset=GOLD"),
                *(
                    "/v1/wallets/anna/history?asset=INR&type=deposited",
                    "/v1/wallets/anna/history?asset=INR&from_us=1795438800000000",
                ),
                *("/v1/wallets/carl/history?asset=INR", "/v1/wallets/anna/bets", "/v1/orders"),
            ),
        ),
        (
            "/v1/wallets/anna/bets",
            (
                *("/v1/wallets/anna/bets?status=open", "/v1/wallets/anna/bets?game=external"),
                *("/v1/wallets/anna/bets?period=r%2F1", "/v1/wallets/carl/bets", "/v1/wallets/anna/holds"),
            ),
        ),
        ("/v1/wallets/anna/holds", ("/v1/wallets/carl/holds", "/v1/wallets/anna/history")),
        ("/v1/orders?kind=withdrawal", ("/v1/orders", "/v1/orders?kind=deposit", "/v1/wallets/anna/bets")),
    ],
)
def test_a_cursor_of_another_list_or_filter_is_malformed(
    client: Client, target: str, others: tuple[str, ...]
) -> None:
    cursor = client.read(target, limit=1)["next_cursor"]
    assert isinstance(cursor, str)
    client.read(target, limit=1, cursor=cursor)
    for other in others:
        answer = client.ask(with_params(other, {"limit": 1, "cursor": cursor}))
        assert_problem(answer, 400, "malformed_request", "cursor")


@pytest.mark.parametrize(
    "cursor", ["", "x", "=", "AAAA", "%00", "%ff%fe", "ä", "e30=", "bnVsbA==", "W10=", "A" * 5_000]
)
@pytest.mark.parametrize("target", LISTS)
def test_a_malformed_cursor_is_named(client: Client, target: str, cursor: str) -> None:
    answer = client.ask(f"{target}?cursor={quote(cursor, safe='%=')}")
    field = None if "%ff" in cursor else "cursor"  # what is no text at all is refused before it has a name
    assert_problem(answer, 400, "malformed_request", field)


def test_a_history_is_walked_without_gap_or_repeat_while_it_grows(
    service: Service, client: Client, wallet: str
) -> None:
    client.post_many([client.command(wallet, "deposit", order_id=f"o{n}", **inr(1)) for n in range(120)])

    def grow(writer: Client) -> None:
        writer.post(wallet, "deposit", order_id=new_id(), **inr(1))

    with Writing(service, grow):
        pages = client.walk(f"/v1/wallets/{wallet}/history", 5, _TURN_S)
    assert pages[0].as_of != pages[-1].as_of, "nothing was written meanwhile"
    assert len(pages) >= 24
    assert_walked(pages, client.reads(), lambda at: at.history(wallet))


@pytest.mark.parametrize("status", ["open", "lost"])
def test_bets_of_one_status_are_walked_while_it_changes(
    service: Service, client: Client, wallet: str, status: str
) -> None:
    client.post_many([client.command(wallet, "place_bet", **bet(f"b{n}", 1)) for n in range(150)])
    client.post_many([client.command(wallet, "settle_bet", bet_id=f"b{n}", payout=0) for n in range(0, 150, 3)])
    to_settle = [f"b{n}" for n in range(150) if n % 3]
    random.Random(3).shuffle(to_settle)

    def settle(writer: Client) -> None:
        if to_settle:
            writer.post(wallet, "settle_bet", bet_id=to_settle.pop(), payout=random.choice((0, 5)))
        writer.post(wallet, "place_bet", **bet(new_id(), 1))

    seen = client.post(wallet, "deposit", order_id="o", **inr(1))["position"]
    target = f"/v1/wallets/{wallet}/bets"
    with Writing(service, settle):
        pages = client.walk(target, 4, _TURN_S, status=status, min_position=seen)
    reads = client.reads()
    assert_walked(pages, reads, lambda at, **more: at.bets(wallet, **more), status=status)
    shown = {item["status"] for page in pages for item in page.items}
    assert (len(shown) > 1) == (status == "open"), "what was settled meanwhile is shown as it is by then"


def test_the_queue_of_pending_withdrawals_is_walked_while_they_are_approved(service: Service, client: Client) -> None:
    users = [fresh(client) for _ in range(8)]
    pending = [(user_id, f"w{n}") for n in range(15) for user_id in users]
    client.post_many([client.command(user, "request_withdrawal", order_id=name, **inr(1)) for user, name in pending])
    random.Random(5).shuffle(pending)
    ends = positions(ends_of(client.reads()))

    def approve(writer: Client) -> None:
        if pending:
            user_id, order_id = pending.pop()
            writer.post(user_id, random.choice(("approve_withdrawal", "reject_withdrawal")), order_id=order_id)
        writer.post(random.choice(users), "request_withdrawal", order_id=new_id(), **inr(1))

    with Writing(service, approve):
        pages = client.walk("/v1/orders", 4, _TURN_S, kind="withdrawal", status="pending", min_position=ends)
    reads = client.reads()
    assert len({partition for partition, seq in pages[0].as_of.items() if seq}) > 1
    assert_walked(
        pages, reads, lambda at, **more: at.orders(kind="withdrawal", **more), may_add=True, status="pending"
    )
    assert {item["status"] for page in pages for item in page.items} == {"pending", "approved", "rejected"}


# --- ETags ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/stats"])
def test_what_has_not_changed_is_not_sent_again(client: Client, wallet: str, path: str) -> None:
    target = f"/v1/wallets/{wallet}{path}"
    seen = client.post(wallet, "place_bet", **bet("b1", 5))["position"]
    etag = client.ask(f"{target}?min_position={seen}").headers["etag"]
    assert etag.startswith('W/"'), "as_of is not covered, so it is weak"
    strong = etag.removeprefix("W/")
    for tags in (etag, strong, f'"other", {etag}', f'W/"a,b" , {strong},"x"', "*"):
        answer = client.ask(target, If_None_Match=tags)
        assert (answer.status, answer.body) == (304, b""), tags
        assert answer.headers["etag"] == etag
    for tags in ('"other"', 'W/"other", "another"', strong.strip('"'), f'"{strong.strip(chr(34))}x"', ""):
        answer = client.ask(target, If_None_Match=tags)
        assert answer.status == 200, tags
        assert answer.headers["etag"] == etag


def test_the_tag_changes_only_with_what_is_said(client: Client, wallet: str) -> None:
    partition = partition_of(client, wallet)
    while partition_of(client, neighbour := fresh(client)) != partition:
        pass

    def tags(position: str) -> tuple[str, str]:
        targets = (f"/v1/wallets/{wallet}", f"/v1/wallets/{wallet}/stats")
        answers = [client.ask(f"{target}?min_position={position}") for target in targets]
        assert cut_of(answers[0].json())[partition] >= int(position.split(":")[1])
        return answers[0].headers["etag"], answers[1].headers["etag"]

    before = tags(client.post(wallet, "deposit", order_id="o1", **inr(5))["position"])
    assert before[0] != before[1]
    assert tags(client.post(neighbour, "deposit", order_id="o2", **inr(5))["position"]) == before
    frozen = tags(client.post(wallet, "freeze_wallet", reason="r")["position"])
    assert (frozen[0] != before[0], frozen[1]) == (True, before[1])
    thawed = tags(client.post(wallet, "unfreeze_wallet", reason="r")["position"])
    assert thawed == before, "it says the same again"
    after = tags(client.post(wallet, "place_bet", **bet("b1", 5))["position"])
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_a_tag_that_is_old_once_the_position_is_reached_gets_the_new_document(client: Client, wallet: str) -> None:
    target = f"/v1/wallets/{wallet}"
    etag = client.ask(target).headers["etag"]
    for number in range(10):
        deposited = client.post(wallet, "deposit", order_id=f"o{number}", **inr(5))
        answer = client.ask(f"{target}?min_position={deposited['position']}", If_None_Match=etag)
        assert answer.status == 200
        assert answer.json()["balances"]["INR"]["cash"] == deposited["balances"]["INR"]["cash"]
        assert answer.headers["etag"] != etag
        etag = answer.headers["etag"]


def test_wallets_that_say_different_things_have_different_tags(client: Client) -> None:
    users = ("anna", "bob", "carl", "dora", "erin", "frank")
    assert len({client.ask(f"/v1/wallets/{user_id}").headers["etag"] for user_id in users}) == len(users)


# --- compression ---------------------------------------------------------------------------------------------------


def test_a_large_response_is_compressed_for_a_client_that_accepts_it(client: Client) -> None:
    target = "/v1/wallets/anna/history?limit=200"
    plain = client.ask(target)
    assert len(plain.body) > 5_000
    assert "content-encoding" not in plain.headers
    for accepted in ("gzip", "deflate, gzip;q=0.5", "br, GZIP"):
        packed = client.ask(target, Accept_Encoding=accepted)
        assert packed.headers["content-encoding"] == "gzip", accepted
        assert int(packed.headers["content-length"]) == len(packed.body) < len(plain.body) / 2
        assert json.loads(gzip.decompress(packed.body))["items"] == plain.json()["items"]
        for answer in (packed, plain):  # or a cache would give the one for the other
            assert "accept-encoding" in answer.headers["vary"].lower()
    for refused in ("identity", "br", "gzip;q=0", "gzip;q=0.0, *", ""):
        assert "content-encoding" not in client.ask(target, Accept_Encoding=refused).headers, refused


def test_a_small_response_is_not_compressed(client: Client) -> None:
    for target in ("/v1/wallets/erin", "/v1/wallets/erin/stats", f"/v1/wallets/{GHOST}", "/v1/orders/anna/w1"):
        answer = client.ask(target, Accept_Encoding="gzip")
        assert "content-encoding" not in answer.headers
        assert answer.json()


def test_problems_and_records_are_what_they_were_for_who_takes_gzip(client: Client) -> None:
    plain = client.ask("/v1/events?partition=0")
    packed = client.ask("/v1/events?partition=0", Accept_Encoding="gzip")
    body = gzip.decompress(packed.body) if packed.headers.get("content-encoding") == "gzip" else packed.body
    assert body.startswith(plain.body)


# --- leaderboards -------------------------------------------------------------------------------------------------


def test_a_leaderboard_is_what_the_bets_of_its_days_say(client: Client, wallet: str) -> None:
    client.post(wallet, "place_bet", **bet("leader", 700))
    last = client.post(wallet, "settle_bet", bet_id="leader", payout=1_900)
    for name in ("staked_day", "won_week", "net_month"):
        found = client.read(f"/v1/leaderboards/{name}", asset="INR", limit=200, min_position=last["position"])
        as_of = cut_of(found)
        del found["as_of"]
        assert found == client.reads().at(as_of).leaderboard(name, "INR", last["time_us"], 200)
        assert wallet in {item["user_id"] for item in found["items"]}


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/v1/leaderboards/lost_day?asset=INR", 404, "not_found"),
        ("/v1/leaderboards/staked_year?asset=INR", 404, "not_found"),
        ("/v1/leaderboards/staked_day", 400, "malformed_request"),
        ("/v1/leaderboards/staked_day?asset=", 400, "malformed_request"),
        ("/v1/leaderboards/staked_day?asset=INR&at_us=now", 400, "malformed_request"),
        ("/v1/leaderboards/staked_day?asset=INR&limit=201", 400, "malformed_request"),
        ("/v1/leaderboards/staked_day?asset=INR&cursor=x", 400, "malformed_request"),
    ],
)
def test_a_leaderboard_with_wrong_parameters_is_refused(client: Client, target: str, status: int, code: str) -> None:
    answer = client.ask(target)
    assert (answer.status, answer.json()["code"]) == (status, code)
