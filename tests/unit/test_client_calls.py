"""The client library against a small service in memory, whose faults the test chooses."""

import asyncio
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx
import msgspec
import pytest

from stakelog_client import (
    AsyncClient,
    ChainBroken,
    NotYetVisible,
    OutcomeUnknown,
    Unavailable,
    UnexpectedResponse,
    refusals,
)
from stakelog_client.batching import BATCH_MAX

Fault = httpx.Response | Exception | None


def problem(status: int, code: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": f"urn:stakelog:problem:{code}",
        "title": code,
        "status": status,
        "detail": f"because of {code}",
        "code": code,
        **fields,
    }


def refused(status: int, code: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, json=problem(status, code), headers=headers)


class SmallService:
    """Accepts each command once. `faults`: what the next requests get instead; `failing`: users whose commands fail.

    `after`: faults that come after the commands were carried out: the response is lost.
    """

    def __init__(self) -> None:
        self.written: list[tuple[str, str]] = []
        self.bodies: dict[tuple[str, str], Any] = {}
        self.requests: list[tuple[str, str, int]] = []
        """Method, path with query, and how many commands."""
        self.faults: list[Fault] = []
        self.after: list[Fault] = []
        self.login_faults: list[Fault] = []
        self.failing: dict[str, str] = {}
        self.look_ups = False
        """Whether commands can be looked up, whatever else does not work. Once one is found, all works again."""
        self.hold: asyncio.Event | None = None
        """While it is not set, no request but a look-up gets a response."""
        self.arrived = asyncio.Event()
        self.tokens: list[str] = []
        self.valid: str | None = None

    async def respond(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if path.startswith("/v1/auth/"):
            return self._next(self.login_faults) or self._log_in(path)
        body = msgspec.json.decode(request.content) if request.content else []
        commands = body if isinstance(body, list) else [body]
        self.requests.append((request.method, path, len(commands)))
        self.arrived.set()
        if self.look_ups and path.startswith("/v1/commands/u/"):
            found = ("u", path.rpartition("/")[2])
            if found not in self.written:
                return refused(404, "not_found")
            self.faults.clear()
            return httpx.Response(200, json=self._result(self.written.index(found) + 1))
        if self.hold is not None:
            await self.hold.wait()
        if self.valid is not None and request.headers.get("Authorization") != f"Bearer {self.valid}":
            return refused(401, "unauthenticated")
        if (fault := self._next(self.faults)) is not None:
            return fault
        if request.method == "GET":
            return httpx.Response(200, json={"items": []})
        failed: set[str] = set()
        outcomes = [self._decide(command, failed) for command in commands]
        if (fault := self._next(self.after)) is not None:
            return fault
        if isinstance(body, list):
            return httpx.Response(200, json=outcomes)
        one = outcomes[0]
        return httpx.Response(one["status"], json=one.get("result") or one["problem"])

    def _next(self, faults: list[Fault]) -> httpx.Response | None:
        fault = faults.pop(0) if faults else None
        if isinstance(fault, Exception):
            raise fault
        return fault

    def _log_in(self, path: str) -> httpx.Response:
        self.tokens.append(path)
        self.valid = f"token-{len(self.tokens)}"
        return httpx.Response(200, json={"access_token": self.valid, "refresh_token": "r", "expires_in": 900})

    def _decide(self, command: dict[str, Any], failed: set[str]) -> dict[str, Any]:
        user_id, command_id = command["user_id"], command["command_id"]
        if user_id in failed or user_id in self.failing:
            failed.add(user_id)
            return {"status": 503, "problem": problem(503, self.failing[user_id])}
        if command.get("amount") == 0:
            return {"status": 422, "problem": problem(422, "amount_out_of_range", field="amount")}
        if (user_id, command_id) not in self.written:
            self.written.append((user_id, command_id))
            self.bodies[user_id, command_id] = command
        if self.bodies[user_id, command_id] != command:
            return {"status": 409, "problem": problem(409, "command_id_reused")}
        return {"status": 201, "result": self._result(self.written.index((user_id, command_id)) + 1)}

    def _result(self, seq: int) -> dict[str, Any]:
        return {
            "position": f"0:{seq}",
            "partition": 0,
            "seq": seq,
            "time_us": 1,
            "type": "deposited",
            "data": {},
            "balances": {},
            "postings": [],
            "head": "0" * 64,
        }


@pytest.fixture
def service() -> SmallService:
    return SmallService()


@pytest.fixture
def client_of(service: SmallService) -> Callable[..., AsyncClient]:
    def make(*credentials: str, **options: Any) -> AsyncClient:
        return AsyncClient("http://service", *credentials, transport=httpx.MockTransport(service.respond), **options)

    return make


def deposit(client: AsyncClient, user_id: str, command_id: str, amount: int = 5, **options: Any) -> Any:
    return client.deposit(user_id, order_id=command_id, asset="INR", amount=amount, command_id=command_id, **options)


async def test_commands_that_wait_for_a_request_travel_together(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    async with client_of() as client:
        service.hold = asyncio.Event()
        first = asyncio.create_task(deposit(client, "u0", "c0"))
        await service.arrived.wait()
        others = [asyncio.create_task(deposit(client, f"u{n}", f"c{n}")) for n in range(1, 64)]
        await asyncio.sleep(0)
        service.hold.set()
        results = await asyncio.gather(first, *others)
    assert [count for _, _, count in service.requests] == [1, 63]
    assert [result.seq for result in results] == list(range(1, 65))


async def test_no_batch_is_larger_than_the_contract_allows(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    async with client_of() as client:
        await asyncio.gather(*(deposit(client, f"u{n}", f"c{n}") for n in range(BATCH_MAX + 500)))
    assert [count for _, _, count in service.requests] == [BATCH_MAX, 500]


async def test_a_refusal_is_an_exception_of_its_code_and_touches_no_other_command(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    async with client_of() as client:
        outcomes = await asyncio.gather(
            deposit(client, "u", "c1"),
            deposit(client, "u", "c2", 0),
            deposit(client, "u", "c3"),
            return_exceptions=True,
        )
    assert [getattr(outcome, "seq", type(outcome)) for outcome in outcomes] == [1, refusals.AmountOutOfRange, 2]
    assert getattr(outcomes[1], "fields", None) == {"field": "amount"}


async def test_a_lost_response_is_tried_again_under_the_same_id_and_written_once(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.after = [httpx.ReadError("lost"), refused(502, "internal_error")]
    async with client_of() as client:
        results = await asyncio.gather(*(deposit(client, "u", f"c{n}") for n in range(5)))
    assert service.written == [("u", f"c{n}") for n in range(5)]
    assert [result.seq for result in results] == [1, 2, 3, 4, 5]


async def test_commands_of_a_wallet_keep_their_order_when_they_are_tried_again_and_other_wallets_do_not_wait(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.failing = {"away": "not_owner"}
    async with client_of() as client:
        waiting = [asyncio.create_task(deposit(client, "away", f"a{n}")) for n in range(3)]
        assert (await deposit(client, "here", "h1")).seq == 1
        service.failing = {}
        waiting.append(asyncio.create_task(deposit(client, "away", "a3")))
        assert (await deposit(client, "here", "h2")).seq == 2
        await asyncio.gather(*waiting)
    assert [command_id for user_id, command_id in service.written if user_id == "away"] == ["a0", "a1", "a2", "a3"]


async def test_what_is_tried_again_goes_before_what_came_meanwhile(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.failing = {"away": "not_owner"}
    async with client_of() as client:
        first = asyncio.create_task(deposit(client, "away", "a1"))
        await deposit(client, "here", "h1")
        service.hold, service.arrived = asyncio.Event(), asyncio.Event()
        others = [asyncio.create_task(deposit(client, "here", "h2"))]
        await service.arrived.wait()
        others.append(asyncio.create_task(deposit(client, "away", "a2")))
        await asyncio.sleep(0.2)  # longer than the first pause: a1 is due when the request ends
        service.failing = {}
        service.hold.set()
        await asyncio.gather(first, *others)
    assert [command_id for user_id, command_id in service.written if user_id == "away"] == ["a1", "a2"]


async def test_a_later_attempt_that_wrote_nothing_does_not_make_an_earlier_one_definite(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.after = [httpx.ReadError("lost")]
    service.faults = [None, *(refused(503, "overloaded") for _ in range(100))]
    async with client_of() as client:
        with pytest.raises(OutcomeUnknown):
            await deposit(client, "u", "c", deadline_s=1)
    assert service.written == [("u", "c")]


async def test_an_unknown_outcome_is_looked_up_before_the_deadline(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.after = [httpx.ReadError("lost")]
    service.faults = [None, *(refused(503, "overloaded") for _ in range(100))]
    service.look_ups = True
    async with client_of() as client:
        assert (await deposit(client, "u", "c", deadline_s=2)).seq == 1
        service.hold, service.arrived = asyncio.Event(), asyncio.Event()
        service.faults = []
        waiting = asyncio.create_task(deposit(client, "u", "not-written", deadline_s=2))
        await service.arrived.wait()
        with pytest.raises(OutcomeUnknown):
            await waiting
    assert service.written == [("u", "c")]
    looked_up = [path for method, path, _ in service.requests if method == "GET"]
    assert looked_up == ["/v1/commands/u/c", "/v1/commands/u/not-written"]


async def test_an_id_that_another_command_has_is_no_success_after_an_unknown_outcome(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    """The look-up finds the other command. Its result was returned, and the money of this one was lost."""
    service.look_ups = True
    async with client_of() as client:
        assert (await deposit(client, "u", "c", 7)).seq == 1
        service.faults = [httpx.ReadError("lost"), *(refused(503, "overloaded") for _ in range(100))]
        with pytest.raises(refusals.CommandIdReused):
            await deposit(client, "u", "c", 5, deadline_s=2)
        service.hold = asyncio.Event()
        with pytest.raises(OutcomeUnknown):
            await deposit(client, "u", "c", 5, deadline_s=2)
    assert service.written == [("u", "c")]


async def test_a_command_without_a_definite_response_ends_as_outcome_unknown_at_its_deadline(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.hold = asyncio.Event()
    async with client_of() as client:
        with pytest.raises(OutcomeUnknown) as raised:
            await deposit(client, "u", "c", deadline_s=1)
        service.hold.set()
    assert (raised.value.user_id, raised.value.command_id) == ("u", "c")


async def test_a_command_that_the_service_did_not_write_is_unavailable_not_unknown(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    codes = ["overloaded", "log_unavailable", "shutting_down", "not_owner"]
    service.failing = {f"user-{code}": code for code in codes}
    async with client_of() as client:
        calls = [deposit(client, f"user-{code}", "c", deadline_s=1) for code in codes]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 4
    assert [str(outcome).rpartition(" ")[2] for outcome in outcomes] == codes


async def test_once_a_command_may_have_been_written_no_refusal_before_its_id_makes_it_definite(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.after = [httpx.ReadError("lost")]
    service.faults = [None, refused(403, "forbidden")]
    async with client_of() as client:
        with pytest.raises(OutcomeUnknown, match="forbidden"):
            await deposit(client, "u", "c")
    assert service.written == [("u", "c")]


async def test_a_refusal_of_the_ledger_after_a_lost_response_is_definite(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.faults = [httpx.ReadError("lost")]
    async with client_of() as client:
        with pytest.raises(refusals.AmountOutOfRange):
            await deposit(client, "u", "c", 0)


async def test_a_response_that_cannot_be_read_leaves_the_outcome_unknown(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.after = [httpx.Response(200, text="<html>welcome</html>")]
    async with client_of() as client:
        with pytest.raises(OutcomeUnknown, match="cannot be read"):
            await deposit(client, "u", "c")


async def test_an_address_of_another_service_raises_unexpected_response(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.faults = [httpx.Response(404, text="<html>not here</html>")]
    async with client_of() as client:
        with pytest.raises(UnexpectedResponse, match="not here"):
            await client.get_wallet("u")


async def test_a_closed_client_gives_each_caller_an_outcome(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.hold = asyncio.Event()
    client = client_of()
    sent = asyncio.create_task(deposit(client, "u", "c1"))
    await service.arrived.wait()
    queued = asyncio.create_task(deposit(client, "u", "c2"))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(OutcomeUnknown):
        await sent
    with pytest.raises(Unavailable):
        await queued


async def test_a_token_is_made_once_and_again_when_the_service_no_longer_accepts_it(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.valid = "another"
    async with client_of("casino", "secret") as client:
        await asyncio.gather(*(client.read("/v1/games", {}, dict, None, None) for _ in range(10)))
        assert service.tokens == ["/v1/auth/token"]
        service.valid = "revoked"
        assert (await deposit(client, "u", "c")).seq == 1
    assert service.tokens == ["/v1/auth/token", "/v1/auth/refresh"]


async def test_a_command_whose_login_fails_was_not_sent(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.login_faults = [httpx.ReadError("lost"), *(refused(500, "internal_error") for _ in range(100))]
    async with client_of("casino", "secret") as client:
        with pytest.raises(Unavailable, match="the login failed"):
            await deposit(client, "u", "c", deadline_s=1)
    assert service.written == []


async def test_tasks_whose_token_is_refused_at_once_renew_it_once(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.valid = "another"
    async with client_of("casino", "secret") as client:
        await client.read("/v1/games", {}, dict, None, None)
        service.valid = "revoked"
        await asyncio.gather(*(client.read("/v1/games", {}, dict, None, None) for _ in range(10)))
    assert service.tokens == ["/v1/auth/token", "/v1/auth/refresh"]


async def test_a_read_waits_for_what_this_client_has_written_of_the_user(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    async with client_of() as client:
        await deposit(client, "u", "c1")
        await deposit(client, "u", "c2")
        service.faults = [refused(504, "not_yet_visible")]
        await client.read("/v1/wallets/u", {}, dict, "u", None)
        await client.read("/v1/wallets/other", {}, dict, "other", None)
        service.faults = [refused(504, "not_yet_visible") for _ in range(100)]
        with pytest.raises(NotYetVisible):
            await client.read("/v1/wallets/u", {}, dict, "u", 1)
    reads = [path for method, path, _ in service.requests if method == "GET"]
    assert reads[:3] == ["/v1/wallets/u?min_position=0%3A2&timeout_ms=10000"] * 2 + ["/v1/wallets/other"]


async def test_the_pause_that_the_service_asks_for_is_kept(
    service: SmallService, client_of: Callable[..., AsyncClient]
) -> None:
    service.faults = [refused(429, "rate_limited", {"Retry-After": "1"})]
    began_s = time.monotonic()
    async with client_of() as client:
        await deposit(client, "u", "c")
    assert time.monotonic() - began_s >= 1


def record(seq: int, prev: str) -> bytes:
    return msgspec.json.encode(
        {
            "v": 1,
            "partition": 0,
            "seq": seq,
            "prev": prev,
            "time_us": seq,
            "user_id": "u",
            "command_id": f"c{seq}",
            "request_sha256": "0" * 64,
            "actor": "local",
            "type": "deposited",
            "data": {},
            "postings": [["wallet/u/cash", "INR", 5]],
            "balances": {"INR": {"cash": 5, "bonus": 0, "held": 0}},
        }
    )


@pytest.mark.parametrize("damaged", [None, 1, 2])
async def test_the_event_stream_is_checked_to_be_whole(
    service: SmallService, client_of: Callable[..., AsyncClient], damaged: int | None
) -> None:
    records: list[bytes] = []
    for seq in (1, 2, 3):
        records.append(record(seq, sha256(records[-1]).hexdigest() if records else "0" * 64))
    if damaged is not None:
        records[damaged - 1] = records[damaged - 1].replace(b'"INR",5', b'"INR",6')
    service.faults = [httpx.Response(200, content=b"".join(line + b"\n" for line in records)), httpx.Response(200)]
    async with client_of() as client:
        if damaged is None:
            events = [event async for event in client.events(0)]
            assert [event.seq for event in events] == [1, 2, 3]
            assert [event.record for event in events] == records
        else:
            with pytest.raises(ChainBroken, match=f"seq {damaged + 1}"):
                [event async for event in client.events(0)]
