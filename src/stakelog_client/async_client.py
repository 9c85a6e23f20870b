"""`AsyncClient`: the ledger on asyncio."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from stakelog_client.batching import Batcher
from stakelog_client.errors import Refused, UnexpectedResponse
from stakelog_client.events import EVENTS_A_PAGE, Event, continued
from stakelog_client.generated.commands import Commands
from stakelog_client.generated.models import Result
from stakelog_client.generated.reads import Reads
from stakelog_client.paths import path_of
from stakelog_client.session import Session, until_definite

T = TypeVar("T")

VISIBLE_MS: Final = 10_000
"""How long one attempt of a read waits until it shows what was written: the largest `timeout_ms` that the contract
allows. The deadline of the call bounds it too."""

USERS_REMEMBERED: Final = 100_000
"""For this many users the client knows the position of its last write. Chosen: some 20 MB."""


class AsyncClient(Commands, Reads):
    """Use it in one event loop, as `async with AsyncClient(url, client_id, client_secret) as ledger`.

    Commands that are posted at the same time are sent as one batch. A read of a user waits until it shows what this
    client has written for that user.
    """

    def __init__(
        self,
        url: str,
        client_id: str | None = None,
        client_secret: str | None = None,
        *,
        deadline_s: float = 30.0,
        connections: int = 16,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`url`: `http(s)://host:port`. Without `client_id`: a service whose login is off.

        `deadline_s`: how long a call is tried, unless the call has a deadline of its own. `connections`: how many are
        opened at most. `transport`: replaces httpx's own transport, for example to use certificates of your own.
        """
        if (client_id is None) != (client_secret is None):
            raise ValueError("client_id and client_secret belong together")
        self._session = Session(url.rstrip("/"), client_id, client_secret, connections, transport)
        self._batcher = Batcher(self._session)
        self._deadline_s = deadline_s
        self._written: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """User → partition and seq of this client's last write."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Calls that still wait end with Unavailable or OutcomeUnknown."""
        await self._batcher.close()
        await self._session.close()

    async def post(self, command: Mapping[str, Any], *, deadline_s: float | None = None) -> Result:
        """Post a command given as its JSON object. If it has no `command_id`, the client makes one.

        Posting the same command again, under the same `command_id`, returns the first result. Raises Refused by the
        code, OutcomeUnknown, Unavailable, UnexpectedResponse.
        """
        whole = {name: value for name, value in command.items() if _is_given(name, value, command)}
        whole.setdefault("command_id", uuid.uuid4().hex)
        result = await self._batcher.post(whole, self._until(deadline_s))
        self._remember(whole["user_id"], result)
        return result

    async def outcome(self, user_id: str, command_id: str, *, deadline_s: float | None = None) -> Result | None:
        """The result of a command that was posted before; None if it is not in the ledger.

        Call it after OutcomeUnknown. None is final only when no request with the command can still arrive.
        """
        path = path_of("/v1/commands/{user_id}/{command_id}", user_id=user_id, command_id=command_id)
        try:
            response = await until_definite(self._session, "GET", path, self._until(deadline_s))
        except Refused as error:
            if error.status == 404:
                return None
            raise
        result = _decoded(response.content, Result)
        self._remember(user_id, result)
        return result

    async def events(self, partition: int, from_seq: int = 1, prev: str | None = None) -> AsyncIterator[Event]:
        """The events of a partition from `from_seq` to its current end. Each is checked to continue the event before
        it.

        `prev`: the head before `from_seq`, which checks the first event too; not needed for seq 1. Raises
        ChainBroken.
        """
        head = prev
        while True:
            path = f"/v1/events?partition={partition}&from_seq={from_seq}&limit={EVENTS_A_PAGE}"
            response = await until_definite(self._session, "GET", path, self._until(None))
            records = response.content.splitlines()
            if not records:
                return
            for record in records:
                event = continued(record, partition, from_seq, head)
                head = event.head
                from_seq += 1
                yield event

    async def read(
        self, path: str, parameters: Mapping[str, Any], kind: type[T], user_id: str | None, deadline_s: float | None
    ) -> T:
        """As `Reads.read`."""
        query = [*_query(parameters), *self._min_position(user_id)]
        response = await until_definite(self._session, "GET", _with_query(path, query), self._until(deadline_s))
        return _decoded(response.content, kind)

    async def pages(
        self,
        path: str,
        parameters: Mapping[str, Any],
        kind: type[Any],
        item: type[T],  # noqa: ARG002  # gives the type of what is returned
        user_id: str | None,
        deadline_s: float | None,
    ) -> AsyncIterator[T]:
        """As `Reads.pages`."""
        of_page: dict[str, Any] = {**parameters, "limit": 200, **dict(self._min_position(user_id))}
        while True:
            page = await self.read(path, of_page, kind, None, deadline_s)
            for found in page.items:
                yield found
            if page.next_cursor is None:
                return
            of_page = {**parameters, "limit": 200, "cursor": page.next_cursor}

    def _until(self, deadline_s: float | None) -> float:
        return time.monotonic() + (self._deadline_s if deadline_s is None else deadline_s)

    def _remember(self, user_id: str, result: Result) -> None:
        before = self._written.pop(user_id, (0, 0))
        self._written[user_id] = max(before, (result.partition, result.seq))
        if len(self._written) > USERS_REMEMBERED:
            self._written.popitem(last=False)

    def _min_position(self, user_id: str | None) -> list[tuple[str, str]]:
        written = None if user_id is None else self._written.get(user_id)
        if written is None:
            return []
        return [("min_position", f"{written[0]}:{written[1]}"), ("timeout_ms", str(VISIBLE_MS))]


def _is_given(name: str, value: Any, command: Mapping[str, Any]) -> bool:
    """Whether the field is sent: null has a meaning only in `set_limits`."""
    if value is None:
        return command["type"] == "set_limits" and name not in ("command_id", "metadata", "private")
    return value is not msgspec.UNSET


def _query(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parameters that are not None; a list becomes several parameters of one name."""
    given = [(name, value if isinstance(value, list) else [value]) for name, value in parameters.items()]
    return [(name, str(one)) for name, values in given for one in values if one is not None]


def _with_query(path: str, pairs: list[tuple[str, str]]) -> str:
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise UnexpectedResponse(f"the response is no {kind.__name__}: {error}") from error
