"""``python -m schemas.generate`` writes ``schemas/``: what other languages need to read the
log and to call the API.

``openapi.json``; ``events/v1/<event_type>.json``, the JSON Schema of the whole record of each event type; and
``vectors/*.json``, conformance vectors: partitions, request hashes, a scenario with its exact records, and what is
refused after it. All of it is a function of the code, the same bytes each time; a test compares it with what is
committed.
"""

import asyncio
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from api.composition.settings import DEFAULT_ASSETS
from api.http.commands import HashedCommand, read_command
from api.http.problems import Problem, problem_of
from api.openapi.records import record_file
from ledger.core.commands import canonical
from ledger.core.events import DATA_TYPES
from ledger.core.games.rules import BUILT_IN, book_of, read_rules
from ledger.core.money import parse_assets
from ledger.core.position import partition_of
from ledger.core.record import VERSION
from ledger.memory.log import MemoryEventLog
from ledger.memory.state_store import MemoryStateStore
from ledger.node.owns_all import node_of_whole_log
from ledger.writer.requests import Accepted, IdReused, Refused
from schemas.generate.api_page import api_page
from schemas.generate.client_code import CLIENT_FILES, client_code
from schemas.generate.client_code import FOLDER as CLIENT
from schemas.generate.commands_page import commands_page
from schemas.generate.document import document
from schemas.generate.documentation_page import documentation_page
from schemas.generate.errors_page import errors_page
from schemas.generate.events_page import events_page
from schemas.generate.game_pages import GAME_PAGES, game_pages
from schemas.generate.roles_page import roles_page
from schemas.generate.scenario import PARTITIONS, REFUSED, REFUSED_AT_S, RULES, SCENARIO, SECOND_US, START_US, Step

FOLDER: Final = Path(__file__).parents[2] / "schemas"
_PAGES: Final = ("commands.md", "roles.md", "api.md", "events.md", "errors.md")
ELSEWHERE: Final = {
    "document.json": Path(__file__).parents[2] / "src" / "api" / "openapi" / "document.json",
    "page.html": Path(__file__).parents[2] / "src" / "api" / "openapi" / "page.html",
    **{name: Path(__file__).parents[2] / "docs" / name for name in _PAGES},
    **{f"games/{name}": Path(__file__).parents[2] / "docs" / "games" / name for name in GAME_PAGES},
    **{f"client/{name}": CLIENT / name for name in CLIENT_FILES},
}
"""Generated files outside ``schemas/``: the document as the service serves it, pages of the documentation, and parts
of the client library."""

_PARTITION_COUNTS: Final = (1, 2, 3, 4, 16, 100, 1024)
_USER_IDS: Final = (
    *("a", "ab", "abc", "abcd", "abcde", "0", "21", "u1", "u2", "foobar", "alice", "bob", "carol", "player-15"),
    *("a-little-bit-long-string", "a-little-bit-longer-string", "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8"),
    *("user@example.com", "Team_A.b:c-d@e", "Z" * 64, "game:external", "game:wingo_30s"),
)

