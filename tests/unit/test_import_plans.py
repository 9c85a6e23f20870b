"""`stakelog import`: exact amounts, and each problem of a file with its line, before anything is posted; what is read
after the posting, and how it stops."""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from api.cli.importing.plan import BadValue, Change, Plan, minor_units
from api.cli.importing.posting import Stopped, _Run
from api.cli.main import stakelog
from stakelog_client import AsyncClient

SAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "import"
# Nothing listens there: a test in which something is posted fails.
NOWHERE = ("--url", "http://127.0.0.1:9")


def problems(*arguments: str) -> list[str]:
    done = CliRunner().invoke(stakelog, ["import", *arguments, *NOWHERE])
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return [line.removeprefix("PROBLEM ") for line in done.stdout.splitlines() if line.startswith("PROBLEM")]


@given(st.integers(-(10**20), 10**20), st.integers(0, 18), st.integers(0, 4))
def test_a_decimal_text_becomes_minor_units_exactly_or_not_at_all(units: int, exponent: int, more: int) -> None:
    text = f"{Decimal(units).scaleb(-exponent - more, None):f}" if abs(units) < 10**17 else f"{units}"
    expected = units if abs(units) < 10**17 else units * 10 ** (exponent + more)
    if expected % 10**more:
        with pytest.raises(BadValue, match="more decimal places"):
            minor_units(text, "X", {"X": exponent})
    else:
        assert minor_units(text, "X", {"X": exponent}) == expected // 10**more


@pytest.mark.parametrize("text", ["", "1e999999999", "NaN", "Infinity", "1,5", "0x10", "ten"])
def test_what_is_not_an_amount_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        minor_units(text, "X", {"X": 2})


def test_each_problem_of_a_csv_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "wrong.csv"
    rows = ["no;customer;kind;value;currency;booked", "1;ada;credit;1.00;inr;2025-01-01"]
    rows += ["1;ada;credit;1.00;inr;2025-01-01", "2;ada;credit;1.005;inr;2025-01-01"]
    rows += ["3;ada;debit;1.01;inr;2025-01-02", "4;ada;credit;1;gold;2025-01-01", "5;ada;gift;1;inr;2025-01-01"]
    rows += ["6;game:x;credit;1;inr;2025-01-01", "7;ada;credit;1;inr;soon", "8;;credit;1;inr;2025-01-01"]
    file.write_text("\n".join(rows) + "\n")
    found = problems("csv", str(file), "--mapping", str(SAMPLES / "shop-mapping.json"))
    assert [line.partition(":")[0] for line in found] == [f"line {number}" for number in range(3, 11)]
    for line, said in zip(
        found,
        (
            *(
                "the id 1 is that of line 2",
                "more decimal places than INR",
                "would be -1 minor units of INR, below 0",
            ),
            *("the asset gold is unknown", "which the mapping's signs lack", "begins with a reserved word"),
            *("'soon' is not a time", "it has no customer"),
        ),
        strict=True,
    ):
        assert said in line


def test_an_amount_has_no_minus_where_a_column_says_which_way_the_money_went(tmp_path: Path) -> None:
    """`debit;-10.50` was posted as +10.50."""
    file = tmp_path / "minus.csv"
    head = "no;customer;kind;value;currency;booked"
    file.write_text(f"{head}\n1;ada;debit;-10.50;inr;2025-01-01\n2;ada;credit;-0.01;inr;2025-01-01\n")
    found = problems("csv", str(file), "--mapping", str(SAMPLES / "shop-mapping.json"))
    assert found == [
        f"line {line}: value is {value}, but kind says which way the money went: no minus"
        for line, value in ((2, "-10.50"), (3, "-0.01"))
    ]


