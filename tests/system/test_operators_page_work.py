"""The tabs Player and Work of the operator's page, clicked through in Chromium."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest
from playwright.sync_api import Route, expect

from system.browser import DESK, PHONE, Browser, OperatorsPage
from system.logins import LoggedIn, LoggedInClient

pytestmark = pytest.mark.system

SIZES: Final = [("light", DESK), ("dark", PHONE)]
DEPOSIT: Final = 10_000_000_000_000


class World(NamedTuple):
    service: LoggedIn
    browser: Browser
    server: LoggedInClient
    first: LoggedInClient
    second: LoggedInClient
    auditor: LoggedInClient


def post(client: LoggedInClient, user_id: str, kind: str, command_id: str, **fields: Any) -> None:
    answer = client.post("/v1/commands", {"type": kind, "command_id": command_id, "user_id": user_id, **fields})
    assert answer.status == 201, answer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        LoggedIn(tmp_path_factory.mktemp("work") / "data", PARTITIONS="4") as service,
        Browser() as browser,
    ):
        server = service.add("games-1", "game_server")
        for user_id in ("asha-light", "asha-dark", "bela"):
            post(server, user_id, "open_wallet", "open")
            for number in (1, 2):
                ids = {"command_id": f"d-{number}", "order_id": f"d-{number}"}
                post(server, user_id, "deposit", **ids, asset="INR", amount=DEPOSIT + number)
            for bet_id, payout in (("b-1", 0), ("b-2", 30_000)):
                about = {"bet_id": bet_id, "game": "external", "period": "p", "selection": "s"}
                post(server, user_id, "place_bet", bet_id, **about, asset="INR", stake=10_000)
                post(server, user_id, "settle_bet", f"s-{bet_id}", bet_id=bet_id, payout=payout)
            for order_id in ("w-1", "w-2"):
                post(server, user_id, "request_withdrawal", order_id, order_id=order_id, asset="INR", amount=500)
        operators = [service.add(name, "operator") for name in ("meera", "arjun")]
        yield World(service, browser, server, operators[0], operators[1], service.add("ravi", "auditor"))


def command(page: OperatorsPage, press: str, **fields: str) -> None:
    """Press a button, fill the dialog's fields, send the command, and close the dialog."""
    page.button(press).click()
    for label, text in fields.items():
        page.field(label).fill(text)
    page.button("Send command").click()
    expect(page.dialog).to_contain_text("Done.")
    page.button("Close").click()


@pytest.mark.parametrize(("theme", "width"), SIZES)
def test_a_player_is_found_and_everything_of_the_wallet_is_shown(world: World, theme: str, width: int) -> None:
    with world.browser.page(world.service.url, "ravi", world.auditor.secret, theme=theme, width=width) as page:
        page.tab("Player")
        page.field("The id begins with").fill("as")
        expect(page.table("Wallets").get_by_role("row")).to_have_count(3)
        page.check("found")
        page.page.get_by_role("link", name="asha-light", exact=True).click()
        # 2 deposits, bets that lost 10,000 and won 20,000, and 1,000 that wait for a withdrawal
        balances = page.table("Balances and limits of asha-light")
        expect(balances).to_contain_text("200,000,000,090.03")
        expect(page.page.locator("canvas")).to_have_count(1)
        assert page.button("Freeze …").count() == 0
        history = page.table("History of asha-light")
        expect(history.get_by_role("row")).to_have_count(8)
        page.check("player")
        page.field("Type").select_option("bet_placed")
        expect(history.get_by_role("row")).to_have_count(3)
        for name, table, text in (
            ("Bets", "Bets", "300.00"),
            ("Orders", "orders", "w-2"),
            ("Statistics", "Totals", "200.00"),
            ("Referrals", "Levels below", "6"),
        ):
            page.page.get_by_role("navigation", name="What is shown").get_by_role("link", name=name).click()
            expect(page.table(f"{table} {'' if 'below' in table else 'of '}asha-light")).to_contain_text(text)
        for name in ("Holds", "Transfers", "Grants"):
            page.page.get_by_role("navigation", name="What is shown").get_by_role("link", name=name).click()
            expect(page.page.get_by_text("There is none.")).to_be_visible()