_COMMANDS: Final[tuple[tuple[str, str], ...]] = (
    ("the least", '{"type":"open_wallet","command_id":"c-1","user_id":"u1"}'),
    ("keys in another order", '{"user_id":"u1","type":"open_wallet","command_id":"c-1"}'),
    ("spaces", ' {\n\t"type" : "open_wallet" ,\r\n "command_id":"c-1", "user_id":  "u1" } '),
    (
        "nulls are left out",
        '{"type":"open_wallet","command_id":"c-1","user_id":"u1","referrer_id":null,"metadata":null}',
    ),
    ("an empty map stays", '{"type":"open_wallet","command_id":"c-1","user_id":"u1","metadata":{}}'),
    ("escaped letters", '{"type":"open\\u005fwallet","command_id":"\\u0063-1","us\\u0065r_id":"u\\u0031"}'),
    (
        "metadata, sorted by code point, unescaped",
        (
            '{"type":"open_wallet","command_id":"c-1","user_id":"u1","metadata":'
            '{"b":"2","a":"1","B":"\\u00e9","\\u00e9":"e\\u0301","Z":"\\/","_":"/","":"empty","\\ud83e\\ude94":"\\ud83e\\ude94",'
            '"\\uffee":"before the lamp in code points, behind it in UTF-16"}}'
        ),
    ),
    (
        "what JSON must escape",
        '{"type":"freeze_wallet","command_id":"\\u0022\\\\","user_id":"u","reason":"a \\"b\\" \\\\ \\/ \\u2028 <&>"}',
    ),
    (
        "a zero that is given",
        '{"type":"deposit","command_id":"c","user_id":"u","order_id":"o","asset":"INR","amount":5,"bonus":0}',
    ),
    (
        "minus zero is zero",
        '{"type":"deposit","command_id":"c","user_id":"u","order_id":"o","asset":"INR","amount":5,"bonus":-0}',
    ),
    (
        "a large amount",
        '{"type":"deposit","command_id":"c","user_id":"u","order_id":"o","asset":"INR","amount":9007199254740991}',
    ),
    (
        "a negative amount",
        '{"type":"adjust","command_id":"c","user_id":"u","asset":"INR","amount":-9007199254740991,"reason":""}',
    ),
    ("limits: absent", '{"type":"set_limits","command_id":"c","user_id":"u","asset":"INR"}'),
    (
        "limits: null is a value, but not metadata's",
        (
            '{"type":"set_limits","command_id":"c","user_id":"u","asset":"INR","credit_limit":null,"balance_max":0,'
            '"stake_max_per_day":null,"metadata":null}'
        ),
    ),
    (
        "private is no part of it",
        (
            '{"type":"open_wallet","command_id":"c-1","user_id":"u1","private":{"passport":"C01X00T47"},'
            '"referrer_id":"u2"}'
        ),
    ),
    (
        "every field",
        (
            '{"type":"place_bet","command_id":"c-1","user_id":"u1","bet_id":"b-1","game":"external","period":"2026/1",'
            '"selection":"größer","asset":"INR","stake":500,"spend":"bonus_first","metadata":{"k":"v"}}'
        ),
    ),
)


def files() -> dict[str, bytes]:
    """Path below ``schemas/`` → content."""
    found = {f"events/v{VERSION}/{data.type}.json": _pretty(record_file(data)) for data in DATA_TYPES}
    found["openapi.json"] = _pretty(document())
    found |= {f"vectors/{name}.json": _pretty(vectors) for name, vectors in _vectors().items()}
    return found


def elsewhere() -> dict[str, bytes]:
    """Name in ``ELSEWHERE`` → content."""
    return {
        "document.json": msgspec.json.encode(document()),
        "page.html": documentation_page(),
        "commands.md": commands_page().encode(),
        "roles.md": roles_page().encode(),
        "api.md": api_page(document()).encode(),
        "events.md": events_page(_records()).encode(),
        "errors.md": errors_page().encode(),
        **{f"games/{name}": text.encode() for name, text in game_pages().items()},
        **{f"client/{name}": text.encode() for name, text in client_code().items()},
    }


def _pretty(values: Any) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode()


def _vectors() -> dict[str, Any]:
    return {"partitions": _partitions(), "request_hashes": _request_hashes(), **_played()}


def _records() -> list[str]:
    """All records of the scenario, by partition."""
    return [record for partition in _played()["scenario"]["partitions"] for record in partition["records"]]


def _partitions() -> Any:
    return {
        "about": "partition = (murmur2(user_id as UTF-8) & 0x7fffffff) % partitions",
        "cases": [
            {"user_id": user_id, "partitions": {str(n): partition_of(user_id, n) for n in _PARTITION_COUNTS}}
            for user_id in _USER_IDS
        ],
    }


def _request_hashes() -> Any:
    cases = []
    for name, text in _COMMANDS:
        command, request_sha256 = read_command(text.encode())
        form = canonical(command).decode()
        cases.append({"name": name, "command": text, "canonical": form, "request_sha256": request_sha256})
    return {"about": "request_sha256 = SHA-256 of the canonical form as UTF-8", "cases": cases}


