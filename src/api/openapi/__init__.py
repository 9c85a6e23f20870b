"""The OpenAPI 3.1 document of every route that there is: what ``/schema`` serves and ``schemas/openapi.json`` holds.

Written by hand around the schemas of ``json_schemas``, one module for each part: commands, reads, audit, operation,
problems. The examples are played through the core and read through the reads, so each command can be posted as it
stands and each answer is the one that it gets. Every code of ``problems.KINDS`` stands, with an example, under its
status on every route where it can occur; tests hold that complete, and the routes the service's own.
"""

from typing import Any

from api.openapi import audit, commands, operation, problems, reads
from api.openapi.examples import examples


def document() -> dict[str, Any]:
    """The whole document. It depends on nothing but the code: the same each time."""
    played = examples()
    refusals = problems.examples()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stakelog",
            "version": "1",
            "summary": "An event-sourced wallet ledger for betting backends",
            "description": (
                "Every balance change is a command that becomes one durable event, or is refused and leaves nothing. "
                "A command_id is unique within its wallet for ever: the same command again gets its first answer, so "
                "every request may be repeated. Amounts are integers in the asset's minor unit. Absent and null mean "
                "the same, except in set_limits. Unknown or repeated members and query parameters are refused."
            ),
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "commands", "description": "what is asked for"},
            {"name": "wallets", "description": "what users have"},
            {"name": "orders", "description": "deposits and withdrawals, and what waits for approval"},
            {"name": "leaderboards", "description": "who staked, won and netted the most"},
            {"name": "audit", "description": "the records, byte for byte"},
            {"name": "operation", "description": "how the service is"},
        ],
        "paths": _together(commands.paths(), reads.paths(), audit.paths(played), operation.paths()),
        "components": {
            "schemas": _together(
                commands.schemas(), problems.schemas(), reads.schemas(), operation.schemas(), audit.schemas()
            ),
            "parameters": _together(commands.parameters(), reads.parameters(), audit.parameters()),
            "headers": _together(commands.headers(), reads.headers(), problems.headers()),
            "examples": _together(
                commands.examples(played, refusals["problem.bet_not_found"]["value"]),
                refusals,
                reads.examples(played),
                audit.examples(played),
                operation.examples(),
            ),
        },
    }


def _together(*parts: dict[str, Any]) -> dict[str, Any]:
    """All of them; no name may stand in two, for the one would hide the other."""
    whole: dict[str, Any] = {}
    for part in parts:
        assert not whole.keys() & part.keys(), whole.keys() & part.keys()
        whole |= part
    return whole
