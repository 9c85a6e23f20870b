"""``docs/roles.md``: which role may use which route, and post which type of command."""

from collections.abc import Iterable
from typing import Final

from api.identity.identity import ROLES
from api.identity.roles import MAY_POST
from api.openapi.schemas import command_name
from api.routes.table import ROUTES
from ledger.core.commands import COMMAND_TYPES

_HEAD: Final = """\
# Roles

Written by `make schemas` from the code; a test tries each cell, single posts and batches. How a client logs in:
[production](production.md). While login is off (`STAKELOG_AUTH=off`) all requests may do everything.

- Without a valid access token a route that is not open to all is 401; a role that may not use it gets 403
  `forbidden`, whose `needs` names the roles that may. A malformed request is 400 before that. Only
  where commands are posted, a body of more than 64 KiB from a role that posts none is 403 before it has arrived,
  whatever is in it.
- A **player** reads what is theirs: the `user_id` in the path, or in the query, is the player's. Percent-encoded it
  is the same id; in other letters it is another one.
- A client that is **narrowed to types** posts these only.
- A client that is **narrowed to games** posts `place_bet`, `record_result` and `cancel_period` of these games only,
  and `settle_bet` and `cancel_bet` for bets of these games only. A bet that is not placed yet has no game: a
  `cancel_bet` that comes before its bet refuses that bet, whatever its game. A bet that has ended cannot be changed
  by any client, so the check is left out. Narrowing to games does not limit commands that name neither a game nor a
  bet: a `deposit` or `transfer` moves money of all games. If the client must not post these, narrow it to types too.
- An operator's `adjust` and `grant_bonus` have a bound, `STAKELOG_ADJUST_MAX`: of each command, not of a day. A
  larger adjustment is proposed by one operator and approved by another one; a game server posts a larger grant.
- The client is the `actor` of its events: two operators are two pairs of eyes, one is not.

"""


def roles_page() -> str:
    """The page, as Markdown."""
    documented = [route for route in ROUTES if route.operation]
    commands = [(f"`{name}`", MAY_POST[name]) for name in map(command_name, COMMAND_TYPES)]
    return "".join(
        [
            _HEAD,
            "## Routes\n\n",
            _table("route", [(f"`{route.method} {route.path}`", route.roles) for route in documented]),
            "\nThe routes without a role are open to all.\n",
            "\n## Commands\n\n`POST /v1/commands`, and each element of `POST /v1/commands/batch`:\n\n",
            _table("type", commands),
        ]
    )


def _table(first: str, rows: Iterable[tuple[str, tuple[str, ...]]]) -> str:
    lines = [f"| {first} | {' | '.join(ROLES)} |", "| --- |" + " :-: |" * len(ROLES)]
    for name, allowed in rows:
        cells = [" yes " if role in allowed else " " for role in ROLES]
        lines.append(f"| {name} |{'|'.join(cells)}|")
    return "\n".join(lines) + "\n"
