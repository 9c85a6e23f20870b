"""The reads over HTTP: paths, parameters, ETags, compression, and the problems."""

import base64
import gzip
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio

from api.http.problems import KINDS, MEDIA_TYPE
from ledger.core.position import partition_of
from ledger.core.wallet import DAY_US
from ledger.errors import LogUnavailable
from unit.api_in_memory import ApiResponse, InMemoryApi
from unit.given import (
    deposit,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    request_withdrawal,
    set_limits,
    transfer,
)

ODD_ID: Final = "a/b//%2F?#&+=%20/"
ODD_IN_PATH: Final = "".join(f"%{byte:02X}" for byte in ODD_ID.encode())
YEAR_2001_US: Final = 978_307_200_000_000
HERE: Final = partition_of("u1", 4)
ELSEWHERE: Final = (HERE + 1) % 4
BOTH: Final = sorted(("u1", "u2"), key=lambda user_id: partition_of(user_id, 4), reverse=True)
"""Opened at one time: of these the one in the higher partition is first."""
OF_ONE_WALLET: Final = (
    *("", "/balance", "/history", "/bets", "/holds", "/transfers", "/grants", "/stats", "/referrals"),
)
OF_ALL_USERS: Final = ("/v1/orders", "/v1/adjustments")
LISTS: Final = (
    *(f"/v1/wallets/u1/{name}" for name in ("history", "bets", "holds", "transfers", "grants")),
    *OF_ALL_USERS,
)
ITEMS: Final = {
    "/v1/wallets/u1/bets/": "bet",
    "/v1/wallets/u1/holds/": "hold",
    "/v1/wallets/u1/transfers/": "transfer",
    "/v1/orders/u1/": "order",
}
EVERY: Final = (
    *(f"/v1/wallets/u1{rest}" for rest in OF_ONE_WALLET),
    *OF_ALL_USERS,
    *(f"{path}{ODD_IN_PATH}" for path in ITEMS),
)


pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def two_wallets(folder: Path) -> AsyncIterator[InMemoryApi]:
    """u1 has one of everything, under an id that a path must spell with care."""
    async with InMemoryApi(folder) as api_client:
        await api_client.world.given(
            open_wallet("u2"),
            open_wallet(),
            deposit(100_000, order_id=ODD_ID),
            place_bet(500, bet_id=ODD_ID),
            hold(100, hold_id=ODD_ID),
            transfer(50, "u2", transfer_id=ODD_ID),
        )
        await api_client.fold()
        yield api_client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InMemoryApi]:
    """For tests that only read."""
    async with two_wallets(tmp_path_factory.mktemp("reads")) as api_client:
        yield api_client


@pytest_asyncio.fixture(loop_scope="module")
async def own(tmp_path: Path) -> AsyncIterator[InMemoryApi]:
    """For tests that change something."""
    async with two_wallets(tmp_path) as api_client:
        yield api_client


def assert_problem(answer: ApiResponse, code: str, status: int | None = None, **fields: Any) -> None:
    assert answer.headers["content-type"] == MEDIA_TYPE, answer
    problem = answer.json()
    expected = KINDS[code].status if status is None else status
    assert (answer.status, problem["status"], problem["code"]) == (expected, expected, code), problem
    assert fields.items() <= problem.items(), problem


# --- paths ----------------------------------------


@pytest.mark.parametrize(("path", "kind"), ITEMS.items())
async def test_an_id_keeps_its_slashes_and_signs(api_client: InMemoryApi, path: str, kind: str) -> None:
    answer = await api_client.get(path + ODD_IN_PATH)
    assert (answer.status, answer.json()[f"{kind}_id"]) == (200, ODD_ID)


@pytest.mark.parametrize(("path", "kind"), ITEMS.items())
@pytest.mark.parametrize("there_is_not", ["nothing", "%2F", "%2F%2F", "x%2F", "%2Fx", "..", "%2E%2E", "%25"])
async def test_an_unknown_id_is_not_found_even_with_odd_characters(
    api_client: InMemoryApi, path: str, kind: str, there_is_not: str
) -> None:
    assert_problem(await api_client.get(path + there_is_not), f"{kind}_not_found", 404)


