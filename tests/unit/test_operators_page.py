"""The operator's page: its files, its login, and the last hour that it shows."""

import asyncio
import gzip
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from api.composition.settings import read_settings
from api.http.samples import KEPT, HouseSample
from api.http.verification import Verification
from api.identity.identity import ADMIN, AUDITOR, GAME_SERVER, OPERATOR
from api.limits.limits import Rates
from api.page.assets import assets
from deploy.local.install import ROOT
from ledger.core.record import Head
from ledger.errors import LogUnavailable
from projections.storage.port import Checkpoint, Quarantined, ReadModelUnavailable, Run
from unit.api_in_memory import ApiResponse, InMemoryApi, limiter
from unit.given import claim_gift, close_gift, create_gift, deposit, open_wallet
from unit.login_in_memory import LoginInMemory, bearer

JSON: Final = ("content-type", "application/json")
OF_THE_PAGE: Final = ("stakelog-page", "1")
FIRST_LOAD_MAX: Final = 100_000


class World:
    """The application with login."""

    def __init__(self, api: InMemoryApi, login: LoginInMemory) -> None:
        self.api, self.login = api, login

    async def add(self, role: str) -> str:
        """A client named as its role. Returns its secret."""
        return (await self.login.clients.add(role, role)).secret

    async def session(self, path: str = "", body: Any = None, *headers: tuple[str, str]) -> ApiResponse:
        sent = headers or (OF_THE_PAGE,)
        encoded = b"" if body is None else msgspec.json.encode(body)
        return await self.api.ask("POST", f"/admin/session{path}", JSON, *sent, body=encoded)

    async def log_in(self, role: str) -> ApiResponse:
        return await self.session("", {"client_id": role, "client_secret": await self.add(role)})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with LoginInMemory(tmp_path) as login, InMemoryApi(tmp_path, 2, login=login.parts) as api:
        yield World(api, login)


def cookie_of(answer: ApiResponse) -> tuple[str, str]:
    return "cookie", answer.headers["set-cookie"].partition(";")[0]


# --- files ---------------------------------------------------------------------------------------------------------


async def test_the_first_load_is_small_and_only_the_index_is_asked_for_again(world: World) -> None:
    index = await world.api.get("/admin", ("accept-encoding", "gzip"))
    page = gzip.decompress(index.body).decode()
    names = re.findall(r"/admin/assets/[^\"]+", page)
    loaded = [await world.api.get(name, ("accept-encoding", "gzip")) for name in names]
    assert sorted(name.rpartition(".")[2] for name in names) == ["css", "js"]
    assert {one.status for one in loaded} == {200}
    assert sum(len(one.body) for one in (index, *loaded)) < FIRST_LOAD_MAX
    assert index.headers["cache-control"] == "no-cache"
    assert {one.headers["cache-control"] for one in loaded} == {"public, max-age=31536000, immutable"}
    plain = await world.api.get(names[0])
    assert plain.body == gzip.decompress(loaded[0].body)


async def test_the_policy_allows_nothing_inline_and_nothing_from_elsewhere(world: World) -> None:
    index = await world.api.get("/admin")
    policy = index.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"<style|<script(?![^>]* src=)|style=|\son\w+=", index.body.decode())
    loaded = b"".join(asset.body for name, asset in assets().items() if not name.endswith(".txt"))
    assert not re.search(rb"https?://(?!www\.w3\.org/)", loaded)


async def test_the_script_names_the_licences_of_its_libraries_and_they_are_served(world: World) -> None:
    script = next(asset.body.decode() for name, asset in assets().items() if name.endswith(".js"))
    named = re.search(r"/admin/assets/licences-\w+\.txt", script.partition("*/")[0])
    assert named is not None
    licences = (await world.api.get(named[0])).body.decode()
    libraries = json.loads((ROOT / "src/api/page/source/package.json").read_text("utf-8"))["dependencies"]
    assert len(libraries) == 3
    for name, version in libraries.items():
        assert f"{name} {version}\n\n" in licences
    assert licences.count("Permission is hereby granted") + licences.count("Apache License\n") == len(libraries)


