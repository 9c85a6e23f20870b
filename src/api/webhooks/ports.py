"""What webhooks need of their store: endpoints, and how far each of them got every partition.

For each endpoint and partition there is a *cursor*, and *letters*:

- every event up to the cursor was delivered, or is no event that the endpoint wants, or is a letter;
- a letter is an event that was tried and not delivered, or one behind it of the same user. It waits for its next
  attempt, or is *dead*: it was given up, and is not tried again unless a replay asks for it.

The owner of a partition *claims* the cursor, and only it may save it until the next claim. So a node that lost a
partition cannot overwrite what its next owner saved, and a replay, which claims too, is never undone by a sender that
has not heard of it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from api.identity.key_store import StoredWebhookSecret

ENDPOINTS_MAX: Final = 20
"""Chosen: each has its own connections and reads the log by itself."""
SECRETS_MAX: Final = 2
"""Of one endpoint: the newest, and the one before while it is still valid."""


class Endpoint(Struct, frozen=True):
    """Where events go."""

    endpoint_id: str
    url: str
    types: tuple[str, ...] | None
    """The types of the events that it gets; None: all."""
    give_up_s: int
    """An event that was not delivered so long after its first attempt becomes a dead letter."""
    enabled: bool
    created_at_us: int
    revision: int = 1
    """Grows with each change, also of its secrets and cursors."""


class StoredEndpoint(NamedTuple):
    endpoint: Endpoint
    secrets: list[StoredWebhookSecret]
    """The newest last."""


class Letter(Struct, frozen=True):
    """An event that was not delivered yet. Times are Unix microseconds."""

    partition: int
    seq: int
    user_id: str
    type: str
    time_us: int
    """The event's."""
    attempts: int
    """0: there was none yet."""
    first_at_us: int
    """Of the first attempt, or that of the event before it of the same user if that one was given up; 0: it waits
    behind another event of its user."""
    next_at_us: int
    """When it is tried again; of a dead one: when it was given up."""
    error: str
    """Why the last attempt failed."""


class Claimed(NamedTuple):
    """A cursor and the letters that wait."""

    claim: int
    seq: int
    letters: list[Letter]
    more: bool
    """Whether there are more of them, with higher seqs."""
    after: list[int]
    """The seqs after the cursor that are letters, waiting or dead. Their events are not read again."""


class Saved(NamedTuple):
    """The change of one partition since the last save: the cursor, and the letters that were added, changed, given
    up or delivered."""

    partition: int
    claim: int
    seq: int
    waiting: Sequence[Letter]
    dead: Sequence[Letter]
    delivered: Sequence[int]


class Totals(NamedTuple):
    """How many letters of an endpoint wait and are dead, and its cursors by partition."""

    waiting: int
    dead: int
    cursors: list[int]


class WebhookStore(Protocol):
    """Every method raises IdentityUnavailable."""

    async def endpoints(self) -> list[StoredEndpoint]:
        """All, by time of creation."""
        ...

    async def totals(self) -> Mapping[str, Totals]:
        """Of each endpoint."""
        ...

    async def add(self, endpoint: Endpoint, secret: StoredWebhookSecret, cursors: Sequence[int]) -> bool:
        """Add it with a cursor for each partition. False: there are ``ENDPOINTS_MAX`` already."""
        ...

    async def change(self, changed: Endpoint) -> bool:
        """Replace its URL, types, ``give_up_s`` and ``enabled``. False: there is none."""
        ...

    async def rotate(self, secret: StoredWebhookSecret, after: int, old_until_us: int) -> bool:
        """Add the secret, which follows the one of number ``after``; that one signs until ``old_until_us``. False:
        there is no endpoint, or its newest secret has another number."""
        ...

    async def delete(self, endpoint_id: str) -> bool:
        """With its secrets, cursors and letters. False: there is none."""
        ...

    async def claim(self, endpoint_id: str, partition: int, letters_max: int) -> Claimed | None:
        """None: there is no such endpoint."""
        ...

    async def save(self, endpoint_id: str, saved: Sequence[Saved]) -> set[int]:
        """Save them, all or none. Returns the partitions that were claimed again meanwhile: nothing was saved of
        these."""
        ...

    async def dead_letters(self, endpoint_id: str, after: tuple[int, int] | None, limit: int) -> list[Letter]:
        """By partition and seq, those after the position ``after``."""
        ...

    async def revive(self, endpoint_id: str, positions: Collection[tuple[int, int]] | None, now_us: int) -> int:
        """Let dead letters wait again, due now, as if they had never been tried; None: all. Returns how many."""
        ...

    async def rewind(self, endpoint_id: str, from_seqs: Mapping[int, int]) -> bool:
        """Send these partitions again from these seqs on; letters from there on are deleted. A cursor that is before
        it stays. False: there is no such endpoint."""
        ...

    async def close(self) -> None: ...
