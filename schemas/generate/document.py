"""The OpenAPI document with its examples, which come from the core and from the reads.

So each example command can be posted unchanged, and its example response is the real one.
"""

import json
from collections.abc import Iterable
from typing import Any

from api.http.routing import AnyRoute
from api.openapi.document import make_document
from api.openapi.schemas import command_name
from api.routes.table import ROUTES
from ledger.core.commands import COMMAND_TYPES
from ledger.core.record import EMPTY_SHA256
from schemas.generate.played import PARTITION, Example, first_of_each_type, play
from schemas.generate.played_reads import responses


def document(routes: Iterable[AnyRoute] = ROUTES) -> dict[str, Any]:
    """The whole document. It depends on nothing but the code: the same each time."""
    found = make_document(routes, examples())
    used = json.dumps([found["paths"], found["components"]["responses"]])
    kept = found["components"]["examples"]
    found["components"]["examples"] = {
        name: value for name, value in kept.items() if f'"#/components/examples/{name}"' in used
    }
    return found


def examples() -> dict[str, Any]:
    """Name → value of every body in the document that is no problem."""
    played = play()
    return {**_commands(played), **responses(played), **_audit(played), **_operation()}


def _commands(played: list[Example]) -> dict[str, Any]:
    first = first_of_each_type(played)
    found: dict[str, Any] = {}
    for name in map(command_name, COMMAND_TYPES):
        found[f"command.{name}"] = first[name].command
        found[f"answer.{name}"] = first[name].answer
    deposit, bet = first["deposit"], first["place_bet"]
    settle = {"type": "settle_bet", "command_id": "c-99", "user_id": "player-15", "bet_id": "bet-99", "payout": 0}
    refused = {
        "type": "urn:stakelog:problem:bet_not_found",
        "title": "Bet not found",
        "status": 422,
        "detail": "this wallet has no bet_id bet-99",
        "code": "bet_not_found",
        "bet_id": "bet-99",
    }
    found["batch"] = [deposit.command, bet.command, settle]
    found["answer.batch"] = [
        {"status": 200, "idempotency_hit": True, "result": deposit.answer},
        {"status": 201, "result": bet.answer},
        {"status": 422, "problem": refused},
    ]
    written = ("partition", "seq", "time_us", "type", "data", "balances")
    found["dry_run"] = {name: bet.answer[name] for name in written} | {"dry_run": True}
    return found


def _audit(played: list[Example]) -> dict[str, Any]:
    deposit = first_of_each_type(played)["deposit"]
    end = {
        "partition": PARTITION,
        "seq": deposit.answer["seq"],
        "head": deposit.answer["head"],
        "owner": "http://127.0.0.1:8080",
    }
    seal = {
        "sealed_at_us": json.loads(deposit.record)["time_us"],
        "partitions": [{name: end[name] for name in ("partition", "seq", "head")}],
        "prev": EMPTY_SHA256,
        "kid": None,
        "signature": None,
    }
    return {
        "record": json.loads(deposit.record),
        "records": "".join(f"{example.record}\n" for example in played[:2]),
        "partitions": {"items": [end]},
        "seals": {"items": [seal], "next_cursor": None},
    }


def _operation() -> dict[str, Any]:
    return {
        "healthy": {"status": "ok"},
        "ready": {"status": "ready"},
        "not_ready": {"status": "not_ready", "reasons": ["the clock is more than 1 s behind the log's last event"]},
        "metrics": "stakelog_ready 1.0\n",
        "schema": {"openapi": "3.1.0", "info": {"title": "stakelog", "version": "1"}, "paths": {}},
    }
