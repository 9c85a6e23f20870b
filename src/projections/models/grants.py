"""Grants of bonus money under their ids, and how much of each remains."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import Select

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.bonus_events import AttendanceClaimed, BonusExpired, BonusGranted
from ledger.core.events import Deposited, Event, Reversed
from ledger.core.gift_events import GiftReceived
from ledger.core.position import Position
from projections.models.deposits import reversed_seq
from projections.tables import columns
from projections.tables.fields import (
    Amount,
    AmountOrZero,
    AnyTimeUs,
    Asset,
    EventPosition,
    GrantId,
    NextCursor,
    TimeUs,
)
from projections.tables.model import Model
from projections.tables.queries import (
    Conditions,
    list_by_time,
    page_by_time,
)
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row
from projections.tables.tables import Tables

# --- rows and fold --------------------


class GrantRow(Row):
    """``remaining`` is the part of the wallet's bonus that belongs to the grant."""

    table = "bonus_grant"  # GRANT is a word of SQL
    key_length = 2
    indexes: ClassVar = {
        "bonus_grant_by_time": ("partition", "user_id", "created_at_us", "seq"),
    }

    user_id: columns.UserId
    grant_id: columns.Id
    kind: columns.Status
    asset: columns.AssetCode
    amount: int
    remaining: int
    expires_at_us: int | None
    seq: int
    created_at_us: int


class GrantEventRow(Row):
    """The grant that the event at ``seq`` made: a reversal names the event, not the grant."""

    table = "granted"
    key_length = 2

    user_id: columns.UserId
    seq: int
    grant_id: columns.Id
    wagering: int = 0
    """What a grant by ``bonus_granted`` added to the wagering."""


class GrantStakeRow(Row):
    """What a bet's stake took from grants, as JSON ``[[grant_id, amount]]``, in the order in which they were used.
    Bets without bonus money have no row."""

    table = "grant_stake"
    key_length = 2

    user_id: columns.UserId
    bet_id: columns.Id
    grants: columns.Json


def needs(event: Event, buffer: RowBuffer) -> None:
    user_id = event.user_id
    match event.data:
        case BetPlaced(source=source):
            for grant_id, _ in source.grants:
                buffer[GrantRow].want((user_id, grant_id))
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id) if _bonus_change(event):
            buffer[GrantStakeRow].want((user_id, bet_id))
        case BonusExpired(grant_id=grant_id):
            buffer[GrantRow].want((user_id, grant_id))
        case Reversed() if _bonus_change(event):
            buffer[GrantEventRow].want((user_id, reversed_seq(event.data)))


def then_needs(event: Event, buffer: RowBuffer) -> None:
    """If the bet or the grant is in the same run, its own event wanted or added the rows."""
    user_id = event.user_id
    match event.data:
        case BetSettled(bet_id=bet_id) | BetCancelled(bet_id=bet_id):
            stake = buffer[GrantStakeRow].peek((user_id, bet_id))
            if stake is not None:
                for grant_id, _ in _grants_of(stake):
                    buffer[GrantRow].want((user_id, grant_id))
        case Reversed():
            granted = buffer[GrantEventRow].peek((user_id, reversed_seq(event.data)))
            if granted is not None:
                buffer[GrantRow].want((user_id, granted.grant_id))


def fold(event: Event, position: Position, buffer: RowBuffer) -> None:
    user_id, data = event.user_id, event.data
    match data:
        case Deposited() if data.bonus:
            _add(event, position, buffer, data.order_id, "deposit", data.asset, data.bonus, None)
        case BonusGranted():
            kind = data.kind or "grant"
            _add(event, position, buffer, data.grant_id, kind, data.asset, data.amount, data.expires_at_us)
            buffer[GrantEventRow].edit((user_id, position.seq)).wagering = data.wagering or 0
        case AttendanceClaimed():
            _add(event, position, buffer, data.grant_id, "attendance", data.asset, data.amount, data.expires_at_us)
        case GiftReceived():
            _add(event, position, buffer, data.grant_id, "gift", data.asset, data.amount, data.expires_at_us)
        case BetPlaced() if data.source.grants:
            for grant_id, amount in data.source.grants:
                buffer[GrantRow].edit((user_id, grant_id)).remaining -= amount
            grants = msgspec.json.encode(data.source.grants).decode()
            buffer[GrantStakeRow].add((user_id, data.bet_id), GrantStakeRow(user_id, data.bet_id, grants))
        case BetSettled() if amount := _bonus_change(event):
            grant_id, _ = _grants_of(buffer[GrantStakeRow].get((user_id, data.bet_id)))[-1]
            buffer[GrantRow].edit((user_id, grant_id)).remaining += amount
        case BetCancelled() if _bonus_change(event):
            for grant_id, amount in _grants_of(buffer[GrantStakeRow].get((user_id, data.bet_id))):
                buffer[GrantRow].edit((user_id, grant_id)).remaining += amount
        case BonusExpired():
            buffer[GrantRow].edit((user_id, data.grant_id)).remaining -= data.amount
        case Reversed() if amount := _bonus_change(event):
            granted = buffer[GrantEventRow].get((user_id, reversed_seq(data)))
            assert granted is not None, event
            buffer[GrantRow].edit((user_id, granted.grant_id)).remaining += amount