@pytest.mark.parametrize("name", ["index.html", "x.js", "..%2Fassets.py", "%2e%2e%2fassets.py", "README.md"])
async def test_no_other_file_is_served(world: World, name: str) -> None:
    assert (await world.api.get(f"/admin/assets/{name}")).status == 404


# --- login ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [OPERATOR, AUDITOR, ADMIN])
async def test_a_login_gives_the_page_a_token_and_the_browser_a_cookie_that_no_script_reads(
    world: World, role: str
) -> None:
    answer = await world.log_in(role)
    session = answer.json()
    assert answer.status == 200
    assert (session["client_id"], session["role"], session["login"]) == (role, role, True)
    assert ("freeze_wallet" in session["may_post"]) == (role == OPERATOR)
    assert "refresh_token" not in session
    name, *attributes = answer.headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/admin/session"} <= set(attributes)
    assert name.partition("=")[2] not in answer.body.decode()
    assert answer.headers["cache-control"] == "no-store"
    assert (await world.api.get("/admin/now", bearer(session["access_token"]))).status == 200


async def test_the_cookie_is_sent_over_tls_only_beyond_this_machine(world: World, tmp_path: Path) -> None:
    assert "Secure" in (await world.log_in(OPERATOR)).headers["set-cookie"].split("; ")
    folder = tmp_path / "this-machine"
    folder.mkdir()
    async with InMemoryApi(folder, 1, login=world.login.parts._replace(secure_cookies=False)) as api:
        assert "Secure" not in (await World(api, world.login).log_in(ADMIN)).headers["set-cookie"].split("; ")


@pytest.mark.parametrize(
    ("settings", "secure"),
    [
        ({}, False),
        ({"STAKELOG_HOST": "::1"}, False),
        ({"STAKELOG_HOST": "0.0.0.0"}, True),  # noqa: S104 - nothing listens
        ({"STAKELOG_HOST": "10.0.0.5", "STAKELOG_ISSUER": "http://ledger.example"}, True),
        ({"STAKELOG_ISSUER": "https://ledger.example"}, True),
    ],
)
def test_only_a_service_of_this_machine_without_tls_has_cookies_that_are_not_secure(
    settings: dict[str, str], secure: bool
) -> None:
    assert read_settings({"STAKELOG_AUTH": "on", **settings}).secure_cookies == secure


async def test_a_game_server_does_not_log_in_here(world: World) -> None:
    answer = await world.log_in(GAME_SERVER)
    assert (answer.status, answer.json()["code"]) == (403, "forbidden")
    assert "set-cookie" not in answer.headers


async def test_the_cookie_renews_the_token_and_each_cookie_once(world: World) -> None:
    first = await world.log_in(OPERATOR)
    second = await world.session("/refresh", None, OF_THE_PAGE, cookie_of(first))
    assert second.json()["role"] == OPERATOR
    assert cookie_of(second) != cookie_of(first)
    spent = await world.session("/refresh", None, OF_THE_PAGE, cookie_of(first))
    assert spent.json()["access_token"] is None
    assert "Max-Age=0" in spent.headers["set-cookie"]
    assert (await world.api.get("/admin/now", bearer(second.json()["access_token"]))).status == 401, "it was revoked"


async def test_without_a_cookie_the_page_learns_that_it_must_log_in(world: World) -> None:
    answer = await world.session("/refresh")
    assert answer.status == 200
    assert answer.json() | {"assets": {}, "time_us": 0} == {
        "login": True,
        "access_token": None,
        "expires_in": None,
        "client_id": None,
        "role": None,
        "may_post": [],
        "assets": {},
        "time_us": 0,
    }


async def test_after_logout_neither_the_token_nor_the_cookie_is_accepted(world: World) -> None:
    first = await world.log_in(ADMIN)
    out = await world.session("/logout", None, OF_THE_PAGE, cookie_of(first))
    assert out.status == 204
    assert "Max-Age=0" in out.headers["set-cookie"]
    assert (await world.api.get("/admin/now", bearer(first.json()["access_token"]))).status == 401
    renewed = await world.session("/refresh", None, OF_THE_PAGE, cookie_of(first))
    assert renewed.json()["access_token"] is None


