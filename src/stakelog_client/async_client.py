"""`AsyncClient`: the ledger on asyncio."""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from stakelog_client.batching import Batcher
from stakelog_client.errors import OutcomeUnknown, ReceiptInvalid, Refused, StakelogError, UnexpectedResponse
from stakelog_client.events import EVENTS_A_PAGE, Event, continued
from stakelog_client.generated.commands import Commands
from stakelog_client.generated.models import Receipt, Result
from stakelog_client.generated.reads import Reads
from stakelog_client.live import LiveEvent, follow
from stakelog_client.paths import path_of
from stakelog_client.receipts import check_receipt
from stakelog_client.session import Session, until_definite

T = TypeVar("T")

VISIBLE_MS: Final = 10_000
"""How long one attempt of a read waits until it shows what was written: the largest `timeout_ms` that the contract
allows. The deadline of the call bounds it too."""

LOOK_UP_SHARE: Final = 0.2
LOOK_UP_S_MAX: Final = 2.0
"""The part of a call's deadline that is kept to find out an unknown outcome. Chosen: 2 s of the usual 30 s."""

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
        self._closed = False
        self._written: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """User → partition and seq of this client's last write."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Calls that still wait end with Unavailable or OutcomeUnknown."""
        self._closed = True
        await self._batcher.close()
        await self._session.close()

    async def post(self, command: Mapping[str, Any], *, deadline_s: float | None = None) -> Result:
        """Post a command given as its JSON object. If it has no `command_id`, the client makes one.

        Posting the same command again, under the same `command_id`, returns the first result. If no response says
        what became of the command, the last part of the deadline is for a look-up; if it finds the id, the command is
        posted once more, because only the ledger can tell whether it is the same. Raises Refused by the code,
        OutcomeUnknown, Unavailable, UnexpectedResponse.
        """
        whole = {name: value for name, value in command.items() if _is_given(name, value, command)}
        whole.setdefault("command_id", uuid.uuid4().hex)
        until_s = self._until(deadline_s)
        look_up_s = min((until_s - time.monotonic()) * LOOK_UP_SHARE, LOOK_UP_S_MAX)
        try:
            result = await self._batcher.post(whole, until_s - look_up_s)
        except OutcomeUnknown as unknown:
            result = await self._looked_up(whole, unknown, until_s)
        self._remember(whole["user_id"], result)
        return result

    async def _looked_up(self, whole: dict[str, Any], unknown: OutcomeUnknown, until_s: float) -> Result:
        """The result, once the look-up has shown that the ledger has a command under this id.

        That may be another command, if the caller has used the id twice. Only the ledger can compare them exactly, so
        the command is posted again: it has no effect, because its id is taken, and gets its first result, or the
        refusal `command_id_reused`. Raises `unknown` if the ledger has no command under this id: a request with it
        may still arrive.
        """
        if self._closed:
            raise unknown
        try:
            found = await self.outcome(unknown.user_id, unknown.command_id, deadline_s=until_s - time.monotonic())
            if found is not None:
                body = msgspec.json.encode(whole)
                response = await until_definite(self._session, "POST", "/v1/commands", until_s, body)
                return _decoded(response.content, Result)
        except StakelogError as error:
            if isinstance(error, Refused) and error.code == "command_id_reused":
                raise
            raise unknown from error
        raise unknown

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

    def live(
        self,
        *,
        users: Sequence[str] = (),
        games: Sequence[str] = (),
        after: str | None = None,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[LiveEvent, None]:
        """What changes in the wallets and bets of `users`, and in the results and present periods of `games`, until
        the caller stops. The feed continues by itself after a lost connection.

        `after`: the `id` of the last event that is known; None: from now on. `deadline_s`: how long to try to
        connect. Raises Refused, Unavailable.
        """
        tried_s = self._deadline_s if deadline_s is None else deadline_s
        return follow(self._session, users, games, after, tried_s)

    async def checked_receipt(
        self, position: str, *, keys: bytes | None = None, deadline_s: float | None = None
    ) -> tuple[Receipt, Event]:
        """The receipt of the event at `position`, once its signature and its record are checked. It needs
        `stakelog_client[receipts]`.

        `keys`: the JWK Set that you have kept from an earlier day, which a changed service cannot change; None: the
        present one of the service. Raises ReceiptInvalid, and what reads raise.
        """
        receipt = await self.get_receipt(position, deadline_s=deadline_s)
        if keys is None:
            keys = await self.public_keys(deadline_s=deadline_s)
        event = check_receipt(receipt, keys)
        if f"{event.partition}:{event.seq}" != position:
            raise ReceiptInvalid(f"it is that of {event.partition}:{event.seq}, not of {position}")
        return receipt, event

    async def public_keys(self, *, deadline_s: float | None = None) -> bytes:
        """The JWK Set that checks receipts, to be kept."""
        response = await until_definite(self._session, "GET", "/.well-known/jwks.json", self._until(deadline_s))
        return response.content

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