def test_the_slider_shows_the_balance_at_a_time(world: World) -> None:
    lines = world.auditor.get("/v1/wallets/bela/history?asset=INR").json()["items"]
    with world.browser.page(world.service.url, "ravi", world.auditor.secret) as page:
        page.open("player/bela")
        slider = page.page.get_by_role("slider")
        expect(slider).to_have_attribute("min", str(lines[-1]["time_us"]))
        slider.press("Home")  # the first deposit
        expect(page.page.locator("dl").filter(has_text="cash")).to_contain_text("100,000,000,000.01 INR")


@pytest.mark.parametrize(("theme", "width"), SIZES)
def test_an_operator_freezes_limits_and_adjusts_a_wallet(world: World, theme: str, width: int) -> None:
    user_id = f"asha-{theme}"
    with world.browser.page(world.service.url, "meera", world.first.secret, theme=theme, width=width) as page:
        page.open(f"player/{user_id}")
        sent = page.lose_first_response()
        page.button("Freeze …").click()
        page.field("Reason").fill("a chargeback")
        page.button("Send command").click()
        expect(page.dialog.get_by_role("alert")).to_contain_text("did not respond")
        page.button("Repeat").click()
        expect(page.dialog).to_contain_text("Done.")
        page.button("Close").click()
        first, second = sent
        assert first == second
        expect(page.page.get_by_text("frozen", exact=True)).to_be_visible()
        command(page, "Unfreeze …", Reason="withdrawn")
        expect(page.button("Freeze …")).to_be_visible()
        command(page, "Set limits …", **{"Most stakes a day": "1,234.5", "Credit limit": "10"})
        limits = page.table(f"Balances and limits of {user_id}")
        expect(limits).to_contain_text("1,234.50")
        command(page, "Set limits …", **{"Most stakes a day": "none"})
        expect(limits).not_to_contain_text("1,234.50")
        expect(limits).to_contain_text("10.00")
        command(page, "Propose an adjustment …", Amount="-5", Reason="a mistake of the cashier")
        page.tab("Work")
        row = page.table("Proposed adjustments").get_by_role("row").filter(has_text=user_id)
        expect(row).to_contain_text("−5.00 INR")
        expect(row).to_contain_text("another client has to approve it")
        expect(row.get_by_role("button", name="Approve")).to_have_count(0)
        page.check("work")
    wallet = world.auditor.get(f"/v1/wallets/{user_id}").json()
    assert (wallet["status"], wallet["limits"]["INR"]["stake_max_per_day"]) == ("open", None)

    with world.browser.page(world.service.url, "arjun", world.second.secret, theme=theme, width=width) as page:
        page.tab("Work")
        row = page.table("Proposed adjustments").get_by_role("row").filter(has_text=user_id)
        row.get_by_role("button", name="Approve").click()
        expect(page.dialog).to_contain_text("proposed by meera: a mistake of the cashier")
        page.button("Send command").click()
        page.button("Close").click()
        expect(row).to_have_count(0)
    after = world.auditor.get(f"/v1/wallets/{user_id}").json()
    assert after["balances"]["INR"]["cash"] == wallet["balances"]["INR"]["cash"] - 500


def test_a_comma_groups_three_digits_or_the_amount_is_not_sent(world: World) -> None:
    with world.browser.page(world.service.url, "meera", world.first.secret) as page:
        page.open("player/bela")
        page.button("Propose an adjustment …").click()
        page.field("Reason").fill("a mistake of the cashier")
        for wrong in ("12,50", "1,5", "1,2345", "1234,567", "1,,000", ",500"):
            page.field("Amount").fill(wrong)
            expect(page.button("Send command")).to_be_disabled()
        for text, minor in (("1,234.50", 123_450), ("1,234,567", 123_456_700), ("1234567.8", 123_456_780)):
            page.field("Amount").fill(text)
            expect(page.button("Send command")).to_be_enabled()
            expect(page.dialog).to_contain_text(f'"amount": {minor}')