def test_problems_of_the_other_sources_are_named(tmp_path: Path) -> None:
    lines = (SAMPLES / "formance-logs.ndjson").read_text().splitlines()
    logs = tmp_path / "logs.ndjson"
    logs.write_text("\n".join([lines[0], lines[2].replace("INR/2", "INR/3"), lines[2]]))
    assert problems("formance", str(logs)) == [
        "line 2: the log id 2 comes after 0: logs are missing",
        "line 3: the log id 2 comes twice or out of order",
    ]
    logs.write_text(lines[0].replace("INR/2", "INR/3"))
    assert problems("formance", str(logs)) == ["line 1: INR/3 counts in 1 ÷ 10^3, but INR in 1 ÷ 10^2"]
    ledger = tmp_path / "ledger.csv"
    ledger.write_text((SAMPLES / "nakama-wallet_ledger.csv").read_text().replace("-120", "1.5"))
    found = problems("nakama", str(ledger), "--asset", "coins=GOLD", "--asset", "gems=GOLD")
    assert found == ["line 3: changeset.coins is 1.5, not an integer"]
    blnk = tmp_path / "blnk.json"
    blnk.write_text(
        (SAMPLES / "blnk-transactions.json").read_text().replace('"precise_amount":5000', '"precise_amount":0.1')
    )
    found = problems("blnk", str(blnk), "--balances", str(SAMPLES / "blnk-balances.csv"), "--asset", "USD=INR")
    assert found[:1] == ["line 3: 0.1 of 1 ÷ 100 is not a whole number of minor units of INR"]


def test_a_file_that_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    for text, said in (("[1]", "it is not a JSON object"), ("{", "it is not JSON"), ("a,b\n1\n", "as many fields")):
        (tmp_path / "bad").write_text(text)
        done = CliRunner().invoke(stakelog, ["import", "nakama", str(tmp_path / "bad"), *NOWHERE])
        assert (done.exit_code, said in done.stderr, "Traceback" in done.output) == (2, True, False), done.output


class LateReads:
    """Accepts every command but those of ``refused``. A read that names no position is too early to show anything."""

    def __init__(self, refused: tuple[str, ...] = ()) -> None:
        self.refused, self.cash = refused, Counter[str]()

    def respond(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            user_id = request.url.path.rpartition("/")[2]
            if "min_position" not in request.url.params:
                return httpx.Response(404, json={"code": "wallet_not_found", "detail": "it is not open"})
            cash = self.cash[user_id]
            balances = {"GOLD": {"cash": cash, "bonus": 0, "held": 0, "available": cash, "withdrawable": cash}}
            rest = {
                "referrer_id": None,
                "first_deposit": None,
                "limits": {},
                "as_of": {"position": "0:1", "lag_ms": 0},
            }
            return httpx.Response(
                200, json={"user_id": user_id, "status": "open", "opened_at_us": 1, "balances": balances, **rest}
            )
        body = msgspec.json.decode(request.content)
        results = [self._posted(command) for command in (body if isinstance(body, list) else [body])]
        if isinstance(body, list):
            return httpx.Response(200, json=results)
        return httpx.Response(results[0]["status"], json=results[0].get("result") or results[0]["problem"])

    def _posted(self, command: dict[str, Any]) -> dict[str, Any]:
        if command["user_id"] in self.refused:
            return {"status": 403, "problem": {"code": "forbidden", "detail": "not for you"}}
        self.cash[command["user_id"]] += command.get("amount", 0)
        placed = {"position": "0:1", "partition": 0, "seq": 1, "time_us": 1, "head": "0" * 64}
        return {"status": 201, "result": {**placed, "type": "t", "data": {}, "balances": {}, "postings": []}}

    async def imported(self, *changed: str, unchanged: tuple[str, ...] = ()) -> _Run:
        changes = {user_id: [Change(1, user_id, 0, 0, "", user_id, "GOLD", 5)] for user_id in changed}
        balances = {(user_id, "GOLD"): 5 for user_id in changed}
        wallets = {**changes, **{user_id: [] for user_id in unchanged}}
        plan = Plan("nakama", 1, wallets, {"GOLD": (5 * len(changed), 0)}, balances, [], Counter())
        async with self._client() as opener, self._client() as adjuster:
            run = _Run(plan, opener, adjuster, lambda *_: None)
            await run.each(list(wallets), run.post_wallet)
            await run.each(list(wallets), run.read_wallet)
        return run

    def _client(self) -> AsyncClient:
        return AsyncClient("http://service", transport=httpx.MockTransport(self.respond), deadline_s=5)


async def test_a_wallet_without_changes_is_read_when_its_opening_is_visible() -> None:
    """The import ended with status 1, although all was well."""
    checked = (await LateReads().imported("ada", unchanged=("bob",))).checked()
    assert (checked.totals, checked.differences) == ({"GOLD": (5, 5)}, ())


async def test_several_refusals_at_once_end_as_one_of_them() -> None:
    with pytest.raises(Stopped, match="forbidden: not for you") as stopped:
        await LateReads(("ada", "bob")).imported("ada", "bob", "eve")
    assert not isinstance(stopped.value, BaseExceptionGroup)
