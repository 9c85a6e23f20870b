"""Each background task of the service is created by ``ledger.background``, and is in the list below."""

import ast
import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ledger import background

SRC: Final = Path(__file__).parents[2] / "src"
SUPERVISOR: Final = "ledger/background.py"
PROGRAMS_OF_THEIR_OWN: Final = ("bench", "demo")
"""They await every task, and import nothing of the service."""

CREATES: Final = ("create_task", "ensure_future", "run_coroutine_threadsafe", "Task")
ELSEWHERE: Final = {
    "api/cli/importing/posting.py": "a TaskGroup, which awaits its tasks and raises their errors",
    "projections/auditing/background_check.py": "a TaskGroup, which awaits its tasks and raises their errors",
    "ledger/kafka/reader.py": "a thread without an event loop waits for each result at once",
    "stakelog_client/batching.py": "a library of its own: each caller awaits an outcome that its task has to set",
    "stakelog_client/testing.py": "one task for each request, whose error the reader of its response gets",
    "stakelog_client/client.py": "a thread without an event loop waits for each result at once",
}

TASKS: Final = {
    "awaited": {
        *(
            "check",
            "child-end",
            "child-stop",
            "consumer-start",
            "first-open",
            "kafka-append",
            "kept-games",
            "look",
            "prefetch",
        ),
        *("save-", "server", "shared-read", "source-page", "stop", "worker-confirm", "worker-stop", "worker-watch"),
    },
    "keep": {
        *("live-feeds", "live-feeds-changes", "live-feeds-tend"),
        *(
            "child-",
            "copies-of-seals",
            "follow-ups",
            "follow-ups-",
            "forwarding-retry",
            "loop-delay",
            "samples",
            "rate-limits",
        ),
        *("revocations", "seals", "signing-keys", "snapshots", "standby-follow-ups", "suspect-reads", "tls-reload"),
        *("unsettled", "visible-spans", "webhooks", "webhooks-endpoint"),
    },
    "start": {
        *("checkpoints", "child-output", "ends", "forwarding", "kafka-abandon", "live-feed-client"),
        *(
            "open-",
            "owners-addresses",
            "owners-assignments",
            "owners-balance",
            "owners-watch",
            "pool-clear",
            "redis-calls",
        ),
        *("retire-", "standby-", "verification", "webhook-attempt", "writer-"),
    },
}
"""Function of ``ledger.background`` → the names of its tasks, or what their names begin with."""


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    """(module, call, name of the function that it calls), of the service."""
    for path in sorted(SRC.rglob("*.py")):
        module = path.relative_to(SRC).as_posix()
        if module.split("/")[0] in PROGRAMS_OF_THEIR_OWN:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                yield module, node, node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id


def name_of(call: ast.Call) -> str:
    """The task's name, up to its first variable part."""
    name = call.args[1]
    if isinstance(name, ast.JoinedStr):
        name = name.values[0]
    assert isinstance(name, ast.Constant), ast.unparse(call)
    return str(name.value)


def test_only_the_supervisor_creates_tasks() -> None:
    creating = {module for module, _, function in calls() if function in CREATES}
    assert creating == {SUPERVISOR, *ELSEWHERE}


@pytest.mark.system
def test_the_list_names_every_task() -> None:
    found: dict[str, set[str]] = {function: set() for function in TASKS}
    for module, call, function in calls():
        if module != SUPERVISOR and ast.unparse(call.func) == f"background.{function}" and function in TASKS:
            found[function].add(name_of(call))
    assert found == TASKS


async def broken() -> None:
    raise RuntimeError("a defect")


async def test_a_task_that_ends_with_an_error_is_logged_and_its_creator_gets_the_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    background.start(broken(), "unwatched", failed=told.set_result)
    assert isinstance(await told, RuntimeError)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.CRITICAL, "the task unwatched has ended")


async def test_a_cancelled_task_has_not_failed(caplog: pytest.LogCaptureFixture) -> None:
    task = background.start(asyncio.Event().wait(), "waiting", failed=lambda _: pytest.fail("it was cancelled"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert not caplog.records


async def test_a_task_that_is_kept_begins_again_after_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(background, "_PAUSE_S_MIN", 0.001)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError("a defect")

    await background.keep(work, "kept")
    assert runs == 3
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_a_caller_that_is_cancelled_leaves_the_task_running() -> None:
    may_end = asyncio.Event()
    task = background.awaited(may_end.wait(), "long")
    caller = background.awaited(background.result_of(task), "caller")
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.wait({caller})
    assert not task.done()
    may_end.set()
    assert await background.result_of(task)
