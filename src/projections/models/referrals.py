"""Referrals: how many members stand below a referrer, level by level."""

from ledger.core.events import Event, ReferralCounted
from ledger.core.position import Position
from projections.storage.row_buffer import RowBuffer


def needs(event: Event, book: RowBuffer) -> None:
    if isinstance(event.data, ReferralCounted):
        book.referrals.want((event.user_id, event.data.level))


def fold(event: Event, _place: Position, book: RowBuffer) -> None:
    if isinstance(event.data, ReferralCounted):
        book.referrals.edit_or_add((event.user_id, event.data.level)).members += 1
