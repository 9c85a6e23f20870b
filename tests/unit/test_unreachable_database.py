"""A database that cannot be reached is named by host and port in logs, without user and password."""

import asyncio
import logging
import pickle
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.cli.main import stakelog
from api.identity.database import IdentityDatabase
from api.identity.ports import IdentityUnavailable
from api.identity.tables import METADATA
from conformance.read_model import CHECKPOINTS
from databases import open_database
from deploy.local.server import free_port
from projections.projecting.retry import retry_until_stopped
from projections.storage.port import ReadModelUnavailable, message_for_log
from projections.storage.server import ServerReadModelStore
from projections.storage.server_reader import ServerReadModel
from unit.folders import scenario_records, write_log

EACH = pytest.mark.parametrize("kind", ["postgresql", "mysql"])


def unreachable(kind: str) -> tuple[str, str]:
    """Return the URL of a port that has no listener, and the text that names the database."""
    port = free_port()
    return (
        f"{kind}://the-user:the-secret@127.0.0.1:{port}/wallets",
        f"{kind} at 127.0.0.1:{port}, database wallets",
    )


def check_named(text: str, named: str) -> None:
    assert named in text
    assert "the-secret" not in text
    assert "the-user" not in text


@EACH
@pytest.mark.parametrize("command", [["status"], ["rebuild"], ["supply"], ["check", "--once"]], ids=" ".join)
def test_a_command_of_project_names_the_database(tmp_path: Path, kind: str, command: list[str]) -> None:
    data = write_log(tmp_path / "data", scenario_records())
    url, named = unreachable(kind)
    environment = {"STAKELOG_DATA": str(data), "STAKELOG_READ_MODEL": url}
    done = CliRunner().invoke(stakelog, ["project", *command], env=environment)
    assert done.exit_code == 1
    check_named(done.stderr, named)


@EACH
def test_a_database_that_accepts_connections_and_never_responds_ends_a_rebuild_with_one_line(
    tmp_path: Path, kind: str
) -> None:
    data = write_log(tmp_path / "data", scenario_records())
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel accepts, and no program reads
        url = f"{kind}://the-user:the-secret@127.0.0.1:{silent.getsockname()[1]}/wallets"
        environment = {"STAKELOG_DATA": str(data), "STAKELOG_READ_MODEL": url}
        done = CliRunner().invoke(stakelog, ["project", "rebuild"], env=environment)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert "the database gives no connection" in line
    check_named(line, kind)


def test_a_move_to_a_broker_that_cannot_be_reached_ends_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_log(tmp_path / "data", scenario_records())
    url, _ = unreachable("postgresql")
    environment = {"STAKELOG_LOG": f"kafka://127.0.0.1:{free_port()}", "STAKELOG_READ_MODEL": url}
    done = CliRunner().invoke(stakelog, ["migrate", "--data", str(data)], env=environment)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert "cannot be reached" in line
    assert caplog.text == ""  # the log goes to stderr, too


@EACH
async def test_the_log_of_a_process_that_folds_names_the_database(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, named = unreachable(kind)
    store, stop = ServerReadModelStore(open_database(url)), asyncio.Event()

    async def fold() -> None:
        if caplog.text:  # the first failure is logged
            stop.set()
        await store.generations()

    await retry_until_stopped(fold, stop)
    check_named(caplog.text, named)
    await store.close()


@EACH
async def test_the_log_of_the_service_names_the_database_once_and_responses_do_not(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, named = unreachable(kind)
    model = ServerReadModel(open_database(url), log_outages=True)
    with caplog.at_level(logging.INFO, "projections"):
        for _ in range(2):
            with pytest.raises(ReadModelUnavailable) as failed:
                await model.fetch([CHECKPOINTS])
            assert named not in str(failed.value), "clients get this text"
    assert [record.levelname for record in caplog.records if named in record.message] == ["WARNING"]
    check_named(caplog.text, named)
    await model.close()


def test_an_error_from_another_process_keeps_the_address() -> None:
    error = ReadModelUnavailable("the database cannot be used")
    error.address = "mysql at db:3306, database s"
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 — its own bytes
    assert message_for_log(again) == "the database cannot be used (mysql at db:3306, database s)"


@EACH
def test_a_stop_while_a_read_waits_for_the_database_reports_no_error(kind: str) -> None:
    url, _ = unreachable(kind)
    reported: list[dict[str, object]] = []

    async def read_and_stop() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
        model = ServerReadModel(open_database(url))
        reading = asyncio.ensure_future(model.fetch([CHECKPOINTS]))
        await asyncio.wait([reading], timeout=0.05)
        reading.cancel()
        await asyncio.wait([reading])
        await model.close()

    asyncio.run(read_and_stop())
    assert reported == []


@EACH
async def test_the_database_of_clients_is_named_with_its_setting(kind: str) -> None:
    url, named = unreachable(kind)
    database = IdentityDatabase(url, METADATA)
    with pytest.raises(IdentityUnavailable) as failed:
        async with database.transaction():
            pass
    check_named(str(failed.value), f"({named}; set by STAKELOG_IDENTITY)")
    assert named not in failed.value.for_clients
    await database.close()