# --- the scenario---------------------------------------------------------------------------------------------------


class _Stage:
    """A node in memory whose clock moves only by ``move_to``; each step waits until the node is idle."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.log = MemoryEventLog(PARTITIONS)
        assets = parse_assets(DEFAULT_ASSETS)
        money = read_rules(json.dumps(RULES), assets).money
        self.node = node_of_whole_log(
            self.log, MemoryStateStore(), lambda: self.now_us, assets, rules=book_of(BUILT_IN.games, money=money)
        )

    async def move_to(self, at_s: float) -> None:
        self.now_us = START_US + int(at_s * SECOND_US)
        await self._quiet()

    async def post(self, hashed: HashedCommand, actor: str) -> Any:
        answer = await self.node.post(hashed.command, hashed.request_sha256, actor)
        await self._quiet()
        return answer

    async def _quiet(self) -> None:
        """Wait until every follow-up has arrived and every due timer has fired: so the order of events is fixed."""
        # Idle is a state of all writers together; no single event signals it.
        while not all(  # noqa: ASYNC110
            writer.idle and not self._due(writer.state.next_due_us()) for writer in self.node.writers.values()
        ):
            await asyncio.sleep(0.001)

    def _due(self, due_us: int | None) -> bool:
        return due_us is not None and due_us <= self.now_us


@cache
def _played() -> dict[str, Any]:
    """The scenario and the refusals after it."""
    return asyncio.run(_play_all())


async def _play_all() -> dict[str, Any]:
    stage = _Stage()
    await stage.node.start()
    positions: dict[tuple[str, str], str] = {}
    steps = [await _play(stage, step, positions) for step in SCENARIO]
    records = [[record.decode() for record in partition] for partition in stage.log.appended.records]
    heads = list(stage.log.appended.heads)
    await stage.move_to(REFUSED_AT_S)
    refused = [await _refuse(stage, refusal.code, refusal.text) for refusal in REFUSED]
    assert list(stage.log.appended.heads) == heads, "a refusal has written something"
    await stage.node.stop()
    scenario = {
        "about": "each step is posted when nothing is under way any more; the records are exact, and UTF-8",
        "assets": DEFAULT_ASSETS,
        "rules": RULES,
        "steps": steps,
        "partitions": [
            {"partition": partition, "seq": head.seq, "head": head.sha256, "records": records[partition]}
            for partition, head in enumerate(heads)
        ],
    }
    refusals = {
        "about": "after the scenario, each of these is refused with this code and writes nothing",
        "time_us": stage.now_us,
        "actor": "local",
        "cases": refused,
    }
    return {"scenario": scenario, "rejections": refusals}


async def _play(stage: _Stage, step: Step, positions: dict[tuple[str, str], str]) -> Any:
    await stage.move_to(step.at_s)
    command = dict(step.command)
    user_id = command["user_id"]
    if command.get("position", "").startswith("@"):
        command["position"] = positions[user_id, command["position"][1:]]
    asked = read_command(msgspec.json.encode(command))
    answer = await stage.post(asked, step.actor)
    assert isinstance(answer, Accepted), (command, answer)
    positions[user_id, command["command_id"]] = str(answer.position)
    return {
        "time_us": stage.now_us,
        "actor": step.actor,
        "command": command,
        "request_sha256": asked.request_sha256,
        "position": str(answer.position),
        "head": answer.head,
    }


async def _refuse(stage: _Stage, code: str, text: str) -> Any:
    try:
        answer = await stage.post(read_command(text.encode()), "local")
    except Problem as malformed:
        problem = malformed
    else:
        assert isinstance(answer, Refused | IdReused), (text, answer)
        problem = problem_of(answer)
    assert problem.code == code, (text, problem.body())
    return {"command": text, "status": problem.status, "code": code}


def write(folder: Path, found: Mapping[str, bytes]) -> None:
    """Make ``folder`` hold exactly these files."""
    for name, content in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for path in sorted(folder.rglob("*.json")):
        if path.relative_to(folder).as_posix() not in found:
            path.unlink()