@pytest.mark.parametrize("path", ["", "/refresh", "/logout"])
@pytest.mark.parametrize(
    "headers",
    [(JSON,), (OF_THE_PAGE, ("sec-fetch-site", "cross-site")), (OF_THE_PAGE, ("sec-fetch-site", "same-site"))],
)
async def test_a_page_of_another_origin_does_nothing_with_the_cookie(
    world: World, path: str, headers: tuple[tuple[str, str], ...]
) -> None:
    first = await world.log_in(ADMIN)
    body = {"client_id": ADMIN, "client_secret": "x"} if not path else None
    answer = await world.session(path, body, *headers, cookie_of(first))
    assert (answer.status, answer.json()["code"]) == (403, "forbidden")
    assert (await world.api.get("/admin/now", bearer(first.json()["access_token"]))).status == 200


async def test_guessing_is_limited_as_at_the_token_route(tmp_path: Path) -> None:
    rates = Rates(client=0, user=0, address=0, login_per_min=3)
    async with (
        LoginInMemory(tmp_path) as login,
        InMemoryApi(tmp_path, 1, login=login.parts, limiter=limiter(rates)) as api,
    ):
        world = World(api, login)
        secret = await world.add(ADMIN)
        wrong = {"client_id": ADMIN, "client_secret": "a-wrong-secret"}
        statuses = [(await world.session("", wrong)).status for _ in range(2)]
        statuses.append((await api.ask("POST", "/v1/auth/token", JSON, body=msgspec.json.encode(wrong))).status)
        assert statuses == [401, 401, 401], "both routes count"
        limited = await world.session("", {"client_id": ADMIN, "client_secret": secret})
        assert (limited.status, limited.json()["code"]) == (429, "rate_limited")


