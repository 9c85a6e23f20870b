"""Sends waiting commands as one batch.

Commands that are posted while a request is on its way wait; the next request takes all of them, as one batch. One
waiting command is sent alone, without a batch.

Invariants:
(1) commands of one wallet are sent in the order in which they were posted, also when they are retried;
(2) a command is sent again only under the same `command_id`, so it has effect once;
(3) each caller gets the outcome of their own command: a refusal, or a wallet whose node is unavailable, delays no
    command of another wallet;
(4) a command whose outcome is not known at its deadline ends with OutcomeUnknown, never as a refusal or a success.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from stakelog_client.errors import OutcomeUnknown, Refused, StakelogError, Unavailable, UnexpectedResponse
from stakelog_client.generated.models import Result
from stakelog_client.session import Ambiguous, Session, pause_s, refusal_of

BATCH_MAX: Final = 1_000
"""The largest number of commands in a batch, from the contract."""
_BATCH_BYTES: Final = 4 << 20
"""The largest body of a batch. Chosen: half of what the service accepts."""

_CHECKED_BEFORE_THE_ID: Final = 403
"""Refusals up to this status are sent before the service looks up whether the command is in the ledger already."""


class _Waiting:
    """A command on its way, and the caller's future."""

    __slots__ = ("body", "command_id", "deadline_s", "future", "maybe_written", "user_id", "why")

    def __init__(self, command: dict[str, Any], body: bytes, deadline_s: float) -> None:
        self.user_id: str = command["user_id"]
        self.command_id: str = command["command_id"]
        self.body, self.deadline_s = body, deadline_s
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.maybe_written = False
        """Whether a request with it is on its way, or one ended without a definite response."""
        self.why = "it was not sent in time"

    def fail(self, error: StakelogError) -> None:
        """End with `error`, or with OutcomeUnknown if an earlier attempt may have been accepted."""
        if self.future.done():
            return
        if self.maybe_written and not (isinstance(error, Refused) and error.status > _CHECKED_BEFORE_THE_ID):
            error = self.outcome_unknown(str(error))
        self.future.set_exception(error)

    def outcome_unknown(self, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(self.user_id, self.command_id, why)

    def not_written(self, why: str) -> StakelogError:
        return Unavailable(f"{self.command_id} of {self.user_id} was not written: {why}")


class _Item(Struct):
    """One element of a batch's response."""

    status: int
    result: Result | None = None
    problem: Raw = Raw()


class _Code(Struct):
    code: str = ""


_decode_items = msgspec.json.Decoder(list[_Item]).decode
_decode_result = msgspec.json.Decoder(Result).decode


class Batcher:
    """Posts commands, one request at a time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._queue: deque[_Waiting] = deque()
        self._later: deque[_Waiting] = deque()
        """Commands to be retried, and later commands of the same wallets; in order."""
        self._later_users: set[str] = set()
        self._retry_at_s = 0.0
        self._attempt = 0
        self._posted = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self.requests = 0
        """How many requests were sent."""

    async def post(self, command: dict[str, Any], deadline_s: float) -> Result:
        """Post a command, until `deadline_s` (monotonic seconds). Raises Refused, OutcomeUnknown, Unavailable,
        UnexpectedResponse."""
        waiting = _Waiting(command, msgspec.json.encode(command), deadline_s)
        self._queue.append(waiting)
        self._posted.set()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
        try:
            async with asyncio.timeout(max(deadline_s - time.monotonic(), 0.0)):
                return await waiting.future
        except TimeoutError:
            why = waiting.why
            raise (waiting.outcome_unknown(why) if waiting.maybe_written else waiting.not_written(why)) from None

    async def close(self) -> None:
        """Send nothing more. Callers that still wait get Unavailable or OutcomeUnknown."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        for waiting in (*self._later, *self._queue):
            waiting.fail(waiting.not_written("the client was closed"))

    async def _send_all(self) -> None:
        while self._queue or self._later:
            taken = self._take()
            if not taken:
                await self._wait()
                continue
            for waiting in taken:
                waiting.why = "no response came in time"
            before = [waiting.maybe_written for waiting in taken]
            for waiting in taken:
                waiting.maybe_written = True
            try:
                self.requests += 1
                await self._send(taken, before)
            except Ambiguous as error:
                self._try_later(taken, before, error)
                # No request reached the service: other commands would not reach it either.
                await asyncio.sleep(max(self._retry_at_s - time.monotonic(), 0.0))
            except UnexpectedResponse as error:
                for waiting in taken:
                    waiting.fail(error)
            except StakelogError as error:
                for waiting, maybe_written in zip(taken, before, strict=True):
                    waiting.maybe_written = maybe_written
                    waiting.fail(error)
            except BaseException as error:  # closed, or a defect of this library: each caller still gets an outcome
                why = "the client was closed" if isinstance(error, asyncio.CancelledError) else repr(error)
                for waiting in taken:
                    waiting.fail(waiting.outcome_unknown(why))
                raise

    def _take(self) -> list[_Waiting]:
        """The commands of the next request, each wallet's in order, without those that have an outcome."""
        if self._later and time.monotonic() >= self._retry_at_s:
            self._queue.extendleft(reversed(self._later))
            self._later.clear()
            self._later_users.clear()
        taken: list[_Waiting] = []
        size = 0
        while self._queue and len(taken) < BATCH_MAX and size < _BATCH_BYTES:
            waiting = self._queue.popleft()
            if waiting.future.done():
                continue  # its deadline is over, or its caller was cancelled
            if waiting.user_id in self._later_users:
                self._later.append(waiting)
                continue
            taken.append(waiting)
            size += len(waiting.body)
        return taken

    async def _wait(self) -> None:
        """Return once a command is posted, or a retry is due."""
        self._posted.clear()
        if not self._later:
            return
        try:
            async with asyncio.timeout(max(self._retry_at_s - time.monotonic(), 0.0)):
                await self._posted.wait()
        except TimeoutError:
            pass

    def _try_later(self, left: list[_Waiting], before: list[bool], error: Ambiguous) -> None:
        """Keep these commands for the next attempt. `before`: for each, whether an earlier attempt may have written
        it."""
        for waiting, maybe_written in zip(left, before, strict=True):
            waiting.maybe_written = maybe_written or not error.nothing_written
            waiting.why = str(error)
        self._later.extend(left)
        self._later_users.update(waiting.user_id for waiting in left)
        self._retry_at_s = time.monotonic() + pause_s(self._attempt, error.retry_after_s)
        self._attempt = min(self._attempt + 1, 10)

    async def _send(self, taken: list[_Waiting], before: list[bool]) -> None:
        """One request. Raises Ambiguous if there is no definite response for any of it."""
        deadline_s = max(waiting.deadline_s for waiting in taken)
        if len(taken) == 1:
            response = await self._session.send("POST", "/v1/commands", taken[0].body, deadline_s)
            _done(taken[0], _read(_decode_result, response.content))
            self._attempt = 0
            return
        body = b"[" + b",".join([waiting.body for waiting in taken]) + b"]"
        response = await self._session.send("POST", "/v1/commands/batch", body, deadline_s)
        items = _read(_decode_items, response.content)
        if len(items) != len(taken):
            raise UnexpectedResponse(f"a batch of {len(taken)} commands got {len(items)} outcomes")
        failed: dict[str, tuple[list[_Waiting], list[bool]]] = {}
        for waiting, maybe_written, item in zip(taken, before, items, strict=True):
            if item.result is not None:
                _done(waiting, item.result)
            elif item.status >= 500 or item.status == 429:
                of_code = failed.setdefault(msgspec.json.decode(item.problem, type=_Code).code, ([], []))
                of_code[0].append(waiting)
                of_code[1].append(maybe_written)
            else:
                waiting.maybe_written = maybe_written
                waiting.fail(refusal_of(bytes(item.problem), item.status))
        for code, (left, earlier) in failed.items():
            self._try_later(left, earlier, Ambiguous(code, code=code))
        if not failed:
            self._attempt = 0


def _read(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except msgspec.MsgspecError as error:
        raise UnexpectedResponse(f"the response cannot be read: {error}") from error


def _done(waiting: _Waiting, result: Result) -> None:
    if not waiting.future.done():
        waiting.future.set_result(result)