def test_a_command_counts_once_although_the_service_failed_after_it(world: World) -> None:
    sent = list[Any]()

    def fail(route: Route) -> None:
        """The service does it, and fails; then it is overloaded; then it responds."""
        sent.append(route.request.post_data_json)
        if len(sent) > 2:
            route.continue_()
            return
        if len(sent) == 1:
            assert route.fetch().status == 201
        status, code = ((500, "internal_error"), (503, "overloaded"))[len(sent) - 1]
        route.fulfill(status=status, json={"code": code, "title": code}, content_type="application/problem+json")

    with world.browser.page(world.service.url, "meera", world.first.secret) as page:
        page.open("player/bela")
        page.page.route("**/v1/commands", fail)
        page.button("Propose an adjustment …").click()
        page.field("Amount").fill("5")
        page.field("Reason").fill("twice would be wrong")
        page.button("Send command").click()
        expect(page.dialog.get_by_role("alert")).to_contain_text("internal_error")
        page.button("Repeat").click()
        expect(page.dialog.get_by_role("alert")).to_contain_text("overloaded")
        expect(page.field("Amount")).to_be_disabled()
        page.button("Repeat").click()
        expect(page.dialog).to_contain_text("Done.")
    assert sent == [sent[0]] * 3
    proposed = world.auditor.get("/v1/adjustments?status=proposed").json()["items"]
    assert [one["amount"] for one in proposed if one["reason"] == "twice would be wrong"] == [500]


@pytest.mark.parametrize(("theme", "width"), SIZES)
def test_withdrawals_are_decided_and_gifts_created_and_closed(world: World, theme: str, width: int) -> None:
    user_id = f"asha-{theme}"
    with world.browser.page(world.service.url, "meera", world.first.secret, theme=theme, width=width) as page:
        page.tab("Work")
        queue = page.table("Withdrawals to decide").get_by_role("row").filter(has_text=user_id)
        expect(queue).to_have_count(2)
        queue.filter(has_text="w-1").get_by_role("button", name="Approve").click()
        page.button("Send command").click()
        page.button("Close").click()
        expect(queue).to_have_count(1)
        queue.get_by_role("button", name="Reject").click()
        expect(page.button("Send command")).to_be_disabled()
        page.field("Reason").fill("another name")
        page.button("Send command").click()
        page.button("Close").click()
        expect(queue).to_have_count(0)
        code = f"diwali-{theme}"
        command(page, "Create a gift …", Code=code, Amount="10.01", Shares="3")
        gift = page.table("All gifts").get_by_role("row").filter(has_text=code)
        expect(gift).to_contain_text("10.01 INR")
        expect(gift).to_contain_text("0 of 3")
        page.field("Find by code").fill("no-such-gift")
        page.button("Find").click()
        expect(page.page.get_by_role("alert")).to_contain_text("not_found")
        page.field("Find by code").fill(code)
        page.button("Find").click()
        expect(page.table("The gift with this code")).to_contain_text("open")
        page.check("gifts")
        gift.get_by_role("button", name=f"Close {code}").click()
        page.field("Reason").fill("over")
        page.button("Send command").click()
        page.dialog.get_by_role("button", name="Close", exact=True).click()
        expect(gift).to_contain_text("closed")
    orders = world.auditor.get(f"/v1/orders?user_id={user_id}&kind=withdrawal").json()["items"]
    assert {order["order_id"]: (order["status"], order["reason"]) for order in orders} == {
        "w-1": ("approved", None),
        "w-2": ("rejected", "another name"),
    }
    with world.browser.page(world.service.url, "ravi", world.auditor.secret, theme=theme, width=width) as page:
        page.tab("Work")
        expect(page.table("Withdrawals to decide")).to_contain_text("bela")
        for name in ("Approve w-1", "Reject w-1", "Create a gift …", f"Close {code}"):
            expect(page.button(name)).to_have_count(0)
