"""All reads. Each returns a document of the contract and the positions at which it is true.

Invariants:
(1) a document shows one moment of the read model: its rows and its positions are read in one snapshot;
(2) a wallet without ``wallet_opened`` is missing, even if it has other events;
(3) ``seqs`` is true for a quarantined user too: the last event before the first one that could not be folded. In
    documents about all users, quarantined users show in ``lag_ms`` only;
(4) a list continues after its cursor although events arrive: an item that matched at the first page comes exactly
    once, with the status that it has when its page is read.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from ledger.core.fields import CODE_STREAM, GIFT_STREAM
from ledger.core.games.edges import EdgeExceeded
from ledger.core.games.rules import Game
from ledger.core.position import Position, partition_of
from ledger.writer.requests import Failed
from projections.models import (
    adjustments,
    bets,
    cohorts,
    gifts,
    grants,
    history,
    holds,
    house,
    leaderboards,
    movers,
    orders,
    periods,
    referral_codes,
    referrals,
    statistics,
    transfers,
    wallet_list,
    wallets,
)
from projections.models.leaderboards import Board
from projections.reads import statements
from projections.reads.cursors import MalformedCursor, read_cursor, write_cursor
from projections.reads.positions import Positions
from projections.reads.suspects import Suspects
from projections.storage.port import ReadModel
from projections.tables.all_users import AllUsersList
from projections.tables.queries import CLOCKS_DIFFER_US, Cursor, Filters, Query, Rows, UserList, UserRead, UserStatus

__all__ = ["Found", "LogEnds", "MalformedCursor", "Reads"]

ALL_STATUS: Final = (Query(statements.checkpoints), Query(statements.oldest_quarantine))

T = TypeVar("T")


class LogEnds(Protocol):
    """How far the log is ahead of the read model, as far as this process knows."""

    @property
    def partitions(self) -> int: ...

    def end(self, partition: int) -> int:
        """The last seq of the partition that this process knows."""
        ...

    async def end_now(self, partition: int) -> int | Failed:
        """The last seq of the partition at a moment after this call began; Failed if it cannot be found out now."""
        ...

    async def time_us(self, partition: int, seq: int) -> int:
        """The time of this event, or of the first known event after it. Raises LedgerError."""
        ...


class Found(Struct, gc=False):
    """The result of a read. If ``document`` is None, ``missing`` is the problem's code.

    ``seqs``: partition → the seq at which the document is true, for every partition that it uses; ``several``:
    whether it is about several partitions; ``lag_ms``: age of the oldest known event that is not in the document.
    """

    document: Struct | None
    missing: str
    seqs: dict[int, int]
    several: bool
    lag_ms: int
    suspect: bool = False
    """Whether the background check found that rows of the document, or other rows of its user, are wrong."""


class QuarantinedUser(Struct, frozen=True):
    """A user whose rows stopped before an event that a fold could not process."""

    user_id: str
    position: str
    """Of this event."""
    time_us: int
    reason: str


class QuarantinedUsers(Struct, frozen=True):
    items: list[QuarantinedUser]


class AllStatus(NamedTuple):
    """How far the rows of all users are folded. ``seqs``: of every partition, in order; ``unfolded_us``: the time of
    the oldest event that is known to this process and not folded; ``oldest_us``: the same, quarantined events too."""

    seqs: dict[int, int]
    unfolded_us: int | None
    oldest_us: int | None


class Reads:
    """Every read that needs the read model only. Methods raise ReadModelUnavailable and MalformedCursor.

    ``fresh``: bypass every cache, because the cached document was too old. This class has no cache.
    """

    def __init__(self, model: ReadModel, ends: LogEnds, clock: Callable[[], int]) -> None:
        self._model, self._ends, self._clock = model, ends, clock
        self.ends = ends
        self.positions = Positions(model)
        self.suspects = Suspects(model)
        self._partitions = ends.partitions

    def partition_of(self, user_id: str) -> int:
        return partition_of(user_id, self._partitions)

    # --- one user ------------------------------------------------------------------------------------------------

    async def wallet(self, user_id: str, *, fresh: bool = False) -> Found:  # noqa: ARG002
        return await self.read(user_id, wallets.WALLET)

    async def balance(self, user_id: str, at_us: int | None) -> Found:
        """The buckets at a time. None: at ``seqs``, even if one of the events is later than this process's clock."""
        read = history.balance_now(self._clock()) if at_us is None else history.balance_at(at_us)
        return await self.read(user_id, read)

    async def statistics(self, user_id: str, *, fresh: bool = False) -> Found:  # noqa: ARG002
        return await self.read(user_id, statistics.STATISTICS)

    async def referrals(self, user_id: str) -> Found:
        return await self.read(user_id, referrals.REFERRALS)

    async def bet(self, user_id: str, bet_id: str) -> Found:
        return await self.read(user_id, bets.one(bet_id))

    async def hold(self, user_id: str, hold_id: str) -> Found:
        return await self.read(user_id, holds.one(hold_id))

    async def transfer(self, user_id: str, transfer_id: str) -> Found:
        return await self.read(user_id, transfers.one(transfer_id))

    async def order(self, user_id: str, order_id: str) -> Found:
        return await self.read(user_id, orders.one(order_id))

    async def history(self, user_id: str, filters: Filters, limit: int, cursor: str | None) -> Found:
        return await self._list(user_id, history.LIST, filters, limit, cursor)

    async def bets(self, user_id: str, filters: Filters, limit: int, cursor: str | None) -> Found:
        return await self._list(user_id, bets.LIST, filters, limit, cursor)

    async def transfers(self, user_id: str, limit: int, cursor: str | None) -> Found:
        return await self._list(user_id, transfers.LIST, {}, limit, cursor)

    async def grants(self, user_id: str, limit: int, cursor: str | None) -> Found:
        return await self._list(user_id, grants.LIST, {}, limit, cursor)

    async def holds(self, user_id: str, limit: int, cursor: str | None) -> Found:
        return await self._list(user_id, holds.LIST, {}, limit, cursor)

    async def read(self, user_id: str, read: UserRead) -> Found:
        user, rows = await self._rows_of(user_id, [read.query], {}, quick=read.quick)
        if not user.is_open:
            return await self.found_of_user(user, None)
        return await self.found_of_user(user, read.document(user, rows), read.missing)

    async def _list(self, user_id: str, of: UserList, filters: Filters, limit: int, cursor: str | None) -> Found:
        key = (of.name, user_id, filters)
        at = None if cursor is None else read_cursor(cursor, key, of.place_kinds, int(of.has_snapshot))
        queries = of.queries(filters, at)
        user, rows = await self._rows_of(user_id, queries, {"most": limit + 1})
        if not user.is_open:
            return await self.found_of_user(user, None)
        if len(queries) > 1:
            rows.sort(key=of.place, reverse=True)
        snapshot = at.snapshot if at is not None else (user.seq,) * of.has_snapshot
        next_cursor = _next_cursor(key, rows, limit, of.place, lambda: snapshot)
        items = [of.item(user.partition, row) for row in rows[:limit]]
        return await self.found_of_user(user, of.page(items, next_cursor))

    async def _rows_of(
        self, user_id: str, queries: Sequence[Query], values: Mapping[str, Any], *, quick: bool = False
    ) -> tuple[UserStatus, Rows]:
        partition = self.partition_of(user_id)
        own = {"of_partition": partition, "user": user_id, **values}
        own_queries = [query._replace(values={**own, **query.values}) for query in queries]
        status_rows, *lists = await self._model.fetch([Query(statements.user_status, own), *own_queries], quick=quick)
        return status_of(user_id, partition, status_rows), [row for rows in lists for row in rows]

    async def found_of_user(
        self, user: UserStatus, document: Struct | None, missing: str = "wallet_not_found"
    ) -> Found:
        """The result of a read of one user's rows."""
        unfolded_us = user.quarantined_at_us
        if unfolded_us is None and self._ends.end(user.partition) > user.seq:
            unfolded_us = await self._ends.time_us(user.partition, user.seq + 1)
        suspect = self.suspects.has_user(user.user_id, user.partition)
        return Found(document, missing, {user.partition: user.seq}, False, self._age_ms(unfolded_us), suspect)

    def _age_ms(self, time_us: int | None) -> int:
        return 0 if time_us is None else max((self._clock() - time_us) // 1_000, 0)

    # --- streams of codes ----------------------------------------------------------------------------------------

    async def gift(self, code: str) -> Found:
        user, rows = await self._rows_of(GIFT_STREAM + code, [gifts.GIFT], {}, quick=True)
        return await self.found_of_user(user, gifts.document(user, rows, self._clock()), "not_found")

    async def referral_code(self, code: str) -> Found:
        user, rows = await self._rows_of(CODE_STREAM + code, [referral_codes.CODE], {}, quick=True)
        return await self.found_of_user(user, referral_codes.document(user, rows), "not_found")

    async def gifts(self, limit: int, cursor: str | None) -> Found:
        """All gifts."""
        key: tuple[str, str, Filters] = ("gifts", "", {})
        at = None if cursor is None else read_cursor(cursor, key, "it", 0)
        checkpoint_rows, quarantine_rows, rows = await self._model.fetch(
            [*ALL_STATUS, gifts.page_query(at, limit + 1)]
        )
        seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        now_us = self._clock()
        items = [gifts.gift(user_id, fields, now_us) for _, user_id, *fields in rows[:limit]]
        next_cursor = _next_cursor(key, rows, limit, lambda row: tuple(row[:2]), lambda: ())
        suspect = self.suspects.has_table(gifts.GiftRow.table)
        return Found(gifts.Gifts(items, next_cursor), "", seqs, True, self._age_ms(oldest_us), suspect)

    async def quarantined(self, limit: int) -> Found:
        """The first quarantined users."""
        checkpoint_rows, quarantine_rows, rows = await self._model.fetch(
            [*ALL_STATUS, Query(statements.quarantined_users, {"most": limit})]
        )
        seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        items = [
            QuarantinedUser(user_id, str(Position(partition, seq)), time_us, reason)
            for user_id, partition, seq, time_us, reason in rows
        ]
        return Found(QuarantinedUsers(items), "", seqs, True, self._age_ms(oldest_us), False)

    # --- all users -----------------------------------------------------------------------------------------------

    async def leaderboard(
        self,
        name: str,
        asset: str,
        at_us: int | None,
        limit: int,
        *,
        fresh: bool = False,  # noqa: ARG002
    ) -> Found:
        """``name``: one of ``LEADERBOARDS``; of the day, the ISO week or the month (UTC) that contains ``at_us``."""
        board = await self._board_at(name, asset, at_us)
        checkpoint_rows, quarantine_rows, rows = await self._model.fetch(
            [*ALL_STATUS, leaderboards.leaders(board, limit)]
        )
        seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        document = leaderboards.document(board, leaderboards.values_of(rows))
        return Found(document, "", seqs, True, self._age_ms(oldest_us), self._is_board_suspect())

    async def movers(self, asset: str, at_us: int | None, limit: int) -> Found:
        """The users with the largest net win and loss of the UTC day that contains ``at_us``; None: of today."""
        board = await self._board_at(movers.BOARD, asset, at_us)
        checkpoint_rows, quarantine_rows, gained, lost = await self._model.fetch(
            [*ALL_STATUS, *movers.queries(board, limit)]
        )
        seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        document = movers.document(board, gained, lost)
        return Found(document, "", seqs, True, self._age_ms(oldest_us), self._is_board_suspect())

    async def cohorts(self, asset: str, registered: cohorts.Registered) -> Found:
        """The wallets by their day of registration, and their bets in one asset on each day since."""
        checkpoint_rows, quarantine_rows, sizes, days = await self._model.fetch(
            [*ALL_STATUS, *cohorts.queries(asset, registered)]
        )
        seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        suspect = any(self.suspects.has_table(table) for table in cohorts.TABLES)
        document = cohorts.document(asset, registered, sizes, days)
        return Found(document, "", seqs, True, self._age_ms(oldest_us), suspect)

    def _is_board_suspect(self) -> bool:
        return any(self.suspects.has_table(kind.table) for kind in leaderboards.MODEL.rows)

    async def _board_at(self, name: str, asset: str, at_us: int | None) -> Board:
        """The leaderboard of a time; None: of now. This process's clock may be behind that of a writer, so shortly
        before the end of a day, week or month the next one is the current one as soon as it has begun in the rows."""
        if at_us is not None:
            return Board(name, asset, *leaderboards.days_of(name, at_us))
        now_us = self._clock()
        board = Board(name, asset, *leaderboards.days_of(name, now_us))
        following = Board(name, asset, *leaderboards.days_of(name, now_us + CLOCKS_DIFFER_US))
        return following if following != board and await self._has_begun(following) else board

    async def _has_begun(self, board: Board) -> bool:
        (found,) = await self._model.fetch([leaderboards.has_begun(board)])
        return bool(found)

    async def period(self, game: Game | None, period: str) -> Found:
        """One period; its start is a multiple of the game's length. ``game``: None for a game that has no periods
        here."""
        queries = [] if game is None else periods.period_queries(game.name, period)
        return await self.found_of_period(game, period, await self._model.fetch([*ALL_STATUS, *queries]))

    async def found_of_period(self, game: Game | None, period: str, read: Sequence[Rows]) -> Found:
        """The same of rows that are read already: those of ``ALL_STATUS`` and of ``period_queries``."""
        checkpoint_rows, quarantine_rows, *found = read
        status = await self._status_of_all(checkpoint_rows, quarantine_rows)
        document = None
        if game is not None:
            rows, distribution = found
            document = periods.document(game, period, rows, distribution, self._clock())
        return self._of_periods(document, status)

    async def periods(self, game: Game | None, limit: int, cursor: str | None) -> Found:
        """The periods of a game that have events, the latest first. ``game``: None for a game that has no periods
        here."""
        key = ("periods", "", {"game": "" if game is None else game.name})
        at = None if cursor is None else read_cursor(cursor, key, "t", 0)
        after = None if at is None else str(at.after[0])
        queries = [] if game is None else [periods.page_query(game.name, after, limit + 1)]
        checkpoint_rows, quarantine_rows, *found = await self._model.fetch([*ALL_STATUS, *queries])
        status = await self._status_of_all(checkpoint_rows, quarantine_rows)
        items = [] if game is None else periods.page(game, found[0], self._clock())
        next_cursor = _next_cursor(key, items, limit, lambda item: (item.period,), lambda: ())
        return self._of_periods(periods.Periods(items[:limit], next_cursor), status)

    async def house(
        self,
        asset: str,
        hours: house.Hours,
        game: str | None,
        by: house.By,
        edges: Sequence[EdgeExceeded] = (),
    ) -> Found:
        """What the games took in and gave out in these hours. ``game``: only this one. ``edges``: of all games and
        assets."""
        query = house.house_query(asset, hours, game, by)
        checkpoint_rows, quarantine_rows, rows = await self._model.fetch([*ALL_STATUS, query])
        seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        suspect = self.suspects.has_table(house.HouseRow.table)
        warnings = house.warnings_of(edges, asset, game)
        return Found(house.document(rows, by, warnings), "", seqs, True, self._age_ms(oldest_us), suspect)

    def now_us(self) -> int:
        """This process's time."""
        return self._clock()

    def _of_periods(self, document: Struct | None, status: AllStatus) -> Found:
        age_ms = self._age_ms(status.oldest_us)
        return Found(document, "period_not_found", status.seqs, True, age_ms, self.are_periods_suspect())

    def are_periods_suspect(self) -> bool:
        """Whether rows of periods, of any game, are known to differ from the log."""
        return any(self.suspects.has_table(kind.table) for kind in periods.MODEL.rows)

    async def orders(self, filters: Filters, limit: int, cursor: str | None) -> Found:
        """All users' orders, or one user's. ``filters``: some of user_id, kind, status; of a kind and a status that
        an order can have."""
        queried = {name: given for name, given in filters.items() if name != "kind" or "status" not in filters}
        user_id = filters.get("user_id")
        if user_id is None:
            return await self._list_of_all(orders.LIST, filters, queried, limit, cursor)
        partition = self.partition_of(str(user_id))
        user = (partition, str(user_id))
        return await self._list_of_all(
            orders.LIST, filters, {**queried, "partition": partition}, limit, cursor, user=user
        )

    async def adjustments(self, filters: Filters, limit: int, cursor: str | None) -> Found:
        """All users' proposed adjustments. ``filters``: status, or nothing."""
        return await self._list_of_all(adjustments.LIST, filters, filters, limit, cursor)

    async def _list_of_all(
        self,
        of: AllUsersList,
        filters: Filters,
        queried: Filters,
        limit: int,
        cursor: str | None,
        *,
        user: tuple[int, str] | None = None,
    ) -> Found:
        """``queried``: those of the filters that imply the others; ``user``: (partition, user_id), if they name
        one."""
        key = (of.name, "", filters)
        at = None if cursor is None else read_cursor(cursor, key, of.place_kinds, None)
        if at is not None and not of.is_snapshot(queried, at.snapshot):
            raise MalformedCursor("it is not a cursor that was given out")
        pages, changes = of.page_queries(queried, at, limit + 1), of.changes_queries(queried, at)
        of_status = ALL_STATUS if user is None else (ALL_STATUS[0], wallet_list.quarantined_query([user]))
        checkpoint_rows, quarantine_rows, *found = await self._model.fetch([*of_status, *pages, *changes])
        if user is None:
            status = await self._status_of_all(checkpoint_rows, quarantine_rows)
            suspect = self.suspects.has_table(of.table)
        else:
            status = await self._status_of_named([user], checkpoint_rows, quarantine_rows)
            suspect = self.suspects.has_user(user[1], user[0])
        rows = sorted((row for rows in found[: len(pages)] for row in rows), key=of.place, reverse=True)

        def snapshot() -> Sequence[int]:
            if at is not None:
                return at.snapshot
            return of.snapshot(found[len(pages) :], rows[0], status.unfolded_us)

        next_cursor = _next_cursor(key, rows, limit, of.place, snapshot)
        document = of.page([of.item(row) for row in rows[:limit]], next_cursor)
        return Found(document, "", status.seqs, True, self._age_ms(status.oldest_us), suspect)

    async def wallets(self, user_ids: Sequence[str], prefix: str, limit: int, cursor: str | None) -> Found:
        """The wallets of these users, or, if there are none, of all whose id begins with ``prefix``.

        ``seqs`` are of the partitions of the named users, and of all partitions for a prefix. Where a named user is
        quarantined, the seq is the last one before its first event that is not in the rows.
        """
        key = ("wallets", "", {f"user_id {user_id}": 1 for user_id in user_ids} if user_ids else {"prefix": prefix})
        at = None if cursor is None else read_cursor(cursor, key, "iii", 0)
        named = sorted((self.partition_of(user_id), user_id) for user_id in set(user_ids))
        page = wallet_list.page_query(named, prefix, at, limit + 1)
        if named:
            quarantined = wallet_list.quarantined_query(named)
            checkpoint_rows, stopped, rows = await self._model.fetch([ALL_STATUS[0], quarantined, page])
            seqs, _, oldest_us = await self._status_of_named(named, checkpoint_rows, stopped)
        else:
            checkpoint_rows, quarantine_rows, rows = await self._model.fetch([*ALL_STATUS, page])
            seqs, _, oldest_us = await self._status_of_all(checkpoint_rows, quarantine_rows)
        found = wallet_list.documents(rows)
        next_cursor = _next_cursor(key, found, limit, lambda one: one[0], lambda: ())
        document = wallet_list.Wallets([wallet for _, wallet in found[:limit]], next_cursor)
        if named:
            suspect = any(self.suspects.has_user(user_id, partition) for partition, user_id in named)
        else:
            suspect = any(self.suspects.has_table(table) for table in wallet_list.TABLES)
        return Found(document, "", seqs, True, self._age_ms(oldest_us), suspect)

    async def _status_of_all(self, checkpoint_rows: Rows, quarantine_rows: Rows) -> AllStatus:
        """A quarantined user's events count for the age, not for the seqs: one quarantined user must neither make all
        documents look old nor hide the events of other users. ``quarantine_rows``: of ``oldest_quarantine``.
        """
        seqs: dict[int, int] = dict(checkpoint_rows)
        ((quarantined_us,),) = quarantine_rows
        unfolded_us = await self._unfolded_us(seqs)
        known = [time_us for time_us in (quarantined_us, unfolded_us) if time_us is not None]
        return AllStatus(seqs, unfolded_us, min(known, default=None))

    async def _status_of_named(
        self, named: Sequence[tuple[int, str]], checkpoint_rows: Rows, stopped: Rows
    ) -> AllStatus:
        """The same for these users (partition, user_id) and their partitions only. A quarantined one's seq is the
        last before the first event that is not in the rows. ``stopped``: of ``quarantined_query``."""
        everywhere: dict[int, int] = dict(checkpoint_rows)
        seqs = {partition: everywhere[partition] for partition in sorted({partition for partition, _ in named})}
        unfolded_us = await self._unfolded_us(seqs)
        oldest = [unfolded_us]
        for partition, seq, time_us in stopped:
            seqs[partition] = min(seqs[partition], seq - 1)
            oldest.append(time_us)
        return AllStatus(seqs, unfolded_us, min((time_us for time_us in oldest if time_us is not None), default=None))

    async def _unfolded_us(self, seqs: Mapping[int, int]) -> int | None:
        """The time of the oldest event after these seqs that this process knows."""
        times_us = [
            await self._ends.time_us(partition, seq + 1)
            for partition, seq in seqs.items()
            if self._ends.end(partition) > seq
        ]
        return min(times_us, default=None)


def status_of(user_id: str, partition: int, rows: Rows) -> UserStatus:
    """Made from the row of ``statements.user_status``."""
    seq, quarantined_seq, quarantined_at_us, *wallet = rows[0]
    folded = seq if quarantined_seq is None else quarantined_seq - 1
    return UserStatus(user_id, partition, folded, quarantined_at_us, wallet)


def _next_cursor(
    key: tuple[str, str, Filters],
    rows: Sequence[Any],
    limit: int,
    place: Callable[[Any], tuple[Any, ...]],
    snapshot: Callable[[], Sequence[int]],
) -> str | None:
    """None at the end of the list: no row comes after this page."""
    return None if len(rows) <= limit else write_cursor(key, Cursor(place(rows[limit - 1]), tuple(snapshot())))


def at_once(read: Coroutine[Any, Any, T]) -> T:
    """The result of a read that never waits, because its read model reads in the caller's thread."""
    try:
        read.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("the read had to wait")
