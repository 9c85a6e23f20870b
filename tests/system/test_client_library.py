"""The client library against the real service: with login, while connections are reset, and as a package."""

import asyncio
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from re import DOTALL, findall
from shutil import copytree, ignore_patterns
from zipfile import ZipFile

import pytest

from stakelog_client import AsyncClient, Client, refusals
from stakelog_client.errors import Refused
from system.logins import LoggedIn
from system.resetting_proxy import ResettingProxy
from system.service import Service

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "src" / "stakelog_client"

TASKS = 32
BETS_A_TASK = 30


async def play(client: AsyncClient, user_id: str) -> int:
    """Bets one after another; returns how much was staked."""
    await client.open_wallet(user_id)
    await client.deposit(user_id, order_id="d", asset="INR", amount=100_000)
    for number in range(BETS_A_TASK):
        await client.place_bet(
            user_id,
            bet_id=f"b{number}",
            game="external",
            period="round-7",
            selection="red",
            asset="INR",
            stake=number + 1,
        )
    return BETS_A_TASK * (BETS_A_TASK + 1) // 2


async def test_what_many_tasks_post_is_written_once_in_order_while_connections_are_reset(tmp_path: Path) -> None:
    with Service(tmp_path / "data", PARTITIONS="2") as service, ResettingProxy() as proxy:
        proxy.to(service.port)
        async with AsyncClient(f"http://127.0.0.1:{proxy.port}", deadline_s=300) as client:
            playing = asyncio.gather(*(play(client, f"u{n}") for n in range(TASKS)))
            while proxy.resets < 20 and not playing.done():
                await proxy.reset_one()
            staked = await playing
            assert proxy.resets > 0
            for number, sum_minor in enumerate(staked):
                wallet = await client.get_wallet(f"u{number}")
                assert wallet.balances["INR"].cash == 100_000 - sum_minor
                bets = [bet.bet_id async for bet in client.list_bets(f"u{number}")]
                assert bets == [f"b{n}" for n in reversed(range(BETS_A_TASK))]
            events = [event for partition in (0, 1) async for event in client.events(partition)]
            assert len(events) == TASKS * (BETS_A_TASK + 2)
            assert len({(event.user_id, event.command_id) for event in events}) == len(events)


async def test_with_login_a_client_gets_its_tokens_and_forbidden_commands_are_refused(tmp_path: Path) -> None:
    with LoggedIn(tmp_path / "data") as service:
        game_server = service.add("casino", "game_server")
        async with AsyncClient(service.url, "casino", game_server.secret) as client:
            opened = await client.open_wallet("u1", command_id="c1")
            assert await client.open_wallet("u1", command_id="c1") == opened
            assert await client.outcome("u1", "c1") == opened
            assert await client.outcome("u1", "c2") is None
            with pytest.raises(refusals.CommandIdReused):
                await client.deposit("u1", order_id="d", asset="INR", amount=5, command_id="c1")
            with pytest.raises(refusals.Forbidden) as forbidden:
                await client.freeze_wallet("u1", reason="because")
            assert forbidden.value.fields["needs"] == ["operator"]
        async with AsyncClient(service.url, "casino", "wrong") as client:
            with pytest.raises(Refused):
                await client.get_wallet("u1")


def test_threads_share_a_blocking_client(tmp_path: Path) -> None:
    with Service(tmp_path / "data") as service, Client(service.url) as client:
        client.open_wallet("u1")
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda n: client.deposit("u1", order_id=f"d{n}", asset="INR", amount=n), range(1, 41)))
        assert client.get_wallet("u1").balances["INR"].cash == 820
        client.set_limits("u1", asset="INR", credit_limit=500)
        client.set_limits("u1", asset="INR", credit_limit=None)
        assert client.get_wallet("u1").limits["INR"].credit_limit == 0
        assert sum(1 for _ in client.list_history("u1")) == 40
        with pytest.raises(refusals.InsufficientFunds) as raised:
            client.request_withdrawal("u1", order_id="w", asset="INR", amount=1_000)
        assert raised.value.fields["available"] == 820


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    copy = folder / "stakelog_client"
    subprocess.run(["cp", "-r", str(LIBRARY), str(copy)], check=True)
    subprocess.run([*build, str(copy)], check=True)
    (built,) = folder.glob("stakelog_client-*.whl")
    return built


def examples_of_the_readme() -> list[str]:
    found: list[str] = findall(r"```python\n(.*?)```", (LIBRARY / "README.md").read_text(), DOTALL)
    return found


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    (example,) = (block for block in examples_of_the_readme() if "asyncio.run(main())" in block)
    with Service(tmp_path / "data") as service:
        program = example.replace("http://127.0.0.1:8080", service.url)
        ran = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert ran.stdout.splitlines()[0].endswith(" 9500")
    assert ran.stdout.splitlines()[1:] == ["9500", "b-1 open"]


def test_the_package_brings_its_pytest_fixture_and_the_tests_of_the_example_game_server_pass(
    wheel: Path, tmp_path: Path
) -> None:
    installed, tests = tmp_path / "installed", tmp_path / "tests"
    install = ("pip", "install", "-q", "--no-deps", "--no-index", "--target", str(installed), str(wheel))
    subprocess.run([sys.executable, "-m", *install], check=True)
    copytree(ROOT / "examples" / "game_server", tests, ignore=ignore_patterns("__pycache__"))
    (of_readme,) = (block for block in examples_of_the_readme() if "stakelog_ledger" in block)
    (tests / "test_readme.py").write_text(of_readme)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT / "src")])}
    pytest_run = (
        sys.executable,
        "-m",
        "pytest",
        "-W",
        "error",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
    )
    ran = subprocess.run([*pytest_run, "."], check=False, cwd=tests, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = sum(text.count("\ndef test_") for text in (of_readme, (tests / "test_roulette.py").read_text()))
    assert f" {written} passed" in ran.stdout


def test_the_package_holds_the_library_alone_and_works_without_the_service(wheel: Path, tmp_path: Path) -> None:
    names = ZipFile(wheel).namelist()
    assert "stakelog_client/generated/commands.py" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"stakelog_client"}
    needed = tomllib.loads((LIBRARY / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {name.partition(">")[0] for name in needed} == {"httpx", "msgspec"}
    script = (
        f"import sys; sys.path.insert(0, {str(wheel)!r})\n"
        "sys.modules |= dict.fromkeys(['api', 'ledger', 'cryptography', 'pytest'])\n"  # not installed
        "import stakelog_client; print(stakelog_client.__file__)"
    )
    ran = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.startswith(str(wheel))
