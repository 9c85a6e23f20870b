"""The program with other folds: `python tests/system/other_folds.py <what> <arguments of stakelog>`.

    next      the next version: a bet that is lost is called "missed"
    same      the same, but called this version: a change that did not raise it
    choking   this version, which cannot fold the events of UNFOLDABLE_USER

A change of the code, as a new release would bring it; worker processes run this file again, and are changed too.
"""

import sys
from typing import Final

from ledger.core.bet_events import BetSettled
from ledger.core.events import Event
from ledger.core.position import Position
from projections import models as folds
from projections.models.bets import BetRow
from projections.tables.row_buffer import RowBuffer

UNFOLDABLE_USER: Final = "p0-0"


def missed(event: Event, place: Position, book: RowBuffer) -> None:
    if isinstance(event.data, BetSettled) and event.data.payout == 0:
        book[BetRow].edit((event.user_id, event.data.bet_id)).status = "missed"


def choke(event: Event, place: Position, book: RowBuffer) -> None:
    if event.user_id == UNFOLDABLE_USER:
        raise ValueError(f"cannot fold {event.data.type}")


def change(what: str) -> None:
    more = {"next": missed, "same": missed, "choking": choke}[what]
    vars(folds)["FOLDS"] = (*folds.FOLDS, more)
    vars(folds)["VERSION"] = folds.VERSION + (what == "next")


if __name__ in ("__main__", "__mp_main__"):
    change(sys.argv[1])

if __name__ == "__main__":
    from api.cli.main import stakelog

    stakelog(sys.argv[2:])
