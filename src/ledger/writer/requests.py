"""What is asked of a partition's writer, and what it answers.

A *request* is one question, a *group* the requests of one request, answered together. An answer is final but for
``Failed``, after which nothing is decided.
"""

import asyncio
from typing import Literal

from msgspec import Struct

from ledger.core.commands import Command
from ledger.core.decide import needs
from ledger.core.events import Event
from ledger.core.position import Position
from ledger.core.rejections import Rejection
from ledger.core.wallet import Wallet

# --- answers ------------------------------------------------------------------------------------------------------


class Accepted(Struct, frozen=True, gc=False):
    """The command's event, durable. ``hit``: it was durable before this asking."""

    event: Event
    place: Position
    head: str
    hit: bool = False


class DryRunAccepted(Struct, frozen=True, gc=False):
    """A dry run's event: nothing was written."""

    event: Event
    place: Position


class Refused(Struct, frozen=True, gc=False):
    rejection: Rejection


class IdReused(Struct, frozen=True, gc=False):
    """The command_id was used for another command; ``fields`` are the names of those that differ."""

    fields: tuple[str, ...]
    position: str


class Failed(Struct, frozen=True, gc=False):
    """No decision stands. ``outcome_unknown`` may have been written, the others were not."""

    reason: Literal["outcome_unknown", "log_unavailable", "overloaded", "shutting_down", "not_owner"]
    detail: str


class WalletRead(Struct, frozen=True, gc=False):
    """A wallet as it was at ``place``, the partition's last event then."""

    wallet: Wallet
    place: Position


AnyResponse = Accepted | DryRunAccepted | Refused | IdReused | Failed | WalletRead | None
"""None answers a look-up of a command that is not there."""


# --- what waits in the mailbox --------------------------------------------------------------------------------------


class RequestGroup:
    """Tickets that are answered together: one HTTP request's. ``done`` resolves when the last has its answer.

    After a failure of one of a wallet's commands its later commands in the group fail the same way: to skip one and
    take the next would change their order.
    """

    __slots__ = ("done", "failed", "open")

    def __init__(self, requests: int) -> None:
        self.open = requests
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed: dict[str, Failed] | None = None

    def close_one(self) -> None:
        self.open -= 1
        if self.open == 0 and not self.done.done():
            self.done.set_result(None)


class Request:
    """Something asked of a partition, and in time its answer.

    ``deadline_us`` (Unix microseconds, None: none): it is not decided after this, but answered ``not_owner`` with
    nothing written. Whoever asked for somebody else knows then that it never will be.
    """

    __slots__ = ("closed", "deadline_us", "group", "response", "user_id")

    def __init__(self, user_id: str, group: RequestGroup) -> None:
        self.user_id = user_id
        self.group = group
        self.response: AnyResponse = None
        self.closed = False
        self.deadline_us: int | None = None

    def close(self, response: AnyResponse) -> None:
        assert not self.closed, "a request is answered once"
        self.closed = True
        self.response = response
        if type(response) is Failed:
            if self.group.failed is None:
                self.group.failed = {}
            self.group.failed.setdefault(self.user_id, response)
        self.group.close_one()


class CommandRequest(Request):
    __slots__ = ("actor", "command", "command_key", "dry_run", "item_keys", "request_sha256")

    def __init__(
        self, command: Command, request_sha256: str, actor: str, group: RequestGroup, *, dry_run: bool = False
    ) -> None:
        user_id = self.user_id = command.user_id
        self.group = group
        self.response = None
        self.closed = False
        self.deadline_us = None
        self.command = command
        self.command_key = f"{user_id} c:{command.command_id}"
        self.item_keys = [(key, f"{user_id} {key}") for key in needs(command)]
        self.request_sha256 = request_sha256
        self.actor = actor
        self.dry_run = dry_run


class LookupRequest(Request):
    """Asks for the first answer of a command."""

    __slots__ = ("command_id",)

    def __init__(self, user_id: str, command_id: str, group: RequestGroup) -> None:
        super().__init__(user_id, group)
        self.command_id = command_id


class WalletRequest(Request):
    """Asks for a wallet as the writer knows it."""

    __slots__ = ()
