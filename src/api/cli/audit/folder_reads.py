"""The reads of a data folder without a running service; implements ``projections.auditing.reconcile.port.Reads``."""

import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from api.cli.audit.sources import CannotAudit
from api.http.consistency import body_of
from ledger.core.games.rules import game_no_longer_played
from ledger.errors import LedgerError
from ledger.sqlite.folder import READ_MODEL
from projections.auditing.oracle import Document
from projections.auditing.reconcile.port import LEADERS
from projections.auditing.reconcile.run import Accounts, Unreadable
from projections.models import BY_USER
from projections.models.accounts import accounts_statement
from projections.models.house import HOUR_US, Hours
from projections.reads import statements
from projections.reads.queries import Found, Reads, at_once
from projections.storage.port import ReadModelUnavailable
from projections.storage.sqlite_reader import SqliteReadModel
from projections.tables.queries import Query, Rows

_LIMIT: Final = 200
_NOT_TEXT: Final = "Could not decode to UTF-8"
"""The error of SQLite's driver for a text that is not UTF-8. Its other errors are about the file."""

T = TypeVar("T")


class FolderReads:
    """Threads may share it; each thread has its own read model."""

    has_private = True

    def __init__(self, data: Path, partitions: int) -> None:
        """Raises CannotAudit if the folder has no read model, or one of another log; ReadModelUnavailable."""
        self._path = data / READ_MODEL
        self._ends = _Ends(partitions)
        self._here = threading.local()
        self._opened: list[SqliteReadModel] = []
        if not self._path.exists():
            raise CannotAudit(
                f"there is no read model in {data}: `stakelog serve` makes and fills it, or compare a running "
                "service with --url"
            )
        (checkpoints,) = self._fetch((Query(statements.checkpoints),))
        if len(checkpoints) != partitions:
            self.close()
            raise CannotAudit(
                f"the read model in {data} has {len(checkpoints)} partitions, its log {partitions}: "
                "they do not belong together"
            )

    def _model(self) -> "_AtOnce":
        model: _AtOnce | None = getattr(self._here, "model", None)
        if model is None:
            opened = SqliteReadModel(self._path)
            self._opened.append(opened)
            model = self._here.model = _AtOnce(opened)
        return model

    def _fetch(self, queries: Sequence[Query]) -> list[Rows]:
        return at_once(self._model().fetch(queries))

    def _call(self, read: Callable[[Reads], Coroutine[Any, Any, Found]]) -> Document | None:
        """Raises Unreadable, ReadModelUnavailable."""

        def document() -> Document | None:
            found = at_once(read(Reads(self._model(), self._ends, lambda: 0)))
            return None if found.document is None else msgspec.json.decode(body_of(found), type=dict[str, Any])

        return _readable(document)

    def wallet(self, user_id: str) -> Document | None:
        return self._call(lambda reads: reads.wallet(user_id))

    def balance_at(self, user_id: str, at_us: int) -> Document | None:
        return self._call(lambda reads: reads.balance(user_id, at_us))

    def history(self, user_id: str, cursor: str | None) -> Document | None:
        return self._call(lambda reads: reads.history(user_id, {}, _LIMIT, cursor))

    def bets(self, user_id: str, cursor: str | None) -> Document | None:
        return self._call(lambda reads: reads.bets(user_id, {}, _LIMIT, cursor))

    def bet(self, user_id: str, bet_id: str) -> Document | None:
        return self._call(lambda reads: reads.bet(user_id, bet_id))

    def holds(self, user_id: str, cursor: str | None) -> Document | None:
        return self._call(lambda reads: reads.holds(user_id, _LIMIT, cursor))

    def hold(self, user_id: str, hold_id: str) -> Document | None:
        return self._call(lambda reads: reads.hold(user_id, hold_id))

    def transfers(self, user_id: str, cursor: str | None) -> Document | None:
        return self._call(lambda reads: reads.transfers(user_id, _LIMIT, cursor))

    def grants(self, user_id: str, cursor: str | None) -> Document | None:
        return self._call(lambda reads: reads.grants(user_id, _LIMIT, cursor))

    def transfer(self, user_id: str, transfer_id: str) -> Document | None:
        return self._call(lambda reads: reads.transfer(user_id, transfer_id))

    def order(self, user_id: str, order_id: str) -> Document | None:
        return self._call(lambda reads: reads.order(user_id, order_id))

    def stats(self, user_id: str) -> Document | None:
        return self._call(lambda reads: reads.statistics(user_id))

    def referrals(self, user_id: str) -> Document | None:
        return self._call(lambda reads: reads.referrals(user_id))

    def gift(self, code: str) -> Document | None:
        return self._call(lambda reads: reads.gift(code))

    def referral_code(self, code: str) -> Document | None:
        return self._call(lambda reads: reads.referral_code(code))

    def orders(self, cursor: str | None) -> Document | None:
        return self._call(lambda reads: reads.orders({}, _LIMIT, cursor))

    def adjustments(self, cursor: str | None) -> Document | None:
        return self._call(lambda reads: reads.adjustments({}, _LIMIT, cursor))

    def leaderboard(self, name: str, asset: str, at_us: int) -> Document | None:
        return self._call(lambda reads: reads.leaderboard(name, asset, at_us, LEADERS))

    def games(self) -> None:
        """A folder has no rules file: every game is read with built-in ones, which change no row."""

    def periods(self, game: str, cursor: str | None) -> Document | None:
        return self._call(lambda reads: reads.periods(game_no_longer_played(game), _LIMIT, cursor))

    def period(self, game: str, period: str) -> Document | None:
        return self._call(lambda reads: reads.period(game_no_longer_played(game), period))

    def house(self, asset: str, from_us: int, to_us: int) -> Document | None:
        hours = Hours(from_us // HOUR_US, to_us // HOUR_US)
        return self._call(lambda reads: reads.house(asset, hours, None, "hour"))

    def accounts(self, partition: int) -> Accounts | None:
        queries = (Query(statements.checkpoints), Query(statements.quarantine), Query(accounts_statement))

        def read() -> Accounts | None:
            checkpoints, quarantined, rows = self._fetch(queries)
            if any(row[0] == partition for row in quarantined):
                return None  # totals lack the events of quarantined users, who are reported as behind
            totals = {(row[1], row[2]): (int(row[3]), int(row[4])) for row in rows if row[0] == partition}
            return Accounts(int(dict(checkpoints)[partition]), totals)

        return _readable(read)

    def users(self, partition: int) -> tuple[int, set[str]]:
        of_table = [Query(statements.users, {"of_partition": partition}, frozenset({kind.table})) for kind in BY_USER]

        def read() -> tuple[int, set[str]]:
            checkpoints, *tables = self._fetch((Query(statements.checkpoints), *of_table))
            return int(dict(checkpoints)[partition]), {str(row[0]) for rows in tables for row in rows}

        return _readable(read)

    def close(self) -> None:
        for model in self._opened:
            model.close_now()


def _readable(read: Callable[[], T]) -> T:
    """Turns every failure of a read into Unreadable: rows changed by hand may fail anywhere. Raises LedgerError."""
    try:
        return read()
    except ReadModelUnavailable as error:
        if _NOT_TEXT in str(error):
            raise Unreadable(str(error)) from error
        raise
    except LedgerError:
        raise
    except Exception as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error


class _AtOnce:
    """``ReadModel`` that runs every query in the caller's thread."""

    def __init__(self, model: SqliteReadModel) -> None:
        self._model = model

    async def fetch(self, queries: Sequence[Query], *, quick: bool = False) -> list[Rows]:  # noqa: ARG002 - all are
        return await self._model.fetch(queries, quick=True)

    async def close(self) -> None:
        self._model.close_now()


class _Ends:
    """``LogEnds`` of an auditor: each response is compared with the log at its own position, so there is no lag."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions

    def end(self, _partition: int) -> int:
        return 0

    async def end_now(self, partition: int) -> int:
        return self.end(partition)

    async def time_us(self, partition: int, seq: int) -> int:
        raise AssertionError(f"the auditor's reads know no event after the folded ones: {partition}:{seq}")
