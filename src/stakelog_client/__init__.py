"""Client library of stakelog, an event-sourced wallet ledger.

    async with AsyncClient("http://127.0.0.1:8080", "casino", secret) as ledger:
        await ledger.open_wallet("player-15")
        await ledger.deposit("player-15", order_id="dep-1", asset="INR", amount=1_000_000)
        wallet = await ledger.get_wallet("player-15")

`async_client` and `client` are the two clients, the same calls on asyncio and blocking. `generated` has a method for
each command and each read, their results, and an exception for each code; `errors` has the tree of exceptions.
`session` logs in, sends and retries; `batching` makes one batch of the commands that wait at the same time;
`events` checks the event stream and `receipts` receipts; `live` follows live feeds; `paths` builds addresses.
`testing` is a ledger in memory for tests of game servers, `pytest_plugin` its fixture.
"""

from stakelog_client.async_client import AsyncClient
from stakelog_client.client import Client
from stakelog_client.errors import (
    ChainBroken,
    NotYetVisible,
    OutcomeUnknown,
    ReceiptInvalid,
    Refused,
    StakelogError,
    Unavailable,
    UnexpectedResponse,
)
from stakelog_client.events import Event
from stakelog_client.generated import models, refusals
from stakelog_client.generated.models import Result
from stakelog_client.live import LiveEvent

__all__ = [
    "AsyncClient",
    "ChainBroken",
    "Client",
    "Event",
    "LiveEvent",
    "NotYetVisible",
    "OutcomeUnknown",
    "ReceiptInvalid",
    "Refused",
    "Result",
    "StakelogError",
    "Unavailable",
    "UnexpectedResponse",
    "models",
    "refusals",
]
