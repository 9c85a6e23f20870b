"""Types of the fields that documents share: what a value means, its bounds, and an example.

A field with a more specific meaning adds a description: ``Annotated[Amount, Meta(description="the stake")]``. Bounds
and patterns go into the API's document only: documents are encoded, never decoded.
"""

from typing import Annotated

from msgspec import Meta, Struct

from ledger.core.fields import TIME_US_MAX
from ledger.core.money import AMOUNT_MAX

# Patterns have no look-around: generators of clients in other languages refuse it.

UserId = Annotated[
    str,
    Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.:@-]{0,63}$", description="The wallet's user", examples=["player-15"]),
]
Id = Annotated[str, Meta(pattern="^[!-}][!-~]{0,127}$")]
GrantId = Annotated[str, Meta(pattern="^[!-~]{1,128}$")]
CommandId = Annotated[
    str, Meta(pattern="^[!-~]{1,128}$", description="The command that caused the event", examples=["c-4"])
]
Asset = Annotated[
    str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$", description="The asset's code", examples=["INR"])
]
Code = Annotated[
    str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$", description="The code", examples=["welcome-2026"])
]
AssetText = Annotated[str, Meta(max_length=32)]
Text = Annotated[str, Meta(max_length=128)]
Game = Annotated[Text, Meta(description="The game", examples=["external"])]
Reason = Annotated[str, Meta(max_length=500)]
EventPosition = Annotated[
    str,
    Meta(
        pattern="^(0|[1-9][0-9]{0,3}):[1-9][0-9]{0,15}$",
        description="Position of the first event, <partition>:<seq>",
        examples=["3:4"],
    ),
]
TimeUs = Annotated[
    int,
    Meta(ge=0, le=TIME_US_MAX, description="Unix time in microseconds, UTC", examples=[1_795_438_803_000_000]),
]
AnyTimeUs = Annotated[int, Meta(description="Unix time in microseconds, UTC", examples=[1_795_438_803_000_000])]
"""Also before 1970: a time that a client or a calendar chose."""
Amount = Annotated[int, Meta(ge=1, le=AMOUNT_MAX, description="Amount in the asset's minor unit", examples=[50_000])]
AmountOrZero = Annotated[
    int, Meta(ge=0, le=AMOUNT_MAX, description="Amount in the asset's minor unit", examples=[50_000])
]
SignedAmount = Annotated[
    int, Meta(ge=-AMOUNT_MAX, le=AMOUNT_MAX, description="Amount in the asset's minor unit", examples=[-50_000])
]
Sum = Annotated[
    int, Meta(ge=0, description="Sum without an upper bound, in the asset's minor unit", examples=[95_000])
]
SignedSum = Annotated[int, Meta(description="Sum without bounds, in the asset's minor unit", examples=[45_000])]
Count = Annotated[int, Meta(ge=0, examples=[1])]
NextCursor = Annotated[
    str | None, Meta(description="The `cursor` of the next page; null at the end of the list", examples=[None])
]


class Buckets(Struct, gc=False):
    """What a wallet has of one asset, in the asset's minor unit."""

    cash: Annotated[SignedAmount, Meta(description="Money to bet and to withdraw; below 0 where credit was bet")]
    bonus: Annotated[AmountOrZero, Meta(description="Bonus money: to bet, not to withdraw")]
    held: Annotated[AmountOrZero, Meta(description="Money in open holds and in withdrawals not approved yet")]
