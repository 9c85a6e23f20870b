"""The rules file that a day is played by, read for the books.

The demo's own service plays by `deploy/rules/betting-house.json` with one change: commissions are paid for each bet.
By the day, as in the file, they would be paid after midnight, which no day of the demo waits for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from demo.books.rules import Rules, money_rules
from demo.books.wallets import Command
from demo.login import Senders
from demo.traffic.plan import Planned
from http_client.client import AsyncClient
from http_client.paths import path_of
from http_client.responses import Response

HOUSE: Final = Path(__file__).parents[2] / "deploy" / "rules" / "betting-house.json"


class BadRulesError(Exception):
    """The rules file cannot be read, or has rules that the books cannot follow."""


@dataclass(frozen=True, slots=True)
class HouseRules:
    """The money rules, what they are called in the report, and their file."""

    money: Rules
    name: str
    path: Path | None = None


NONE: Final = HouseRules({}, "none: the service has no money flows")


def of_file(path: Path) -> HouseRules:
    """Raises BadRulesError."""
    return _house(_read(path), path.name, path)


def per_bet(folder: Path) -> HouseRules:
    """The betting house with commissions for each bet; the file is written into ``folder``. Raises BadRulesError."""
    document = _read(HOUSE)
    for rules in document["money"].values():
        if rules.get("commission"):
            rules["commission"]["mode"] = "per_bet"
    path = folder / "rules.json"
    path.write_text(json.dumps(document), "utf-8")
    return _house(document, HOUSE.name, path)


async def are_played(client: AsyncClient, senders: Senders, house: HouseRules, user_id: str) -> bool:
    """Whether the service gives the attendance bonus of ``house``: it plays by these rules, or by none.

    Opens a wallet of ``user_id``. Raises ClientError."""
    asset = next((asset for asset, rules in house.money.items() if rules.attendance), None)
    if asset is None:
        return bool(house.money)
    status = 0
    commands: tuple[Command, ...] = (
        {"type": "open_wallet", "command_id": "c-1", "user_id": user_id},
        {"type": "claim_attendance", "command_id": "c-2", "user_id": user_id, "asset": asset},
    )
    for command in commands:
        status = (await _post(client, senders, command)).expect(200, 201, 422).status
    return status != 422


async def _post(client: AsyncClient, senders: Senders, command: Command) -> Response:
    ((sender, _),) = senders.parts([Planned(command)], None)

    async def once() -> Response:
        headers = {"Content-Type": "application/json", **await senders.headers(sender)}
        return await client.once("POST", path_of("commands"), body=msgspec.json.encode(command), headers=headers)

    return await client.until_usable(once)


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadRulesError(f"the rules file {path} cannot be read: {error}") from error
    return document


def _house(document: dict[str, Any], name: str, path: Path) -> HouseRules:
    try:
        money = money_rules(document)
    except ValueError as error:
        raise BadRulesError(f"{path}: {error}") from error
    modes = {rules.commission.mode for rules in money.values() if rules.commission is not None}
    paid = {"daily": "commissions by the day, after midnight UTC", "per_bet": "commissions for each bet"}
    return HouseRules(money, "; ".join((name, *(paid[mode] for mode in sorted(modes)))), path)