@pytest.mark.parametrize(("path", "kind"), ITEMS.items())
@pytest.mark.parametrize("malformed", ["%20", "%00", "%ff", "%C3%A9", "x%0A", "~1", "a" * 129])
async def test_a_malformed_id_is_named(api_client: InMemoryApi, path: str, kind: str, malformed: str) -> None:
    assert_problem(await api_client.get(path + malformed), "malformed_request", field=f"{kind}_id")


@pytest.mark.parametrize("rest", [*OF_ONE_WALLET, "/bets/b", "/holds/h", "/transfers/t"])
@pytest.mark.parametrize(
    "user_id",
    ["~", "game:x", "gift:x", "code:x", "partition:1", "%20", "u1%0A", "u1%2F", "%2F", "a%2Fb", "a%2Fbets", "a" * 65],
)
async def test_a_malformed_user_id_is_named(api_client: InMemoryApi, rest: str, user_id: str) -> None:
    assert_problem(await api_client.get(f"/v1/wallets/{user_id}{rest}"), "malformed_request", field="user_id")


async def test_a_percent_encoded_user_id_is_the_same_user(api_client: InMemoryApi) -> None:
    for path in EVERY:
        assert await api_client.get(path.replace("u1", "%75%31")) == await api_client.get(path)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/wallets/",
            "/v1/wallets/u1/",
            "/v1/wallets//u1",
            "/v1/wallets/u1/nothing",
            "/v1//orders",
        ),
        *(
            "/v1/wallets/u1/bets/",
            "/v1/wallets/u1//bets",
            "/v1/wallets//bets",
            "/v1/wallets/u1/stats/x",
            "//v1/orders",
        ),
        *("/v1/orders/", "/v1/orders/u1", "/v1/orders/u1/", "/v1/orders//x", "/v1/partitions/", "/v1/events/", "//"),
        *("/v1%2Forders", "/V1/orders", "/healthz/", "/v1/commands/", "/schema//"),
    ],
)
async def test_another_path_is_not_found(api_client: InMemoryApi, path: str) -> None:
    assert_problem(await api_client.get(path), "not_found")


@pytest.mark.parametrize("path", [*EVERY, "/v1/partitions", "/v1/events?partition=0", "/healthz", "/readyz"])
async def test_head_gets_the_headers_of_get_and_no_body(api_client: InMemoryApi, path: str) -> None:
    got, head = await api_client.get(path), await api_client.ask("HEAD", path)
    assert got.status == 200
    assert head == (got.status, got.headers, b"")


async def test_a_problem_has_no_body_for_head_either(api_client: InMemoryApi) -> None:
    got, head = await api_client.get("/v1/wallets/stranger"), await api_client.ask("HEAD", "/v1/wallets/stranger")
    assert got.status == 404
    assert head == (got.status, got.headers, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"])
@pytest.mark.parametrize("path", EVERY)
async def test_only_get_is_allowed(api_client: InMemoryApi, path: str, method: str) -> None:
    answer = await api_client.ask(method, path)
    assert answer.headers["allow"] == "GET, HEAD"
    assert_problem(answer, "method_not_allowed", allow=answer.headers["allow"].split(", "))


# --- parameters ----------------------------------------


@pytest.mark.parametrize("path", EVERY)
async def test_an_unknown_or_repeated_parameter_is_malformed(api_client: InMemoryApi, path: str) -> None:
    assert_problem(await api_client.get(f"{path}?unknown=1"), "malformed_request", field="unknown")
    assert_problem(await api_client.get(f"{path}?timeout_ms=1&timeout_ms=1"), "malformed_request", field="timeout_ms")
    assert_problem(await api_client.get(f"{path}?%ff=1"), "malformed_request")
    assert_problem(await api_client.get(f"{path}?Limit=1"), "malformed_request", field="Limit")


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize("timeout_ms", ["-1", "10001", "1.0", "", "+1", "1e3", "%D9%A1", "9" * 5_000])
async def test_a_malformed_timeout_is_named(api_client: InMemoryApi, path: str, timeout_ms: str) -> None:
    assert_problem(await api_client.get(f"{path}?timeout_ms={timeout_ms}"), "malformed_request", field="timeout_ms")


@pytest.mark.parametrize("path", EVERY)
@pytest.mark.parametrize(
    "position", ["", "x", "1", "0:-1", "00:1", "0:01", "9999:1", "0:1,", ",", "0:" + "9" * 5_000]
)
async def test_a_malformed_min_position_is_named(api_client: InMemoryApi, path: str, position: str) -> None:
    assert_problem(await api_client.get(f"{path}?min_position={position}"), "malformed_request", field="min_position")


@pytest.mark.parametrize("path", EVERY)
async def test_a_read_waits_for_min_position_no_longer_than_its_timeout(api_client: InMemoryApi, path: str) -> None:
    assert (await api_client.get(f"{path}?min_position={HERE}:1,{HERE}:0&timeout_ms=0")).status == 200
    answer = await api_client.get(f"{path}?min_position={HERE}:9007199254740991&timeout_ms=1")
    assert_problem(answer, "not_yet_visible", position=f"{HERE}:{api_client.world.node.end(HERE)}")
    elsewhere = await api_client.get(f"{path}?min_position={ELSEWHERE}:0")
    if path in OF_ALL_USERS:
        assert elsewhere.status == 200
    else:
        assert_problem(elsewhere, "malformed_request", field="min_position")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["0", "201", "-1", "1.0", "", "9" * 5_000])
