"""Typed reads: each answers a document of the contract, and the positions at which it is true.

Truths:
(1) an answer is of one moment of the read model: its rows and its positions were read together;
(2) a wallet without ``wallet_opened`` is not there, whatever else it has;
(3) ``seqs`` is honest for a quarantined user too: the last event before the first one that could not be digested; in
    answers about everybody such users show in ``lag_ms`` only;
(4) a list goes on from its cursor, whatever arrived meanwhile: what matched at the first page comes once, and what
    has changed its status since is still delivered, as it is now.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date as date_of
from datetime import timedelta
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct

from ledger.core.position import partition_of
from ledger.core.wallet import DAY_US
from ledger.writer.requests import Failed
from projections.models.bets import Bet, Bets
from projections.models.history import BalanceAt, Change, History, HistoryItem
from projections.models.holds import Hold, Holds
from projections.models.leaderboards import LEADERBOARDS, Leader, Leaderboard
from projections.models.orders import Order, Orders
from projections.models.referrals import REFERRAL_LEVELS, Level, Referrals
from projections.models.rows import LOW_BITS
from projections.models.statistics import CountAndAmount, GameStatistics, Statistics, Totals
from projections.models.transfers import SentTransfer
from projections.models.wallets import Available, FirstDeposit, Limits, Wallet
from projections.reads import statements
from projections.reads.cursors import Cursor, MalformedCursor, read_cursor, write_cursor
from projections.reads.documents import Document, Page
from projections.reads.port import NO_CONDITIONS, Ask, ReadModel, Rows
from projections.reads.positions import Positions
from projections.tables.fields import Buckets

__all__ = ["Found", "LogEnds", "MalformedCursor", "Reads", "Standing"]

# Chosen: more than any clock here steps back, so that what a first page did not know is never missed by its time.
_CLOCK_MARGIN_US: Final = 2_000_000
_EPOCH: Final = date_of(1970, 1, 1)
_KIND_BEGUN_AS: Final = {"pending": "withdrawal", "completed": "deposit"}
"""Statuses that an order leaves again, and the kind of order that begins with them."""


STANDINGS: Final = (Ask(statements.checkpoints, {}), Ask(statements.quarantine, {}))


def days_of(span: str, at_us: int) -> tuple[int, int]:
    """The first day, and the first one after, of the day, ISO week or month (UTC) of a time; in days since 1970."""
    day = at_us // DAY_US
    if span == "day":
        return day, day + 1
    date = _EPOCH + timedelta(days=day)
    if span == "week":
        first = day - date.weekday()
        return first, first + 7
    first_date = date.replace(day=1)
    next_date = (first_date + timedelta(days=31)).replace(day=1)
    return (first_date - _EPOCH).days, (next_date - _EPOCH).days


class LogEnds(Protocol):
    """What is known of the log: how far it goes beyond the read model."""

    @property
    def partitions(self) -> int: ...

    def end(self, partition: int) -> int:
        """The last seq of the partition that is known here."""
        ...

    async def end_now(self, partition: int) -> int | Failed:
        """The last seq of the partition at a moment after this call began; Failed where nobody can say so now."""
        ...

    async def time_us(self, partition: int, seq: int) -> int:
        """The time of the event there, or of the first after it that is known here. Raises LedgerError."""
        ...


class Found(Struct, gc=False):
    """An answer. ``document`` is None where there is nothing, and ``missing`` the problem's code then.

    ``seqs``: partition → the seq at which it is true, of every partition that it draws on; ``lag_ms`` the age of the
    oldest event that is known and not in it.
    """

    document: Document | None
    missing: str
    seqs: dict[int, int]
    several: bool
    lag_ms: int


class Standing(Struct, gc=False):
    """Where the user's partition and the user stand, and the wallet's row from ``user_id`` on."""

    seq: int
    quarantined_at_us: int | None
    wallet: Sequence[Any]

    @property
    def is_open(self) -> bool:
        return self.wallet[1] not in (None, "none")


class Reads:
    """Every read that needs the read model only. Methods raise ReadModelUnavailable, and MalformedCursor."""

    def __init__(self, model: ReadModel, ends: LogEnds, clock: Callable[[], int]) -> None:
        self._model, self._ends, self._clock = model, ends, clock
        self.ends = ends
        self.positions = Positions(model)
        self._partitions = ends.partitions

    def partition_of(self, user_id: str) -> int:
        return partition_of(user_id, self._partitions)

    # --- one user ------------------------------------------------------------------------------------------------

    # ``fresh``: around every cache, for whoever has found that one too old. Here there is none.

    async def wallet(self, user_id: str, *, fresh: bool = False) -> Found:  # noqa: ARG002
        def document(standing: Standing, rows: Rows) -> Wallet:
            return wallet_of(standing.wallet, rows)

        return await self._of_user(user_id, statements.assets, {}, "wallet_not_found", document)

    async def balance(self, user_id: str, at_us: int | None) -> Found:
        """The buckets at a time; None is now."""
        at_us = self._clock() if at_us is None else at_us

        def document(_: Standing, rows: Rows) -> BalanceAt:
            balances = {asset: Buckets(cash or 0, bonus or 0, held or 0) for asset, cash, bonus, held in rows}
            return BalanceAt(user_id, at_us, balances)

        values = {"at_us": at_us}
        return await self._of_user(user_id, statements.balances_at, values, "wallet_not_found", document)

    async def statistics(self, user_id: str, *, fresh: bool = False) -> Found:  # noqa: ARG002
        def document(_: Standing, rows: Rows) -> Statistics:
            return statistics_of(user_id, rows)

        return await self._of_user(user_id, statements.statistics, {}, "wallet_not_found", document)

    async def referrals(self, user_id: str) -> Found:
        def document(standing: Standing, rows: Rows) -> Referrals:
            members: dict[int, int] = dict(rows)
            levels = [Level(level, members.get(level, 0)) for level in range(1, REFERRAL_LEVELS + 1)]
            return Referrals(user_id, standing.wallet[3], members.get(1, 0), levels, {})

        return await self._of_user(user_id, statements.referrals, {}, "wallet_not_found", document)

    async def bet(self, user_id: str, bet_id: str) -> Found:
        return await self._one(user_id, statements.bet, bet_id, "bet_not_found", _bet)

    async def hold(self, user_id: str, hold_id: str) -> Found:
        return await self._one(user_id, statements.hold, hold_id, "hold_not_found", _hold)

    async def transfer(self, user_id: str, transfer_id: str) -> Found:
        return await self._one(user_id, statements.transfer, transfer_id, "transfer_not_found", _transfer)

    async def order(self, user_id: str, order_id: str) -> Found:
        def build(_: int, row: Sequence[Any]) -> Order:
            return _order(row)

        return await self._one(user_id, statements.order, order_id, "order_not_found", build)

    async def _one(
        self,
        user_id: str,
        builder: Any,
        item_id: str,
        missing: str,
        build: Callable[[int, Sequence[Any]], Document],
    ) -> Found:
        partition = self.partition_of(user_id)

        def document(_: Standing, rows: Rows) -> Document | None:
            return build(partition, rows[0]) if rows else None

        return await self._of_user(user_id, builder, {"id": item_id}, missing, document)

    async def _of_user(
        self,
        user_id: str,
        builder: Any,
        values: Mapping[str, Any],
        missing: str,
        document: Callable[[Standing, Rows], Document | None],
    ) -> Found:
        """A read of few rows by primary key."""
        own = {"of_partition": self.partition_of(user_id), "user": user_id}
        asks = (Ask(statements.standing, own), Ask(builder, {**own, **values}))
        standing_rows, rows = await self._model.fetch(asks, quick=True)
        standing = standing_of_rows(standing_rows)
        if not standing.is_open:
            return await self._found(user_id, standing, None, "wallet_not_found")
        return await self._found(user_id, standing, document(standing, rows), missing)

    async def _found(self, user_id: str, standing: Standing, document: Document | None, missing: str) -> Found:
        partition = self.partition_of(user_id)
        unknown_us = standing.quarantined_at_us
        if unknown_us is None and self._ends.end(partition) > standing.seq:
            unknown_us = await self._ends.time_us(partition, standing.seq + 1)
        return Found(document, missing, {partition: standing.seq}, False, self._age_ms(unknown_us))

    def _age_ms(self, time_us: int | None) -> int:
        return 0 if time_us is None else max((self._clock() - time_us) // 1_000, 0)

    # --- lists of one user ----------------------------------------------------------------------------------------

    async def history(self, user_id: str, filters: Mapping[str, str | int], limit: int, cursor: str | None) -> Found:
        """``filters``: some of type, asset, game, from_us, to_us."""
        at = self._resume("history", user_id, filters, cursor, after="iit")
        values: dict[str, Any] = {name if name.endswith("_us") else f"of_{name}": filters[name] for name in filters}
        conditions = frozenset(filters)
        if at is not None:
            conditions |= {"after"}
            values |= dict(zip(("after_time_us", "after_seq", "after_asset"), at.after, strict=True))
        partition = self.partition_of(user_id)

        def page(_: int, rows: Rows) -> Page:
            items = [_history_item(partition, row) for row in rows[:limit]]
            last = (rows[limit - 1][0], rows[limit - 1][1], rows[limit - 1][2]) if len(rows) > limit else None
            return History(items, self._next("history", user_id, filters, last, ()))

        return await self._list(user_id, [(statements.history, conditions, values)], limit, page)

    async def bets(self, user_id: str, filters: Mapping[str, str], limit: int, cursor: str | None) -> Found:
        """``filters``: some of game, period, status."""
        at = self._resume("bets", user_id, filters, cursor, after="ii", snapshot=1)
        values: dict[str, Any] = {f"of_{name}": value for name, value in filters.items()}
        conditions = frozenset(filters)
        asked = [(statements.bets, conditions, values)]
        if at is not None:
            values |= {"after_time_us": at.after[0], "after_seq": at.after[1], "as_of_seq": at.snapshot[0]}
            conditions |= {"after"}
            asked = [(statements.bets, conditions | ({"kept"} if "status" in filters else set()), values)]
            if filters.get("status") == "open":
                asked.append((statements.bets, conditions - {"status"} | {"left"}, values))
        partition = self.partition_of(user_id)

        def page(seq: int, rows: Rows) -> Page:
            rows = sorted(rows, key=lambda row: row[8], reverse=True)
            items = [_bet(partition, row) for row in rows[:limit]]
            last = (rows[limit - 1][9], rows[limit - 1][8]) if len(rows) > limit else None
            return Bets(items, self._next("bets", user_id, filters, last, at.snapshot if at else (seq,)))

        return await self._list(user_id, asked, limit, page)

    async def holds(self, user_id: str, limit: int, cursor: str | None) -> Found:
        at = self._resume("holds", user_id, {}, cursor, after="ii")
        values = {} if at is None else {"after_time_us": at.after[0], "after_seq": at.after[1]}
        conditions = NO_CONDITIONS if at is None else frozenset({"after"})
        partition = self.partition_of(user_id)

        def page(_: int, rows: Rows) -> Page:
            items = [_hold(partition, row) for row in rows[:limit]]
            last = (rows[limit - 1][7], rows[limit - 1][6]) if len(rows) > limit else None
            return Holds(items, self._next("holds", user_id, {}, last, ()))

        return await self._list(user_id, [(statements.holds, conditions, values)], limit, page)

    async def _list(
        self,
        user_id: str,
        asked: Sequence[tuple[Any, frozenset[str], Mapping[str, Any]]],
        limit: int,
        page: Callable[[int, Rows], Page],
    ) -> Found:
        own = {"of_partition": self.partition_of(user_id), "user": user_id, "most": limit + 1}
        asks = [Ask(statements.standing, own)]
        asks += [Ask(builder, {**own, **values}, conditions) for builder, conditions, values in asked]
        standing_rows, *lists = await self._model.fetch(asks)
        standing = standing_of_rows(standing_rows)
        if not standing.is_open:
            return await self._found(user_id, standing, None, "wallet_not_found")
        rows = [row for rows in lists for row in rows]
        return await self._found(user_id, standing, page(standing.seq, rows), "")

    # --- everybody -------------------------------------------------------------------------------------------------

    async def leaderboard(
        self,
        name: str,
        asset: str,
        at_us: int | None,
        limit: int,
        *,
        fresh: bool = False,  # noqa: ARG002
    ) -> Found:
        """``name``: one of ``LEADERBOARDS``; of the day, the ISO week or the month (UTC) that ``at_us`` is in."""
        first_day, end_day = self.days_of_board(name, at_us)
        asks = [*STANDINGS, leaders_of(name, asset, first_day, end_day, limit)]
        checkpoint_rows, quarantine_rows, rows = await self._model.fetch(asks)
        seqs, oldest_us = await self._standing_of_all(checkpoint_rows, quarantine_rows)
        board = board_of(name, asset, first_day, end_day, values_of(rows))
        return Found(board, "", seqs, True, self._age_ms(oldest_us))

    def days_of_board(self, name: str, at_us: int | None) -> tuple[int, int]:
        """The first day, and the first one after, that a leaderboard at this time is of; None is now."""
        return days_of(LEADERBOARDS[name][1], self._clock() if at_us is None else at_us)

    async def _standing_of_all(
        self, checkpoint_rows: Rows, quarantine_rows: Rows
    ) -> tuple[dict[int, int], int | None]:
        """Where every partition stands, and the time of the oldest event that is known and not in the rows.

        A quarantined user's events that wait count into the age, not into the positions: one user who stands still
        must not make everybody's answers look old, nor hide what belongs to others.
        """
        seqs: dict[int, int] = dict(checkpoint_rows)
        unknown_us = [time_us for _, _, _, time_us in quarantine_rows]
        for partition, seq in seqs.items():
            if self._ends.end(partition) > seq:
                unknown_us.append(await self._ends.time_us(partition, seq + 1))
        return seqs, min(unknown_us, default=None)

    # --- the approval queue ---------------------------------------------------------------------------------------

    async def orders(self, filters: Mapping[str, str], limit: int, cursor: str | None) -> Found:
        """Everybody's orders. ``filters``: some of kind, status."""
        at = self._resume("orders", "", filters, cursor, after="iii", snapshot=self._partitions + 1)
        asks = [*STANDINGS, *self._order_asks(filters, limit, at)]
        checkpoint_rows, quarantine_rows, *lists = await self._model.fetch(asks)
        seqs, oldest_us = await self._standing_of_all(checkpoint_rows, quarantine_rows)
        rows = sorted(
            (row for rows in lists for row in rows), key=lambda row: (row[10], row[0], row[9]), reverse=True
        )
        snapshot: Sequence[int]
        if at is None:
            snapshot = (min(oldest_us or self._clock(), self._clock()) - _CLOCK_MARGIN_US, *seqs.values())
        else:
            snapshot = at.snapshot
        last = (rows[limit - 1][10], rows[limit - 1][0], rows[limit - 1][9]) if len(rows) > limit else None
        items = [_order(row) for row in rows[:limit]]
        document = Orders(items, self._next("orders", "", filters, last, snapshot))
        return Found(document, "", seqs, True, self._age_ms(oldest_us))

    def _order_asks(self, filters: Mapping[str, str], limit: int, at: Cursor | None) -> list[Ask]:
        values: dict[str, Any] = {"most": limit + 1, **{f"of_{name}": value for name, value in filters.items()}}
        conditions = frozenset(filters)
        if at is None:
            return [Ask(statements.orders, values, conditions)]
        values |= dict(zip(("after_time_us", "after_partition", "after_seq"), at.after, strict=True))
        conditions |= {"after"}
        since_us, *seqs = at.snapshot
        values |= {"since_us": since_us, **{f"as_of_{number}": seq for number, seq in enumerate(seqs)}}
        conditions |= {f"partitions={self._partitions}"}
        status = filters.get("status")
        if status is None:
            return [Ask(statements.orders, values, conditions)]
        asks = [Ask(statements.orders, values, conditions | {"kept"})]
        begun_as = _KIND_BEGUN_AS.get(status)
        if begun_as is not None and filters.get("kind", begun_as) == begun_as:
            left = conditions - {"status"} | {"kind", "left"}
            asks.append(Ask(statements.orders, {**values, "of_kind": begun_as}, left))
        return asks

    # --- cursors --------------------------------------------------------------------------------------------------

    def _resume(
        self,
        name: str,
        user_id: str,
        filters: Mapping[str, str | int],
        cursor: str | None,
        *,
        after: str,
        snapshot: int = 0,
    ) -> Cursor | None:
        return None if cursor is None else read_cursor(cursor, (name, user_id, filters), after, snapshot)

    def _next(
        self,
        name: str,
        user_id: str,
        filters: Mapping[str, str | int],
        last: tuple[Any, ...] | None,
        snapshot: Sequence[int],
    ) -> str | None:
        return None if last is None else write_cursor((name, user_id, filters), Cursor(last, tuple(snapshot)))


