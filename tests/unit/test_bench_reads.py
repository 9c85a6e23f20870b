"""What `stakelog bench` makes of the read side's answers, and the requests that it sends."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from bench.figures import BenchError, Slice
from bench.lab.programs import name_of
from bench.load import bodies
from bench.load.client import pool
from bench.load.freshness import Lag, following_of, includes, lag_of
from bench.load.paging import history_pages
from bench.report import page_text
from bench.yardsticks.bare_routes import bare_wallet
from ledger.core.commands import AnyCommand
from projections.models.wallets import Available, FirstDeposit, Limits, Wallet

EXPOSITION = """\
# HELP stakelog_read_model_lag_events Events that are not folded yet
# TYPE stakelog_read_model_lag_events gauge
stakelog_read_model_lag_events{partition="0"} 3.0
stakelog_read_model_lag_events{partition="1"} 1200.0
# TYPE stakelog_read_model_lag_seconds gauge
stakelog_read_model_lag_seconds{partition="0"} 0.002
stakelog_read_model_lag_seconds{partition="1"} 0.25
"""

ARRIVED = Slice(1000, 1.0, 1.0, 2.0, 3.0)


def test_the_lag_is_the_events_of_all_partitions_and_the_age_of_the_oldest() -> None:
    assert lag_of(EXPOSITION) == Lag(1203, 250.0)


def test_metrics_without_a_lag_end_the_measure() -> None:
    with pytest.raises(BenchError, match="no lag"):
        lag_of("stakelog_ready 1.0\n")


def test_a_stretch_of_looks_gives_the_median_and_the_worst_of_events_and_of_ages() -> None:
    looks = [Lag(5, 1.0), Lag(900, 90.0), Lag(7, 40.0)]
    came = following_of(ARRIVED, looks, Lag(60, 2.0), 0.5)
    assert (came.looks, came.events_median, came.events_max) == (3, 7, 900)
    assert (came.ms_median, came.ms_max) == (40.0, 90.0)
    assert (came.at_end.events, came.caught_up_s) == (60, 0.5)


def test_commands_that_arrived_before_the_first_look_are_not_a_measurement() -> None:
    with pytest.raises(BenchError):
        following_of(ARRIVED, [], Lag(0, 0.0), 0.0)


@pytest.mark.parametrize(
    ("at", "known"), [("3:41", False), ("3:42", True), ("3:100", True), ("4:42", False), ("13:42", False)]
)
def test_a_read_knows_a_command_from_its_position_on_and_in_its_partition_only(at: str, *, known: bool) -> None:
    answer = msgspec.json.encode({"user_id": "u", "as_of": {"position": at, "lag_ms": 0}})
    assert includes(answer, "3:42") is known


def test_the_bare_read_returns_about_as_many_bytes_as_a_wallet_of_the_bench() -> None:
    wallet = Wallet(
        "w-0000001",
        "open",
        1795438800000000,
        None,
        {"INR": Available(999_999_999_999, 0, 0, 999_999_999_999, 999_999_999_999)},
        {"INR": Limits(0, None, None, None)},
        FirstDeposit("o-1", "INR", bodies.FUNDS_MINOR, "3:1234", 1795438800000000),
    )
    ours = msgspec.json.encode(wallet)[:-1] + b',"as_of":{"position":"3:1234567","lag_ms":0}}'
    assert len(msgspec.json.encode(bare_wallet("w-0000001"))) == pytest.approx(len(ours), rel=0.02)


def test_the_long_wallet_has_as_many_lines_as_requested_and_some_for_each_filter() -> None:
    opening, *blocks = bodies.long_wallet(3)
    commands = [msgspec.json.decode(body, type=AnyCommand) for block in blocks for body in block]
    kinds = Counter(type(command).__name__ for command in commands)
    assert len(commands) == 3 * bodies.LONG_PERIOD
    assert len({command.command_id for command in commands}) == len(commands)
    assert len(kinds) == 3
    assert sum(b'"GOLD"' in body for block in blocks for body in block) == 6
    assert all(msgspec.json.decode(body, type=AnyCommand).user_id == bodies.LONG for body in opening)


def test_every_player_gets_more_than_a_page_of_history() -> None:
    requests = bodies.players_bets(20)
    users = Counter(
        command["user_id"]
        for request in requests
        for command in msgspec.json.decode(request.partition(b"\r\n\r\n")[2])
    )
    assert len(users) == 20
    assert min(users.values()) > bodies.PAGE


def test_a_process_is_named_by_what_it_does() -> None:
    serve = b"/usr/bin/python\0-m\0api\0serve\0"
    follow = b"/usr/bin/python\0-P\0-m\0api\0project\0follow\0--with-parent\0"
    assert [name_of(line, "17") for line in (serve, follow, b"/bin/sleep\x009\0")] == [
        "serve",
        "project follow",
        "17",
    ]


def test_pages_are_shown_by_their_percentiles() -> None:
    assert page_text(Slice(9, 1.0, 1.234, 4.567, 8.9)) == "1.23 · 4.57 · 8.9 ms"


# -- clients against answers that are not what they should be --


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """A port where each request is answered with the next of ``answers``, byte by byte as it stands."""
    waiting = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while waiting:
            await reader.readuntil(b"\r\n\r\n")
            answer = waiting.pop(0)
            writer.write(answer[:40])
            await writer.drain()
            writer.write(answer[40:])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def whole(document: Any, status: str = "200 OK") -> bytes:
    body = msgspec.json.encode(document)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def test_a_client_returns_each_response_whole_with_the_time_that_it_took() -> None:
    answers = (whole({"a": 1}), whole({"b": [2] * 500}))
    async with answering(*answers) as port, pool(port) as connections, connections.client() as client:
        assert msgspec.json.decode(await client.ask(bodies.get("/"))) == {"a": 1}
        assert msgspec.json.decode(await client.ask(bodies.get("/"))) == {"b": [2] * 500}
        assert client.took_s > 0


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (whole({"code": "not_found"}, "404 Not Found"), "got status 404"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no Content-Length"),
        (whole({"a": 1}) + b"more", "longer"),
        (whole({"a": 1})[:-1], "closed"),
    ],
)
async def test_a_response_that_is_not_what_was_requested_ends_the_measure(answer: bytes, why: str) -> None:
    async with answering(answer) as port, pool(port) as connections:
        with pytest.raises(BenchError, match=why):
            async with connections.client() as client:
                await client.ask(bodies.get("/"))


def page(first: int, count: int, following: str | None) -> bytes:
    items = [{"position": f"3:{first - at}", "time_us": 1} for at in range(count)]
    return whole({"items": items, "next_cursor": following, "as_of": {}})


async def read_pages(*answers: bytes) -> Slice:
    async with answering(*answers) as port:
        return await asyncio.to_thread(history_pages, port, filters={}, pages=4, first_only=False)


async def test_a_history_is_read_to_its_end_and_from_its_beginning_again() -> None:
    assert (await read_pages(page(90, 50, "a"), page(40, 40, None), page(90, 50, "a"), page(40, 40, None))).done == 4


@pytest.mark.parametrize(
    "answers",
    [
        (page(120, 50, "a"), page(120, 50, "b")),
        (page(120, 49, "a"),),
        (page(120, 0, None),),
        (page(120, 51, None),),
    ],
)
async def test_pages_that_repeat_or_leave_out_lines_end_the_measure(answers: tuple[bytes, ...]) -> None:
    with pytest.raises(BenchError, match="history page"):
        await read_pages(*answers)