async def test_a_limit_is_of_1_to_200(api_client: InMemoryApi, path: str, limit: str) -> None:
    assert_problem(await api_client.get(f"{path}?limit={limit}"), "malformed_request", field="limit")
    assert (await api_client.get(f"{path}?limit=1")).status == 200
    assert (await api_client.get(f"{path}?limit=200")).status == 200


def as_cursor(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def cursor_of(*values: Any) -> str:
    return as_cursor(msgspec.msgpack.encode(values))


MALFORMED_CURSORS: Final = {
    "empty": "",
    "no base64": "!",
    "half a byte": "A",
    "padding": "AAAA====",
    "plus is a space": "A+A+",
    "not ASCII": "%C3%A9",
    "NUL": "%00",
    "no text": as_cursor(msgspec.msgpack.encode((b"12345678", ("x",), ())).replace(b"\xa1x", b"\xa1\xff")),
    "another shape": cursor_of(1, 2, 3),
    "a map": cursor_of({}),
    "another digest": cursor_of(b"12345678", (1, 1), (1,)),
    "huge": "A" * 20_000,
    "deep": as_cursor(b"\x91" * 9_000),
}


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("cursor", MALFORMED_CURSORS.values(), ids=MALFORMED_CURSORS)
async def test_a_cursor_that_was_never_given_out_is_malformed(
    api_client: InMemoryApi, path: str, cursor: str
) -> None:
    assert_problem(await api_client.get(f"{path}?cursor={cursor}"), "malformed_request", field="cursor")


@pytest.mark.parametrize("name", ["at_us", "from_us", "to_us"])
async def test_a_time_is_an_integer_within_bounds(api_client: InMemoryApi, name: str) -> None:
    path = "/v1/wallets/u1/balance" if name == "at_us" else "/v1/wallets/u1/history"
    for text in ("", "x", "1.0", "--1", "1e3", str(2**53), str(-(2**53)), str(2**63), str(2**64), "9" * 5_000):
        assert_problem(await api_client.get(f"{path}?{name}={text}"), "malformed_request", field=name)
    for time_us in (YEAR_2001_US, 2**53 - 1):
        assert (await api_client.get(f"{path}?{name}={time_us}")).status == 200


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/wallets/u1/balance?", "at_us"),
        ("/v1/wallets/u1/history?", "from_us"),
        ("/v1/wallets/u1/history?", "to_us"),
        ("/v1/leaderboards/won_day?asset=INR&", "at_us"),
    ],
)
async def test_a_time_in_seconds_or_milliseconds_is_refused_with_a_hint(
    api_client: InMemoryApi, path: str, name: str
) -> None:
    for time in (1_795_438_800, 1_795_438_800_000, YEAR_2001_US - 1, 0, -1, 1 - 2**53):
        answer = await api_client.get(f"{path}{name}={time}")
        assert_problem(answer, "malformed_request", field=name)
        assert "in seconds or milliseconds: multiply it by 1000000 or 1000" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(("/v1/wallets/u1/history", name) for name in ("type", "asset", "game")),
        *(("/v1/wallets/u1/bets", name) for name in ("game", "period", "status")),
        *(("/v1/orders", name) for name in ("kind", "status")),
    ],
)
async def test_a_filter_is_a_text_that_an_event_can_have(api_client: InMemoryApi, path: str, name: str) -> None:
    for text in ("%00", "x%0Ay", "%C2%85", "%7F", "a" * 129):
        assert_problem(await api_client.get(f"{path}?{name}={text}"), "malformed_request", field=name)