def _add(
    event: Event,
    position: Position,
    buffer: RowBuffer,
    grant_id: str,
    kind: str,
    asset: str,
    amount: int,
    expires_at_us: int | None,
) -> None:
    user_id, seq = event.user_id, position.seq
    row = GrantRow(user_id, grant_id, kind, asset, amount, amount, expires_at_us, seq, event.time_us)
    buffer[GrantRow].add((user_id, grant_id), row)
    buffer[GrantEventRow].add((user_id, seq), GrantEventRow(user_id, seq, grant_id))


def _bonus_change(event: Event) -> int:
    """What the event added to the wallet's bonus; below 0 if it took."""
    bonus = f"wallet/{event.user_id}/bonus"
    return sum(amount for account, _, amount in event.postings if account == bonus)


def _grants_of(stake: GrantStakeRow | None) -> list[tuple[str, int]]:
    assert stake is not None, "bonus money of a bet that used none"
    return _decode_grants(stake.grants)


_decode_grants: Final = msgspec.json.Decoder(list[tuple[str, int]]).decode

MODEL: Final = Model(
    (GrantRow, GrantEventRow, GrantStakeRow),
    fold,
    needs,
    then_needs,
    of=(
        Deposited,
        BonusGranted,
        AttendanceClaimed,
        GiftReceived,
        BetPlaced,
        BetSettled,
        BetCancelled,
        BonusExpired,
        Reversed,
    ),
)


# --- document


class BonusGrant(Struct, gc=False):
    """Bonus money that was given to a wallet."""

    grant_id: Annotated[
        GrantId,
        Meta(
            description=(
                "The grant's id; of a deposit's bonus the deposit's order_id; the ledger's own begin with `~`"
            ),
            examples=["welcome-1"],
        ),
    ]
    kind: Annotated[
        Literal["deposit", "grant", "registration", "first_deposit", "invitation", "attendance", "gift"],
        Meta(
            description=(
                "`deposit`: the bonus of a deposit; `grant`: of `grant_bonus`; `attendance`: of `claim_attendance`; "
                "`gift`: the share of a gift; "
                "the others were granted by the ledger itself, by its rules"
            ),
            examples=["grant"],
        ),
    ]
    asset: Asset
    amount: Annotated[Amount, Meta(description="What was granted, in the asset's minor unit", examples=[2_500])]
    remaining: Annotated[
        AmountOrZero,
        Meta(
            description=(
                "What is left of it in the wallet's bonus; payouts of bets that used the grant are added to it. 0 "
                "once it is used up, expired or reversed"
            ),
            examples=[1_000],
        ),
    ]
    expires_at_us: Annotated[AnyTimeUs | None, Meta(description="When what is left expires; null: never")]
    position: EventPosition
    created_at_us: TimeUs


class BonusGrants(Struct, gc=False):
    """One page of a wallet's grants of bonus money, newest first."""

    items: list[BonusGrant]
    next_cursor: NextCursor


# --- reads


def grants_statement(tables: Tables, conditions: Conditions) -> Select[Any]:
    """Conditions: ``after`` a place."""
    return page_by_time(tables[GrantRow], conditions)


def _document(partition: int, row: Sequence[Any]) -> BonusGrant:
    *fields, seq, created_at_us = row
    return BonusGrant(*(*fields, f"{partition}:{seq}", created_at_us))


LIST: Final = list_by_time("grants", GrantRow, grants_statement, _document, BonusGrants)
