"""Each flow of the operator's page, clicked through in Chromium; `unit/test_operators_page.py` has its routes."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from playwright.sync_api import Route, expect

from deploy.local.install import ROOT, find
from system.browser import DESK, PHONE, THEMES, Browser, OperatorsPage
from system.logins import ADMIN_SECRET, LoggedIn, LoggedInClient

pytestmark = pytest.mark.system

GAME: Final = "wingo_2s"
LENGTH_S: Final = 2
DESK_AND_PHONE: Final = [("light", DESK), ("dark", PHONE)]
EVERY_SIZE: Final = [(theme, width) for theme in THEMES for width in (DESK, PHONE)]


class World(NamedTuple):
    """A service with some bets, a client of each role, and the browser."""

    service: LoggedIn
    browser: Browser
    server: LoggedInClient
    operator: LoggedInClient
    auditor: LoggedInClient


def present_period(length_s: int) -> str:
    seconds = time.time()
    return datetime.fromtimestamp(seconds - seconds % length_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def bet(server: LoggedInClient, bet_id: str, game: str = GAME, length_s: int = LENGTH_S) -> str:
    """Place it on a period that takes bets. Returns the period."""
    while True:
        chosen = present_period(length_s)
        command = {"type": "place_bet", "command_id": f"{bet_id} {chosen}".replace(" ", "/"), "user_id": "asha"}
        what = {"bet_id": bet_id, "game": game, "period": chosen, "selection": "big", "asset": "INR", "stake": 5_000}
        answer = server.post("/v1/commands", command | what)
        if answer.status == 201:
            return chosen
        assert answer.json()["code"] == "period_closed", answer
        time.sleep(0.02)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("page")
    rules = folder / "rules.json"
    rules.write_text(json.dumps({"games": {GAME: {"close_ms": 500}}}))
    with (
        LoggedIn(folder / "data", PARTITIONS="4", RULES=str(rules)) as service,
        Browser() as browser,
    ):
        server = service.add("games-1", "game_server")
        for command in (
            {"type": "open_wallet", "command_id": "open"},
            {"type": "deposit", "command_id": "d-1", "order_id": "d-1", "asset": "INR", "amount": 10_000_000},
        ):
            assert server.post("/v1/commands", {"user_id": "asha", **command}).status == 201
        for number in range(5):
            bet(server, f"b-{number}")
        yield World(service, browser, server, service.add("meera", "operator"), service.add("ravi", "auditor"))


@pytest.mark.parametrize(("theme", "width"), EVERY_SIZE)
def test_every_tab_fits_and_is_accessible_in_both_themes(world: World, theme: str, width: int) -> None:
    with world.browser.page(world.service.url, theme=theme, width=width) as page:
        page.open()
        expect(page.button("Log in")).to_be_visible()
        page.check("login")
        page.log_in("admin", ADMIN_SECRET)
        expect(page.page.locator("canvas")).to_have_count(6)
        expect(page.table("Partitions").get_by_role("row")).to_have_count(5)
        page.check("now")
        page.open(f"games/{GAME}")
        expect(page.table(f"Periods of {GAME}")).to_be_visible()
        expect(page.table("Edge by game")).to_be_visible()
        page.check("games")
        page.tab("Proof")
        page.field("Position (partition:seq)").fill("0:1")
        expect(page.table("Seals")).to_be_visible()
        page.check("proof")
        page.button("Verify now …").click()
        page.check("dialog")
        page.button("Close").click()
        page.tab("Clients")
        expect(page.table("Clients")).to_contain_text("games-1")
        page.check("clients")


def test_a_login_lasts_over_a_reload_until_logout(world: World) -> None:
    with world.browser.page(world.service.url) as page:
        page.open()
        page.log_in("meera", "a-wrong-secret")
        expect(page.page.get_by_role("alert")).to_contain_text("its secret is wrong")
        expect(page.field("Secret")).to_have_value("")
        page.log_in("meera", world.operator.secret)
        expect(page.page.get_by_role("heading", level=1, name="Now")).to_be_visible()
        assert page.page.evaluate("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})") == "{}"
        page.page.reload()
        expect(page.page.get_by_role("heading", level=1, name="Now")).to_be_visible()
        page.button("Log out").click()
        expect(page.button("Log in")).to_be_visible()
        page.page.reload()
        expect(page.button("Log in")).to_be_visible()


def test_a_node_that_does_not_respond_does_not_make_the_page_read_the_whole_hour_again(world: World) -> None:
    asked: list[int] = []

    def add_silent_node(route: Route) -> None:
        asked.append(int(route.request.url.rpartition("since_us=")[2]))
        response = route.fetch()
        now = response.json()
        silent = {**now["nodes"][0], "address": "http://10.0.0.9:1", "ready": False, "samples": []}
        route.fulfill(response=response, json=now | {"nodes": [*now["nodes"], silent]})

    with world.browser.page(world.service.url) as page:
        page.page.route("**/admin/now?*", add_silent_node)
        page.open()
        page.log_in("ravi", world.auditor.secret)
        expect(page.table("Nodes")).to_contain_text("accepts no commands")
        with page.page.expect_response("**/admin/now?*"):
            page.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.page.unroute_all(behavior="wait")
        assert asked[0] == 0
        assert asked[1] > 0


def test_each_role_is_offered_what_it_may_do(world: World) -> None:
    tabs = {}
    for client_id, secret in (
        ("meera", world.operator.secret),
        ("ravi", world.auditor.secret),
        ("admin", ADMIN_SECRET),
    ):
        with world.browser.page(world.service.url, client_id, secret) as page:
            tabs[client_id] = page.page.get_by_role("navigation").get_by_role("link").all_inner_texts()
            page.open(f"games/{GAME}")
            expect(page.table(f"Periods of {GAME}")).to_be_visible()
            cancel = page.button("Cancel …").first
            if client_id == "meera":
                expect(cancel).to_be_visible()
            else:
                expect(cancel).to_have_count(0)
            page.tab("Proof")
            expect(page.button("Get receipt")).to_have_count(0 if client_id == "meera" else 1)
    assert "Clients" in tabs["admin"]
    assert tabs["meera"] == tabs["ravi"] == [title for title in tabs["admin"] if title != "Clients"]


def test_the_keyboard_is_enough(world: World) -> None:
    with world.browser.page(world.service.url) as page:
        page.open()
        keyboard = page.page.keyboard
        expect(page.field("Client")).to_be_focused()
        keyboard.type("meera")
        keyboard.press("Tab")
        keyboard.type(world.operator.secret)
        keyboard.press("Enter")
        expect(page.page.get_by_role("heading", level=1, name="Now")).to_be_visible()
        tab_to(page, "Skip to the content")
        keyboard.press("Enter")
        expect(page.page.locator("main")).to_be_focused()
        page.page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        tab_to(page, "Proof")
        keyboard.press("Enter")
        tab_to(page, "Verify now …")
        keyboard.press("Enter")
        expect(page.dialog).to_be_visible()
        keyboard.press("Escape")
        expect(page.dialog).to_have_count(0)
        expect(page.button("Verify now …")).to_be_focused()


def tab_to(page: OperatorsPage, text: str) -> None:
    for _ in range(40):
        page.page.keyboard.press("Tab")
        if page.page.evaluate("document.activeElement.textContent") == text:
            return
    raise AssertionError(f"{text} is not reached by Tab")


def test_the_chosen_theme_is_kept_whatever_the_system_has(world: World) -> None:
    with world.browser.page(world.service.url, "ravi", world.auditor.secret, theme="dark") as page:
        ground = "getComputedStyle(document.body.parentElement).backgroundColor"
        dark = page.page.evaluate(ground)
        page.field("Theme").select_option("light")
        light = page.page.evaluate(ground)
        assert dark != light
        page.page.reload()
        expect(page.page.get_by_role("navigation")).to_be_visible()
        assert page.page.evaluate(ground) == light


def test_a_bet_appears_live_in_the_distribution(world: World) -> None:
    game, length_s = "wingo_10m", 600
    with world.browser.page(world.service.url, "ravi", world.auditor.secret) as page:
        page.open(f"games/{game}")
        distribution = page.table(f"What is bet on the present period of {game}")
        expect(page.page.get_by_text("No bet yet.").or_(distribution)).to_be_visible()
        shown = False
        while not shown:
            period = bet(world.server, "long", game, length_s)
            try:
                expect(distribution).to_contain_text("50.00 INR")
                shown = True
            except AssertionError:
                if present_period(length_s) == period:
                    raise  # otherwise the page follows the next period already: place the bet there


@pytest.mark.parametrize(("theme", "width"), DESK_AND_PHONE)
def test_a_cancelled_period_counts_once_although_its_answer_was_lost(world: World, theme: str, width: int) -> None:
    bet_id = f"to-be-cancelled-{theme}"
    period = bet(world.server, bet_id)
    with world.browser.page(world.service.url, "meera", world.operator.secret, theme=theme, width=width) as page:
        page.open(f"games/{GAME}")
        row = page.table(f"Periods of {GAME}").get_by_role("row").filter(has_text=period)
        expect(row.get_by_role("button", name="Cancel …")).to_be_visible()
        sent = page.lose_first_response()
        row.get_by_role("button", name="Cancel …").click()
        expect(page.dialog).to_contain_text('"type": "cancel_period"')
        expect(page.button("Send command")).to_be_disabled()
        page.field("Reason").fill("the draw was wrong")
        expect(page.dialog).to_contain_text('"reason": "the draw was wrong"')
        page.button("Send command").click()
        expect(page.dialog.get_by_role("alert")).to_contain_text("did not respond")
        expect(page.field("Reason")).to_be_disabled()
        page.check("lost")
        page.button("Repeat").click()
        expect(page.dialog).to_contain_text("Done.")
        page.button("Close").click()
        expect(row).to_contain_text("cancelled")
    first, second = sent
    assert first == second
    records = [world.auditor.get(f"/v1/events?partition={number}").body.splitlines() for number in range(4)]
    events = [json.loads(record) for lines in records for record in lines]
    cancelled = [
        event for event in events if event["type"] == "period_cancelled" and event["data"]["period"] == period
    ]
    assert [(event["command_id"], event["actor"]) for event in cancelled] == [(first["command_id"], "meera")]
    found = world.auditor.get(f"/v1/wallets/asha/bets?status=cancelled&game={GAME}").json()["items"]
    assert [item["bet_id"] for item in found][:1] == [bet_id]


def test_a_refused_command_says_why_and_can_be_changed(world: World) -> None:
    period = bet(world.server, "settled-first")
    with world.browser.page(world.service.url, "meera", world.operator.secret) as page:
        page.open(f"games/{GAME}")
        row = page.table(f"Periods of {GAME}").get_by_role("row").filter(has_text=period)
        row.get_by_role("button", name="Cancel …").click()
        result = {"type": "record_result", "command_id": f"r-{period}", "user_id": f"game:{GAME}"}
        answer = world.server.post("/v1/commands", result | {"period": period, "result": "7"})
        assert answer.status == 201, answer
        page.field("Reason").fill("too late")
        page.button("Send command").click()
        expect(page.dialog.get_by_role("alert")).to_contain_text("result_already_recorded")
        expect(page.field("Reason")).to_be_enabled()
        page.button("Close").click()
        page.button("Refresh").click()
        expect(row).to_contain_text("settled")


@pytest.mark.parametrize(("theme", "width"), DESK_AND_PHONE)
def test_a_verification_heads_and_a_receipt(world: World, theme: str, width: int) -> None:
    with world.browser.page(world.service.url, "ravi", world.auditor.secret, theme=theme, width=width) as page:
        page.open("proof")
        page.button("Verify now …").click()
        page.button("Send").click()
        expect(page.dialog).to_contain_text("Done.")
        page.button("Close").click()
        expect(page.page.get_by_text("the log is well")).to_be_visible()
        expect(page.page.get_by_text(re.compile(r"well: \d+ events in 4 partitions"))).to_be_visible()
        page.check("verified")
        with page.page.expect_download() as begun:
            page.button("Download heads").click()
        heads = json.loads(Path(begun.value.path()).read_bytes())
        assert [item["partition"] for item in heads["items"]] == [0, 1, 2, 3]
        partition = next(item["partition"] for item in heads["items"] if item["seq"])
        page.field("Position (partition:seq)").fill(f"{partition}:1")
        page.button("Get receipt").click()
        with page.page.expect_download() as begun:
            page.button("Download receipt").click()
        receipt = json.loads(Path(begun.value.path()).read_bytes())
        assert receipt["record"] == world.auditor.get(f"/v1/events/{partition}:1").body.decode()
        page.field("Position (partition:seq)").fill("0:99999")
        page.button("Get receipt").click()
        expect(page.page.get_by_role("alert")).to_contain_text("event_not_found")


@pytest.mark.parametrize(("theme", "width"), DESK_AND_PHONE)
def test_a_client_is_added_narrowed_rotated_and_disabled(world: World, theme: str, width: int) -> None:
    shop, secrets = f"shop-{theme}", []

    def secret_of(page: OperatorsPage) -> str:
        expect(page.dialog).to_contain_text("is shown only now")
        secret = page.dialog.locator(".copyable code").inner_text()
        page.button("Close").click()
        return secret

    def status_of(client_id: str, secret: str) -> int:
        return world.service.try_login(client_id, secret).status

    with world.browser.page(world.service.url, "admin", ADMIN_SECRET, theme=theme, width=width) as page:
        page.tab("Clients")
        page.button("Add client …").click()
        page.field("Client id").fill(shop)
        page.field("Role").select_option("game_server")
        page.button("Send").click()
        secrets.append(secret_of(page))
        assert status_of(shop, secrets[0]) == 200

        row = (
            page.table("Clients").get_by_role("row").filter(has=page.page.get_by_role("cell", name=shop, exact=True))
        )
        row.get_by_role("button", name="Narrow …").click()
        page.field("Client id").fill(f"{shop}-deposits")
        page.field("Only these types of commands").fill("deposit")
        page.button("Send").click()
        narrow = world.service.login(f"{shop}-deposits", secret_of(page))
        assert narrow.post("/v1/commands", {"type": "open_wallet", "command_id": "o", "user_id": "eve"}).status == 403
        expect(page.table("Clients").get_by_role("row").filter(has_text=f"{shop}-deposits")).to_contain_text(
            "deposit"
        )

        row.get_by_role("button", name="Rotate …").click()
        page.button("Send").click()
        secrets.append(secret_of(page))
        assert [status_of(shop, secret) for secret in secrets] == [401, 200]

        row.get_by_role("button", name="Disable …").click()
        expect(page.dialog).to_contain_text(f"DELETE /v1/clients/{shop}")
        page.button("Send").click()
        page.button("Close").click()
        expect(row).to_contain_text("disabled")
        assert status_of(shop, secrets[1]) == 401


def test_a_rebuild_gives_the_same_bytes(tmp_path: Path) -> None:
    if find("npm") is None:
        if "CI" in os.environ:
            pytest.fail("npm is not installed: `python3 -m deploy.local install` installs it")
        pytest.skip("npm is not installed")
    subprocess.run(["make", "--no-print-directory", "page", f"FOLDER={tmp_path}"], cwd=ROOT, check=True)
    built = {file.name: file.read_bytes() for file in (ROOT / "src" / "api" / "page" / "built").iterdir()}
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == built
    axe = (ROOT / "build" / "page" / "node_modules" / "axe-core" / "axe.min.js").read_bytes()
    assert (ROOT / "tests" / "fixtures" / "axe.min.js").read_bytes() == axe