@pytest.mark.parametrize("query", ["type=nothing", "type=", "type=deposited,adjusted"])
async def test_a_type_filter_names_an_event_type(api_client: InMemoryApi, query: str) -> None:
    assert_problem(await api_client.get(f"/v1/wallets/u1/history?{query}"), "malformed_request", field="type")


async def test_consistency_is_strong_or_absent(api_client: InMemoryApi) -> None:
    usual, strong = await api_client.get("/v1/wallets/u1"), await api_client.get("/v1/wallets/u1?consistency=strong")
    assert usual == strong
    for text in ("", "weak", "STRONG"):
        answer = await api_client.get(f"/v1/wallets/u1?consistency={text}")
        assert_problem(answer, "malformed_request", field="consistency")


# --- ETag ----------------------------------------


@pytest.mark.parametrize("path", ["/v1/wallets/u1", "/v1/wallets/u1?consistency=strong", "/v1/wallets/u1/stats"])
async def test_a_document_that_the_client_has_is_not_sent_again(api_client: InMemoryApi, path: str) -> None:
    etag = (await api_client.get(path)).headers["etag"]
    assert etag.startswith('W/"')
    strong = etag.removeprefix("W/")
    for known in (etag, strong, "*", f'"x", {etag}', f'{strong},W/"y"', f' "a,b" ,\t{etag} '):
        answer = await api_client.get(path, ("if-none-match", known))
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == etag
        assert not answer.headers.keys() & {"content-type", "content-length", "content-encoding"}
    answer = await api_client.get(path, ("If-None-Match", '"x"'), ("If-None-Match", etag))
    assert answer.status == 304
    for unknown in ("", '"x"', strong.strip('"'), f"x{strong}x", f'"{strong}', etag.upper(), '"*"', "w/" + strong):
        assert (await api_client.get(path, ("if-none-match", unknown))).status == 200, unknown


async def test_an_etag_changes_with_the_wallet_and_with_nothing_else(own: InMemoryApi) -> None:
    before = [(await own.get(path)).headers["etag"] for path in ("/v1/wallets/u1", "/v1/wallets/u1/stats")]
    await own.world.given(deposit(1, user_id="u2", order_id="other", command_id="other"))
    await own.fold()
    assert [(await own.get(f"/v1/wallets/u1{rest}")).headers["etag"] for rest in ("", "/stats")] == before
    await own.world.given(deposit(1, order_id="own", command_id="own"))
    await own.fold()
    for old, rest in zip(before, ("", "/stats"), strict=True):
        assert (await own.get(f"/v1/wallets/u1{rest}", ("if-none-match", old))).status == 200


# --- compression ----------------------------------------


async def with_a_long_history(api_client: InMemoryApi) -> str:
    for number in range(20):
        await api_client.world.given(deposit(1, order_id=f"d{number}", command_id=f"d{number}"))
    await api_client.fold()
    return "/v1/wallets/u1/history"


async def test_a_long_response_is_compressed_only_for_clients_that_accept_gzip(own: InMemoryApi) -> None:
    path = await with_a_long_history(own)
    plain = await own.get(path)
    assert plain.headers["vary"] == "Accept-Encoding"
    for accepted in ("gzip", "GZIP", "br, gzip;q=0.5", "deflate,gzip", "*", "x-gzip", "gzip;q=1.0", "gzip;q=0.001"):
        packed = await own.get(path, ("accept-encoding", accepted))
        assert packed.headers["content-encoding"] == "gzip", accepted
        assert packed.headers["content-length"] == str(len(packed.body))
        assert packed.headers["vary"] == "Accept-Encoding"
        assert gzip.decompress(packed.body) == plain.body
    for refused in ("", "gzip;q=0", "gzip; q=0.0", "*;q=0", "identity", "gzipped", "br", "*, gzip;q=0"):
        assert await own.get(path, ("accept-encoding", refused)) == plain, refused


