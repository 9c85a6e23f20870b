"""The clients that play a day at a service with login: an admin adds them, or gives them new secrets.

Without login one client may do everything, and a header names the actor. With login each command is sent by a client
whose role may post its type, so a batch of several roles becomes several requests, in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from demo.traffic.actions import OPERATORS
from demo.traffic.plan import Planned
from http_client.client import AsyncClient
from http_client.login import Credentials, Login
from http_client.paths import path_of
from http_client.retry import Policy

OF_OPERATORS: Final = frozenset(
    {
        *("approve_withdrawal", "reject_withdrawal", "adjust", "propose_adjustment", "approve_adjustment"),
        *("reject_adjustment", "reverse", "set_limits", "freeze_wallet", "unfreeze_wallet", "close_wallet"),
        *("create_gift", "close_gift", "set_agent_level"),
    }
)
"""Types of commands that only an operator may post."""
_GAME: Final = "demo-game"
_AUDITOR: Final = "demo-auditor"
_ROLES: Final = {_GAME: "game_server", _AUDITOR: "auditor", **dict.fromkeys(OPERATORS, "operator")}
_GRACE_S: Final = 3_600
"""Another day that is played at the same time goes on with the secrets before."""
_POLICY: Final = Policy(within_s=30.0)
_HEADERS: Final = {"Content-Type": "application/json"}


class Senders:
    """Who sends what."""

    def __init__(self, url: str, credentials: Mapping[str, Credentials] | None = None) -> None:
        """``credentials``: by client; None: the service has no login."""
        self.reader = None if credentials is None else credentials[_AUDITOR]
        """Who reads."""
        self._logins = {name: Login(url, one) for name, one in (credentials or {}).items()}

    def parts(self, planned: Sequence[Planned], actor: str | None) -> Iterator[tuple[str | None, list[Planned]]]:
        """The commands by their senders, in the same order: all of them by ``actor`` where there is no login."""
        if not self._logins:
            yield actor, list(planned)
            return
        for sender, part in groupby(planned, lambda one: _sender_of(one, actor)):
            yield sender, list(part)

    async def headers(self, sender: str | None) -> dict[str, str]:
        """Raises NoUsableResponse, UnexpectedResponse."""
        if not self._logins:
            return {"Stakelog-Actor": sender} if sender else {}
        assert sender is not None
        login = self._logins[sender]
        return {"Authorization": login.header() if login.is_current else await asyncio.to_thread(login.header)}


def _sender_of(planned: Planned, actor: str | None) -> str:
    return (actor or OPERATORS[0]) if planned.command["type"] in OF_OPERATORS else _GAME


async def senders_at(url: str, admin: Credentials) -> Senders:
    """Raises ClientError."""
    client = AsyncClient(url, _POLICY, credentials=admin)
    try:
        return Senders(url, {name: await _secret_of(client, name, role) for name, role in _ROLES.items()})
    finally:
        await client.close()


async def _secret_of(client: AsyncClient, name: str, role: str) -> Credentials:
    body = msgspec.json.encode({"client_id": name, "role": role})
    added = await client.once("POST", path_of("clients"), body=body, headers=_HEADERS)
    if added.status != 201:
        body = msgspec.json.encode({"grace_s": _GRACE_S})
        added = await client.once("POST", path_of("clients", name, "rotate"), body=body, headers=_HEADERS)
    return msgspec.json.decode(added.expect(200, 201).body, type=Credentials)