async def test_while_login_is_off_the_page_needs_none(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        answer = await api.ask("POST", "/admin/session/refresh", OF_THE_PAGE)
        session = answer.json()
        assert (session["login"], session["access_token"], session["role"]) == (False, None, None)
        assert {"deposit", "freeze_wallet"} <= set(session["may_post"])
        assert (await api.get("/admin/now")).status == 200
        assert (await api.ask("POST", "/admin/session", OF_THE_PAGE, JSON, body=b"{}")).status == 404


# --- the last hour -------------------------------------------------------------------------------------------------


async def test_a_sample_has_what_happened_since_the_sample_before(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        samples = api.app.service.samples

        async def post(command_id: str, amount: int = 500) -> None:
            command = {"type": "deposit", "user_id": "u1", "asset": "INR", "amount": amount}
            ids = {"command_id": command_id, "order_id": command_id}
            await api.ask("POST", "/v1/commands", JSON, body=msgspec.json.encode(command | ids))

        await api.world.given(open_wallet(), deposit(500))
        await api.fold()
        await samples.take()
        await post("a")
        await post("b")
        await post("b")
        await post("a", 600)
        await samples.take()
        await samples.take()
        before, busy, quiet = samples.last_hour
        for sample, expected in ((before, (0, 0, 0, 0)), (busy, (2, 1, 1, 0)), (quiet, (0, 0, 0, 0))):
            assert (sample.accepted, sample.repeated, sample.refused, sample.failed) == expected
        assert [sum(sample.durations) for sample in samples.last_hour] == [0, 4, 0]
        assert before.lag_ms == 0
        assert busy.lag_ms is not None
        assert samples.house[0].accounts["house/deposits INR"] == -500

        now = (await api.get("/admin/now")).json()
        assert [len(node["samples"]) for node in now["nodes"]] == [3]
        after = (await api.get(f"/admin/now?since_us={busy.time_us}")).json()
        assert [node["samples"] for node in after["nodes"]] == [[now["nodes"][0]["samples"][2]]]


async def test_an_hour_is_kept_and_no_more(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        await asyncio.gather(*(api.app.service.samples.take() for _ in range(KEPT + 5)))
        assert len(api.app.service.samples.last_hour) == KEPT


async def test_alarms_name_what_an_operator_must_look_at(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        service = api.app.service
        await api.world.given(open_wallet(), deposit(500))
        await api.fold()
        await service.samples.take()
        texts = [alarm["text"] for alarm in (await api.get("/admin/now")).json()["nodes"][0]["alarms"]]
        assert texts == ["follower does not run", "check does not run"], "the processes are not started here"


async def test_late_reads_and_reads_that_fail_are_alarms_and_their_old_balances_are_no_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        samples = api.app.service.samples

        async def first_alarm_after_a_minute() -> str:
            """The minute that must be between two samples of the house is over."""
            if samples.house:
                samples.house[-1] = HouseSample(0, samples.house[-1].accounts)
            await samples.take()
            return str((await api.get("/admin/now")).json()["nodes"][0]["alarms"][0]["text"])

        await api.world.given(open_wallet(), deposit(500))
        await api.fold()
        assert await first_alarm_after_a_minute() == "follower does not run"
        assert len(samples.house) == 1
        await api.world.given(deposit(700, order_id="o-2"))  # in the year of the test's clock: it is late
        assert re.fullmatch(
            r"reads are \d+ s behind the log: they show old balances", await first_alarm_after_a_minute()
        )
        assert len(samples.house) == 1

        async def unavailable(*_: object, **__: object) -> None:
            raise ReadModelUnavailable("its database is stopped")

        with monkeypatch.context() as patched:
            patched.setattr(api.model, "fetch", unavailable)
            assert (await first_alarm_after_a_minute()).startswith("the read model cannot be read")
            assert samples.last_hour[-1].lag_ms is None
            assert len(samples.house) == 1
        await api.fold()
        assert await first_alarm_after_a_minute() == "follower does not run"
        assert [sample.accounts["house/deposits INR"] for sample in samples.house] == [-500, -1_200]


async def test_the_lag_of_a_partition_whose_log_cannot_be_read_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        service = api.app.service

        async def unavailable(*_: object) -> int:
            raise LogUnavailable("the disk is broken")

        await api.world.given(open_wallet())
        await api.fold()
        await service.samples.take()
        await api.world.given(deposit(500))
        monkeypatch.setattr(service.node, "time_us", unavailable)
        await service.samples.take()
        while service.metrics.read_model.lag_ms in (0, None):
            await service.samples.take()
        await api.fold()
        await service.samples.take()
        assert service.samples.last_hour[-1].lag_ms == 0


@pytest.mark.parametrize(
    ("minutes", "stuck"),
    [
        ((5, 4, 3, 2, 1, 0), True),
        ((4, 3, 2, 1, 0), False),
        ((30, 29, 28, 27, 1, 0), False),  # nothing was sampled for 26 minutes
        ((35, 34, 33, 32, 31, 30), False),  # nothing was sampled since
    ],
)
async def test_money_that_waits_in_transit_is_an_alarm_after_five_minutes_without_a_gap(
    tmp_path: Path, minutes: tuple[int, ...], stuck: bool
) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        samples = api.app.service.samples
        now_us = time.time_ns() // 1_000
        moving = iter(range(1, 10))
        samples.house.extend(
            HouseSample(
                now_us - number * 60_000_000,
                {"transit/gifts INR": 700, "transit/transfers INR": next(moving), "house/stakes INR": 9},
            )
            for number in minutes
        )
        alarms = (await api.get("/admin/now")).json()["nodes"][0]["alarms"]
        waits = [alarm["text"] for alarm in alarms if "waits" in alarm["text"]]
        assert waits == (["money waits in transit/gifts INR"] if stuck else [])


# --- work ----------------------------------------------------------------------------------------------------------


async def test_all_gifts_are_listed_page_by_page_with_what_they_are_now(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 4) as api:
        codes = [f"g{number}" for number in range(7)]
        await api.world.given(*(create_gift(code=code, claims=1) for code in codes), close_gift("g3"), open_wallet())
        await api.world.given(claim_gift("g4"))
        await api.fold()
        found, cursor = [], ""
        while cursor is not None:
            page = (await api.get(f"/admin/gifts?limit=3{cursor and f'&cursor={cursor}'}")).json()
            assert len(page["items"]) <= 3
            found += page["items"]
            cursor = page["next_cursor"]
        assert sorted(gift["code"] for gift in found) == codes
        assert {gift["code"]: gift["status"] for gift in found} == dict.fromkeys(codes, "open") | {
            "g3": "closed",
            "g4": "used_up",
        }
        assert (await api.get("/admin/gifts?cursor=of-another-list")).status == 400


async def test_users_in_quarantine_are_listed_with_the_event_and_the_reason(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        assert (await api.get("/admin/quarantined")).json()["items"] == []
        stopped = Quarantined(0, "u1", 2, 1_700_000_000_000_000, "ValueError: it does not fit")
        after = Checkpoint(Head(1, "ab" * 32))
        await api.store.commit(1, [Run(0, Checkpoint(), after, [], quarantined=[stopped])])
        (user,) = (await api.get("/admin/quarantined")).json()["items"]
        assert user == {
            "user_id": "u1",
            "position": "0:2",
            "time_us": 1_700_000_000_000_000,
            "reason": "ValueError: it does not fit",
        }


# --- verification --------------------------------------------------------------------------------------------------


async def test_a_log_that_is_not_in_a_folder_cannot_be_verified_from_the_page(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path, 1) as api:
        assert (await api.get("/admin/verification")).json()["possible"] is False
        assert (await api.ask("POST", "/admin/verification")).status == 404


async def test_a_verification_runs_beside_the_service_and_says_what_it_found(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    async with InMemoryApi(tmp_path, 1, log_folder=tmp_path / "empty") as api:
        begun = await api.ask("POST", "/admin/verification")
        again = await api.ask("POST", "/admin/verification")
        assert (begun.status, begun.json()["status"]) == (202, "running")
        assert again.json()["began_at_us"] == begun.json()["began_at_us"], "one runs at a time"
        while (state := (await api.get("/admin/verification")).json())["status"] == "running":  # noqa: ASYNC110 - as the page does
            await asyncio.sleep(0.02)
        assert state["status"] == "failed"
        assert state["lines"][0].startswith("there is no event log in")
        assert state["by"] == "local"


STOPPED: Final = "stakelog audit verify: the log cannot be read: the disk is broken\n"
TRACEBACK: Final = "Traceback (most recent call last):\n\nMemoryError\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(
    ("printed", "status"),
    [
        ("FAULT partition 0, seq 7: it was changed\n", "fault"),
        (STOPPED, "failed"),
        (TRACEBACK, "failed"),
        (f"{TRACEBACK}FAULT partition 0, seq 7: it was changed\n", "fault"),
    ],
)
async def test_the_log_is_accused_only_if_a_fault_is_named_and_the_verification_yields_to_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, status: str
) -> None:
    """In place of the verification runs a program that prints what the test says, and ends with exit status 1."""
    told, asked = tmp_path / "told", tmp_path / "asked"
    os.mkfifo(told)
    os.mkfifo(asked)
    program = tmp_path / "program"
    repeat = f'while read -r line; do echo "$line"; done < {asked}'
    program.write_text(f"#!/bin/sh\necho verifying: 1 of 2 events\necho $$ > {told}\n{repeat}\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr("api.http.verification.sys.executable", str(program))
    verification = Verification(tmp_path)
    assert verification.start("meera")
    try:
        pid = int(await asyncio.to_thread(told.read_text))
        while verification.state.done != 1:  # noqa: ASYNC110 - as the page does
            await asyncio.sleep(0.01)
        assert (await asyncio.to_thread(Path(f"/proc/{pid}/oom_score_adj").read_text)) == "1000\n"
        await asyncio.to_thread(asked.write_text, printed)
        while verification.state.status == "running":  # noqa: ASYNC110 - as the page does
            await asyncio.sleep(0.01)
        assert verification.state.status == status
        assert verification.state.lines[-1] == printed.splitlines()[-1].removeprefix("stakelog audit verify: ")
    finally:
        await verification.stop()