def leaders_of(name: str, asset: str, first_day: int, end_day: int, most: int) -> Ask:
    values = {"of_asset": asset, "first_day": first_day, "end_day": end_day, "most": most}
    return Ask(statements.leaders, values, frozenset({LEADERBOARDS[name][0]}))


def values_of(rows: Rows) -> list[tuple[str, int]]:
    """User and value of each leader."""
    return [(user_id, (high << LOW_BITS) + low) for user_id, high, low in rows]


def board_of(name: str, asset: str, first_day: int, end_day: int, values: Sequence[tuple[str, int]]) -> Leaderboard:
    leaders = [Leader(rank, user_id, value) for rank, (user_id, value) in enumerate(values, 1)]
    return Leaderboard(name, asset, first_day * DAY_US, end_day * DAY_US, leaders)


def standing_of_rows(rows: Rows) -> Standing:
    seq, quarantined_seq, quarantined_at_us, *wallet = rows[0]
    return Standing(seq if quarantined_seq is None else quarantined_seq - 1, quarantined_at_us, wallet)


def wallet_of(row: Sequence[Any], assets: Rows) -> Wallet:
    user_id, status, opened_at_us, referrer_id, order_id, asset, amount, position, time_us = row
    balances, limits = {}, {}
    for name, _, cash, bonus, held, credit_limit, *maxima in assets:
        balances[name] = Available(cash, bonus, held, cash + credit_limit)
        limits[name] = Limits(credit_limit, *maxima)
    first = None if order_id is None else FirstDeposit(order_id, asset, amount, position, time_us)
    return Wallet(user_id, status, opened_at_us, referrer_id, balances, limits, first)