async def test_a_short_response_is_not_compressed(api_client: InMemoryApi) -> None:
    answer = await api_client.get("/v1/wallets/u1/balance", ("accept-encoding", "gzip"))
    assert "content-encoding" not in answer.headers
    assert answer.json()["user_id"] == "u1"


# --- what is not known, and what is broken ----------------------------------------


async def test_an_item_that_never_existed_is_not_found(api_client: InMemoryApi) -> None:
    for rest in OF_ONE_WALLET:
        assert_problem(await api_client.get(f"/v1/wallets/stranger{rest}"), "wallet_not_found")
    for path in ITEMS:
        assert_problem(await api_client.get(path.replace("u1", "stranger") + "x"), "wallet_not_found")


async def test_an_item_that_may_exist_by_now_is_not_reported_as_missing(own: InMemoryApi) -> None:
    await own.world.given(open_wallet("u3"), request_withdrawal(5, order_id="w", command_id="w"))
    assert_problem(await own.get("/v1/wallets/u3?timeout_ms=1"), "not_yet_visible")
    assert_problem(await own.get("/v1/orders/u1/w?timeout_ms=1"), "not_yet_visible")
    assert (await own.get("/v1/wallets/u1?timeout_ms=0")).status == 200
    await own.fold()
    assert (await own.get("/v1/wallets/u3?timeout_ms=0")).status == 200
    assert (await own.get("/v1/orders/u1/w?timeout_ms=0")).json()["status"] == "pending"


async def test_an_unreadable_read_model_is_reported(own: InMemoryApi, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "read-model.sqlite3", isolation_level=None)
    for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        connection.execute(f"DROP TABLE {table}")
    connection.close()
    for path in EVERY:
        answer = await own.get(path)
        assert_problem(answer, "log_unavailable")
        assert answer.headers["retry-after"] == "1"


