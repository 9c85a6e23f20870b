"""`stakelog import` into a real service with login: the page's examples, a run that is killed, and what stops one."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from ledger.sqlite.folder import EVENTS
from sqlite_log import stored_records
from system.logins import LoggedIn

pytestmark = pytest.mark.system

DOCS = Path(__file__).parents[2] / "docs"


class Importer:
    def __init__(self, folder: Path, service: LoggedIn) -> None:
        self.folder, self.service = folder, service
        for name, role in (("importer", "game_server"), ("importer-operator", "operator")):
            client = service.add(name, role)
            (folder / f"{name}.json").write_text(
                json.dumps({"client_id": client.client_id, "client_secret": client.secret})
            )
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "URL": service.url}

    def command(self, *arguments: str) -> list[str]:
        logins = ("--login", "importer.json", "--operator-login", "importer-operator.json")
        return [sys.executable, "-m", "api", "import", *arguments, "--url", self.service.url, *logins]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def events(self) -> list[dict[str, object]]:
        return [json.loads(stored.record) for stored in stored_records(self.service.data / EVENTS)]

    def imported(self, prefix: str) -> list[str]:
        return [str(one["command_id"]) for one in self.events() if str(one["command_id"]).startswith(prefix)]


@pytest.fixture(scope="module")
def importer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Importer]:
    folder = tmp_path_factory.mktemp("import")
    shutil.copytree(DOCS / "examples" / "import", folder, dirs_exist_ok=True)
    with LoggedIn(folder / "data", ASSETS="INR:2,USDT:6,GOLD:0,GEM:0") as service:
        yield Importer(folder, service)


def test_the_examples_of_the_page_import_each_source_once(importer: Importer) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (DOCS / "import.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        ["bash", "-ec", "\n".join(blocks)],
        cwd=importer.folder,
        env=importer.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines.count("well: every balance is that of the source") == 5
    assert "1455 GOLD of the source, 1455 GOLD in the wallets' reads" in lines
    assert "107.00 INR of the source, 107.00 INR in the wallets' reads" in lines
    assert "200.000000 USDT of the source, 200.000000 USDT in the wallets' reads" in lines
    assert lines.count("15.25 INR of the source, 15.25 INR in the wallets' reads") == 2
    events = importer.events()
    balances = {
        str(event["user_id"]): event["balances"] for event in events if str(event["command_id"]).startswith("import:")
    }
    assert balances["ines"] == {"INR": {"cash": 10_000, "bonus": 0, "held": 0}}
    assert balances["omar"] == {"INR": {"cash": 700, "bonus": 0, "held": 0}}
    assert balances["idt_lena"] == {"USDT": {"cash": 125_500_000, "bonus": 0, "held": 0}}
    assert balances["c-17"] == {"INR": {"cash": 1_450, "bonus": 0, "held": 0}}
    coins = [event["data"] for event in events if str(event["command_id"]).startswith("import:nakama:0d3a4f5e-0001")]
    assert coins[0] == {
        "amount": 500,
        "asset": "GOLD",
        "metadata": {
            "import": "nakama",
            "source_id": "0d3a4f5e-0001-4c1a-9c5e-000000000001",
            "source_time": "2025-03-01 10:00:00.123456+00",
        },
        "reason": "imported from nakama",
    }
    assert len(importer.imported("import:nakama:")) == 5
    assert len(importer.imported("import:csv:")) == 3, "the second run posted nothing"


def test_an_import_that_is_killed_again_and_again_ends_with_each_change_once(importer: Importer) -> None:
    chance = Random(3)
    sums: dict[str, Decimal] = {}
    with (importer.folder / "many.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("no", "customer", "kind", "value", "currency", "booked"))
        for number in range(1_200):
            user_id, value = f"m{chance.randrange(90)}", Decimal(chance.randrange(1, 5_000)) / 100
            kind = "debit" if sums.get(user_id, Decimal(0)) > value and chance.random() < 0.5 else "credit"
            sums[user_id] = sums.get(user_id, Decimal(0)) + (value if kind == "credit" else -value)
            rows.writerow(
                (f"many-{number}", user_id, kind, value, "inr", f"2025-01-01T00:{number // 60:02}:{number % 60:02}")
            )
    mapping = json.loads((importer.folder / "shop-mapping.json").read_text()) | {"delimiter": ","}
    (importer.folder / "many.json").write_text(json.dumps(mapping))
    arguments = ("csv", "many.csv", "--mapping", "many.json")
    killed = 0
    for part in (1, 400, 800):
        process = subprocess.Popen(
            importer.command(*arguments),
            cwd=importer.folder,
            env=importer.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and len(importer.imported("import:csv:many")) < part:
            pass
        process.kill()
        killed += process.wait() != 0
    assert killed, "no run was killed in the middle"
    done = importer.run(*arguments)
    assert done.returncode == 0, done
    imported = importer.imported("import:csv:many")
    assert len(imported) == len(set(imported)) == 1_200
    cash = {str(event["user_id"]): event["balances"] for event in importer.events()}
    assert {user_id: cash[user_id]["INR"]["cash"] for user_id in sums} == {  # type: ignore[index]
        user_id: int(amount * 100) for user_id, amount in sums.items()
    }


def test_a_changed_file_and_a_wallet_with_other_money_stop_an_import(importer: Importer) -> None:
    changed = importer.folder / "changed.csv"
    text = "no;customer;kind;value;currency;booked\nx1;x;credit;1.00;inr;2025-04-01\n"
    changed.write_text(text)
    assert importer.run("csv", "changed.csv", "--mapping", "shop-mapping.json").returncode == 0
    changed.write_text(text.replace("1.00", "2.00"))
    done = importer.run("csv", "changed.csv", "--mapping", "shop-mapping.json")
    assert done.returncode == 1
    assert "line 2, x, import:csv:x1:0: refused, command_id_reused" in done.stderr
    assert "the file was changed in between" in done.stderr
    changed.write_text(text.replace("x1", "x2"))
    done = importer.run("csv", "changed.csv", "--mapping", "shop-mapping.json")
    assert done.returncode == 1
    assert "x has 200 minor units of INR, the source 100" in done.stderr