def _history_item(partition: int, row: Sequence[Any]) -> HistoryItem:
    time_us, seq, asset, kind, command_id, game, d_cash, d_bonus, d_held, cash, bonus, held, data = row
    return HistoryItem(
        f"{partition}:{seq}",
        time_us,
        kind,
        command_id,
        asset,
        game,
        Change(d_cash, d_bonus, d_held),
        Buckets(cash, bonus, held),
        msgspec.Raw(data.encode()),
    )


def _bet(partition: int, row: Sequence[Any]) -> Bet:
    *members, seq, placed_at_us, settled_seq, settled_at_us = row
    settled = None if settled_seq is None else f"{partition}:{settled_seq}"
    return Bet(*(*members, f"{partition}:{seq}", placed_at_us, settled, settled_at_us))


def _hold(partition: int, row: Sequence[Any]) -> Hold:
    *members, seq, created_at_us, _, resolved_at_us = row
    return Hold(*(*members, f"{partition}:{seq}", created_at_us, resolved_at_us))


def _transfer(partition: int, row: Sequence[Any]) -> SentTransfer:
    *members, seq, created_at_us, resolved_at_us = row
    return SentTransfer(*(*members, f"{partition}:{seq}", created_at_us, resolved_at_us))


def _order(row: Sequence[Any]) -> Order:
    partition, *members, seq, created_at_us, _, resolved_at_us = row
    return Order(*(*members, f"{partition}:{seq}", created_at_us, resolved_at_us))