async def test_an_unreadable_log_is_reported(own: InMemoryApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the log has the time of the oldest event that is not in the response."""

    async def fails(*_: Any) -> list[bytes]:
        raise LogUnavailable("the disk does not answer")

    await own.world.given(set_limits(credit_limit=1))
    monkeypatch.setattr(own.world.log, "read", fails)
    for path in EVERY:
        assert_problem(await own.get(path), "log_unavailable")


async def test_a_balance_has_every_event_of_its_position_although_the_clock_of_the_reader_is_behind(
    tmp_path: Path,
) -> None:
    async with InMemoryApi(tmp_path) as api_client:
        await api_client.world.given(open_wallet("u9"), deposit(10_000, order_id="d1", user_id="u9"))
        api_client.world.clock.now_us += 2_000_000
        await api_client.world.given(deposit(1_001, order_id="d2", user_id="u9"))
        written_us = api_client.world.clock.now_us
        await api_client.fold()
        api_client.world.clock.now_us -= 200_000
        now = (await api_client.get("/v1/wallets/u9/balance")).json()
        assert now["balances"] == {"INR": {"cash": 11_001, "bonus": 0, "held": 0}}
        assert now["at_us"] == written_us
        again = (await api_client.get(f"/v1/wallets/u9/balance?at_us={now['at_us']}")).json()
        assert again == now


async def test_a_read_and_a_refusal_give_the_same_available_and_withdrawable(own: InMemoryApi) -> None:
    """What one more unit is refused with is what the read says: of a bet, and of a withdrawal, hold and transfer."""
    states = (
        (open_wallet("u9"), deposit(100, user_id="u9"), grant_bonus(30, user_id="u9")),
        (set_limits(credit_limit=50, user_id="u9"),),
        (place_bet(170, user_id="u9"), grant_bonus(7, "g2", user_id="u9")),
        (set_limits(credit_limit=10, user_id="u9"),),  # less than the debt: it takes nothing from the bonus
    )
    seen = []
    for commands in states:
        await own.world.given(*commands)
        await own.fold()
        of_inr = (await own.get("/v1/wallets/u9")).json()["balances"]["INR"]
        seen.append((of_inr["available"], of_inr["withdrawable"]))
        more_than_available = place_bet(of_inr["available"] + 1, "b9", user_id="u9")
        assert (await own.world.refused(more_than_available)).fields == {"available": of_inr["available"]}
        beyond_cash = of_inr["withdrawable"] + 1
        for command in (
            request_withdrawal(beyond_cash, "w9", user_id="u9"),
            hold(beyond_cash, "h9", user_id="u9"),
            transfer(beyond_cash, "u1", "t9", user_id="u9"),
        ):
            assert (await own.world.refused(command)).fields == {"available": of_inr["withdrawable"]}
    assert seen == [(130, 100), (180, 100), (17, 0), (7, 0)]


# --- wallets of many users ----------------------------------------


async def wallets_of(api_client: InMemoryApi, query: str) -> list[str]:
    answer = await api_client.get(f"/v1/wallets?{query}")
    assert answer.status == 200, answer
    return [wallet["user_id"] for wallet in answer.json()["items"]]


async def test_wallets_are_found_by_ids_or_by_a_prefix_newest_first(api_client: InMemoryApi) -> None:
    assert await wallets_of(api_client, "user_id=u1&user_id=unknown&user_id=u2&user_id=u1") == BOTH
    assert await wallets_of(api_client, "prefix=u") == await wallets_of(api_client, "prefix=") == BOTH
    assert await wallets_of(api_client, "prefix=u2") == ["u2"]
    assert await wallets_of(api_client, "prefix=U") == await wallets_of(api_client, "prefix=u11") == []
    (wallet,) = (await api_client.get("/v1/wallets?user_id=u1")).json()["items"]
    alone = (await api_client.get("/v1/wallets/u1")).json()
    assert wallet == {name: alone[name] for name in alone if name != "as_of"}


async def test_a_page_of_wallets_leads_to_the_next_one(api_client: InMemoryApi) -> None:
    first = (await api_client.get("/v1/wallets?prefix=u&limit=1")).json()
    second = (await api_client.get(f"/v1/wallets?prefix=u&limit=1&cursor={first['next_cursor']}")).json()
    assert [page["items"][0]["user_id"] for page in (first, second)] == BOTH
    assert second["next_cursor"] is None
    other = await api_client.get(f"/v1/wallets?prefix=u1&cursor={first['next_cursor']}")
    assert_problem(other, "malformed_request", field="cursor")


async def test_all_of_a_hundred_named_wallets_are_on_one_page(own: InMemoryApi) -> None:
    users = [f"many-{number}" for number in range(99)]
    await own.world.given(*(open_wallet(user_id) for user_id in users))
    await own.fold()
    named = "&".join(f"user_id={user_id}" for user_id in (*users, "u1"))
    assert sorted(await wallets_of(own, named)) == sorted([*users, "u1"])
    assert len(await wallets_of(own, "prefix=many")) == 50
    assert len(await wallets_of(own, f"{named}&limit=7")) == 7
    assert_problem(await own.get(f"/v1/wallets?{named}&user_id=u2"), "malformed_request", field="user_id")


@pytest.mark.parametrize("query", ["", "limit=5", "user_id=u1&prefix=u"])
async def test_wallets_need_either_ids_or_a_prefix(api_client: InMemoryApi, query: str) -> None:
    assert_problem(await api_client.get(f"/v1/wallets?{query}"), "malformed_request")


@pytest.mark.parametrize("text", ["", "~", "game:x", "a%2Fb", "a" * 65, "%00"])
async def test_a_malformed_user_id_of_a_wallet_is_named(api_client: InMemoryApi, text: str) -> None:
    assert_problem(
        await api_client.get(f"/v1/wallets?user_id=u1&user_id={text}"), "malformed_request", field="user_id"
    )


async def test_a_read_of_wallets_names_the_partitions_of_its_users(api_client: InMemoryApi) -> None:
    end = api_client.world.node.end(HERE)
    found = (await api_client.get(f"/v1/wallets?user_id=u1&min_position={HERE}:{end}")).json()
    assert found["as_of"] == {"positions": [f"{HERE}:{end}"], "lag_ms": 0}
    elsewhere = await api_client.get(f"/v1/wallets?user_id=u1&min_position={ELSEWHERE}:0")
    assert_problem(elsewhere, "malformed_request", field="min_position")
    every = (await api_client.get(f"/v1/wallets?prefix=u1&min_position={ELSEWHERE}:0")).json()
    assert len(every["as_of"]["positions"]) == 4


# --- orders ----------------------------------------


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *(("deposit", status) for status in ("pending", "approved", "rejected")),
        *(("withdrawal", status) for status in ("completed", "reversed")),
    ],
)
async def test_a_kind_of_orders_with_a_status_that_it_never_has_is_malformed(
    api_client: InMemoryApi, kind: str, status: str
) -> None:
    assert_problem(
        await api_client.get(f"/v1/orders?kind={kind}&status={status}"), "malformed_request", field="status"
    )
    assert (await api_client.get(f"/v1/orders?status={status}")).status == 200


async def test_the_orders_of_one_user_draw_on_the_partition_of_that_user_only(api_client: InMemoryApi) -> None:
    found = (await api_client.get("/v1/orders?user_id=u1")).json()
    assert [(order["user_id"], order["order_id"]) for order in found["items"]] == [("u1", ODD_ID)]
    (position,) = found["as_of"]["positions"]
    assert position.startswith(f"{HERE}:")
    assert (await api_client.get(f"/v1/orders?user_id=u1&min_position={position}")).status == 200
    assert_problem(
        await api_client.get(f"/v1/orders?user_id=u1&min_position={ELSEWHERE}:1"),
        "malformed_request",
        field="min_position",
    )


async def test_the_orders_of_one_user_take_the_other_filters_too(api_client: InMemoryApi) -> None:
    async def found(query: str) -> int:
        return len((await api_client.get(f"/v1/orders?user_id=u1&{query}")).json()["items"])

    assert [
        await found(query) for query in ("kind=deposit", "status=completed", "kind=deposit&status=completed")
    ] == [
        1,
        1,
        1,
    ]
    assert [await found(query) for query in ("kind=withdrawal", "status=pending")] == [0, 0]


async def test_a_user_without_orders_has_an_empty_list(api_client: InMemoryApi) -> None:
    for user_id in ("u2", "stranger"):
        assert (await api_client.get(f"/v1/orders?user_id={user_id}")).json()["items"] == []
    assert_problem(await api_client.get("/v1/orders?user_id=game:x"), "malformed_request", field="user_id")


async def test_a_cursor_of_one_users_orders_is_no_cursor_of_anothers(own: InMemoryApi) -> None:
    await own.world.given(deposit(1, order_id="o2"), deposit(1, order_id="o3"))
    await own.fold()
    first = (await own.get("/v1/orders?user_id=u1&limit=2")).json()
    assert [order["order_id"] for order in first["items"]] == ["o3", "o2"]
    cursor = first["next_cursor"]
    rest = (await own.get(f"/v1/orders?user_id=u1&limit=2&cursor={cursor}")).json()
    assert [order["order_id"] for order in rest["items"]] == [ODD_ID]
    assert rest["next_cursor"] is None
    for other in ("", "user_id=u2&", "user_id=u1&kind=deposit&"):
        assert_problem(await own.get(f"/v1/orders?{other}cursor={cursor}"), "malformed_request", field="cursor")


# --- leaderboards ----------------------------------------


async def test_a_leaderboard_of_now_has_a_bet_of_a_new_day_although_the_clock_of_the_reader_is_behind(
    tmp_path: Path,
) -> None:
    async with InMemoryApi(tmp_path) as api_client:
        api_client.world.clock.now_us += DAY_US - api_client.world.clock.now_us % DAY_US
        midnight_us = api_client.world.clock.now_us
        await api_client.world.given(open_wallet("u9"), deposit(100, user_id="u9"), place_bet(5, user_id="u9"))
        await api_client.fold()
        api_client.world.clock.now_us = midnight_us - 200_000
        board = (await api_client.get("/v1/leaderboards/staked_day?asset=INR")).json()
        assert (board["from_us"], [leader["user_id"] for leader in board["items"]]) == (midnight_us, ["u9"])
        before = (await api_client.get(f"/v1/leaderboards/staked_day?asset=INR&at_us={midnight_us - 1}")).json()
        assert before["items"] == []