def statistics_of(user_id: str, rows: Rows) -> Statistics:
    games: list[GameStatistics] = []
    totals: dict[str, Totals] = {}
    for asset, game, *texts in rows:
        sums = [int(text) for text in texts]
        if not any(sums):
            continue
        bets, wins, staked, settled_stake, paid_out, biggest_win, *counts = sums
        total = totals.get(asset)
        if total is None:
            nothing = (CountAndAmount() for _ in range(4))
            total = totals[asset] = Totals(asset, 0, 0, 0, 0, 0, 0, *nothing)
        if game:
            games.append(
                GameStatistics(asset, game, bets, wins, staked, paid_out, paid_out - settled_stake, biggest_win)
            )
        else:
            deposits, deposited, withdrawals, withdrawn, bonuses, granted, commissions, paid = counts
            total.deposits = CountAndAmount(deposits, deposited)
            total.withdrawals = CountAndAmount(withdrawals, withdrawn)
            total.bonuses = CountAndAmount(bonuses, granted)
            total.commissions = CountAndAmount(commissions, paid)
        total.bets += bets
        total.wins += wins
        total.staked += staked
        total.paid_out += paid_out
        total.net += paid_out - settled_stake
        total.biggest_win = max(total.biggest_win, biggest_win)
    return Statistics(user_id, games, list(totals.values()))
