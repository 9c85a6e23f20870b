"""The tables of the read model, for SQLite, PostgreSQL and MySQL alike, and the indexes that its queries go by.

One set of tables a *generation*, told apart by the suffix of their names, and a few that are there once:

``generation``   which there are, by which version of the folds, and which is live
``checkpoint``   per generation and partition: the event up to which its rows are true, and the rows' digests
``quarantine``, ``quarantined_event``  users whose events could not be digested, and those events, in order
``proof``, ``difference``  what the background check last found, per partition and per user

Primary keys begin with the partition (``generation`` first where there is one), so no row is written by two. Texts
compare byte for byte: MySQL's default collation takes ``Bob`` and ``bob`` for one user.
"""

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

from projections.models.rows import (
    AccountRow,
    AssetRow,
    BetRow,
    DepositRow,
    HistoryRow,
    HoldRow,
    LeaderboardRow,
    OrderRow,
    ReferralRow,
    Row,
    StatisticsRow,
    TransferRow,
    WalletRow,
)

SQLITE_FORMAT: Final = 1
"""Of the tables' shapes. A read model of another format is made anew."""


_4_GIB: Final = 2**32 - 1
"""MySQL wants to be told how long a text or blob may get, and takes the type that is large enough."""

# utf8mb4_bin, which both have, takes ``bob`` and ``bob `` for one user: it pads with spaces before it compares.
_MYSQL: Final = "utf8mb4_0900_bin"
_MARIADB: Final = "utf8mb4_nopad_bin"


# Plain types with variants, not the dialects' own: to import a dialect takes longer than to start a follower without.
def _text(length: int) -> Any:
    """A text of at most ``length`` code points, compared byte for byte."""
    return (
        String(length)
        .with_variant(String(length, collation="C"), "postgresql")
        .with_variant(String(length, collation=_MYSQL), "mysql")
        .with_variant(String(length, collation=_MARIADB), "mariadb")
    )


def _long_text() -> Any:
    return (
        Text()
        .with_variant(Text(collation="C"), "postgresql")
        .with_variant(Text(_4_GIB, collation=_MYSQL), "mysql")
        .with_variant(Text(_4_GIB, collation=_MARIADB), "mariadb")
    )


# SQLite orders and compares integers of any width; the others want to be told that 32 bits will not do.
_INT: Final = BigInteger
_USER: Final = 80  # contract: 64, or partition:<n>
_ID: Final = 140  # contract: 128; the ledger's own may be longer
_ASSET: Final = 32
_GAME: Final = 128
_STATUS: Final = 16
_TYPE: Final = 40
_REASON: Final = 500
_POSITION: Final = 24
_SUM: Final = 40  # decimal digits of a sum without bound
_SHA256: Final = 64


def _key(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False, nullable=False)


def _partition() -> Column[Any]:
    return _key("partition", Integer)


def _must(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=False)


def _may(name: str, kind: Any) -> Column[Any]:
    return Column(name, kind, nullable=True)


class Tables:
    """The tables of one generation."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.metadata = MetaData()
        self.wallet = self._table(
            WalletRow,
            _key("user_id", _text(_USER)),
            _must("status", _text(_STATUS)),
            _may("opened_at_us", _INT),
            _may("referrer_id", _text(_USER)),
            _may("first_order_id", _text(_ID)),
            _may("first_asset", _text(_ASSET)),
            _may("first_amount", _INT),
            _may("first_position", _text(_POSITION)),
            _may("first_time_us", _INT),
        )
        self.asset = self._table(
            AssetRow,
            _key("user_id", _text(_USER)),
            _key("asset", _text(_ASSET)),
            _must("since_us", _INT),
            _must("cash", _INT),
            _must("bonus", _INT),
            _must("held", _INT),
            _must("credit_limit", _INT),
            _may("balance_max", _INT),
            _may("stake_max_per_day", _INT),
            _may("withdrawal_max_per_day", _INT),
        )
        self.history = self._table(
            HistoryRow,
            _key("user_id", _text(_USER)),
            _key("time_us", _INT),
            _key("seq", _INT),
            _key("asset", _text(_ASSET)),
            _must("type", _text(_TYPE)),
            _must("command_id", _text(_ID)),
            _may("game", _text(_GAME)),
            _must("cash_change", _INT),
            _must("bonus_change", _INT),
            _must("held_change", _INT),
            _must("cash", _INT),
            _must("bonus", _INT),
            _must("held", _INT),
            _must("data", _long_text()),
        )
        self.orders = self._table(
            OrderRow,
            _key("user_id", _text(_USER)),
            _key("order_id", _text(_ID)),
            _must("kind", _text(_STATUS)),
            _must("asset", _text(_ASSET)),
            _must("amount", _INT),
            _must("bonus", _INT),
            _must("status", _text(_STATUS)),
            _may("reason", _text(_REASON)),
            _must("seq", _INT),
            _must("created_at_us", _INT),
            _may("resolved_seq", _INT),
            _may("resolved_at_us", _INT),
        )
        self.deposit = self._table(DepositRow, _key("seq", _INT), _must("order_id", _text(_ID)))
        self.bet = self._table(
            BetRow,
            _key("user_id", _text(_USER)),
            _key("bet_id", _text(_ID)),
            _must("game", _text(_GAME)),
            _must("period", _text(_GAME)),
            _must("selection", _text(_GAME)),
            _must("asset", _text(_ASSET)),
            _must("stake", _INT),
            _must("status", _text(_STATUS)),
            _may("payout", _INT),
            _must("seq", _INT),
            _must("placed_at_us", _INT),
            _may("settled_seq", _INT),
            _may("settled_at_us", _INT),
        )
        self.hold = self._table(
            HoldRow,
            _key("user_id", _text(_USER)),
            _key("hold_id", _text(_ID)),
            _must("asset", _text(_ASSET)),
            _must("amount", _INT),
            _must("status", _text(_STATUS)),
            _may("captured", _INT),
            _may("expires_at_us", _INT),
            _must("seq", _INT),
            _must("created_at_us", _INT),
            _may("resolved_seq", _INT),
            _may("resolved_at_us", _INT),
        )
        self.transfer = self._table(
            TransferRow,
            _key("user_id", _text(_USER)),
            _key("transfer_id", _text(_ID)),
            _must("to_user_id", _text(_USER)),
            _must("asset", _text(_ASSET)),
            _must("amount", _INT),
            _must("status", _text(_STATUS)),
            _may("reason", _text(_REASON)),
            _must("seq", _INT),
            _must("created_at_us", _INT),
            _may("resolved_at_us", _INT),
        )
        self.statistics = self._table(
            StatisticsRow,
            _key("user_id", _text(_USER)),
            _key("asset", _text(_ASSET)),
            _key("game", _text(_GAME)),
            _must("bets", _INT),
            _must("wins", _INT),
            _must("staked", _text(_SUM)),
            _must("settled_stake", _text(_SUM)),
            _must("paid_out", _text(_SUM)),
            _must("biggest_win", _INT),
            _must("deposits_count", _INT),
            _must("deposits", _text(_SUM)),
            _must("withdrawals_count", _INT),
            _must("withdrawals", _text(_SUM)),
            _must("bonuses_count", _INT),
            _must("bonuses", _text(_SUM)),
            _must("commissions_count", _INT),
            _must("commissions", _text(_SUM)),
        )
        self.standing = self._table(
            LeaderboardRow,
            _key("user_id", _text(_USER)),
            _key("asset", _text(_ASSET)),
            _key("day", Integer),
            *(_must(f"{measure}_{part}", _INT) for measure in ("staked", "won", "net") for part in ("high", "low")),
        )
        self.referral = self._table(
            ReferralRow, _key("user_id", _text(_USER)), _key("level", Integer), _must("members", _INT)
        )
        self.account = self._table(
            AccountRow,
            _key("account", _text(_USER)),
            _key("asset", _text(_ASSET)),
            _must("credited", _text(_SUM)),
            _must("debited", _text(_SUM)),
        )
        self.of: dict[type[Row], Table] = {
            WalletRow: self.wallet,
            AssetRow: self.asset,
            HistoryRow: self.history,
            OrderRow: self.orders,
            DepositRow: self.deposit,
            BetRow: self.bet,
            HoldRow: self.hold,
            TransferRow: self.transfer,
            StatisticsRow: self.statistics,
            LeaderboardRow: self.standing,
            ReferralRow: self.referral,
            AccountRow: self.account,
        }
        self.indexes = self._indexes()

    def _table(self, kind: type[Row], *columns: Column[Any]) -> Table:
        # SQLite keeps a row in its primary key's tree: one tree less to write, and a user's rows lie together.
        return Table(
            f"{kind.table}_g{self.generation}", self.metadata, _partition(), *columns, sqlite_with_rowid=False
        )

    def _indexes(self) -> tuple[Index, ...]:
        """Beside the primary keys: what lists are found by. Made after a rebuild has filled the tables."""
        history, bet, orders, hold = self.history.c, self.bet.c, self.orders.c, self.hold.c
        standing = self.standing.c
        lists = {
            "history_by_asset": (history.partition, history.user_id, history.asset, history.time_us, history.seq),
            "history_by_type": (history.partition, history.user_id, history.type, history.time_us, history.seq),
            "history_by_game": (history.partition, history.user_id, history.game, history.time_us, history.seq),
            "bet_by_time": (bet.partition, bet.user_id, bet.placed_at_us, bet.seq),
            "bet_by_status": (bet.partition, bet.user_id, bet.status, bet.placed_at_us, bet.seq),
            "bet_by_game": (bet.partition, bet.user_id, bet.game, bet.placed_at_us, bet.seq),
            "bet_by_period": (bet.partition, bet.user_id, bet.period, bet.placed_at_us, bet.seq),
            "hold_by_time": (hold.partition, hold.user_id, hold.created_at_us, hold.seq),
            "standing_by_day": (standing.asset, standing.day),
            "orders_by_time": (orders.created_at_us, orders.partition, orders.seq),
            "orders_by_status": (orders.status, orders.created_at_us, orders.partition, orders.seq),
            "orders_by_resolution": (orders.resolved_at_us,),
            "orders_by_kind": (orders.kind, orders.created_at_us, orders.partition, orders.seq),
        }
        return tuple(Index(f"{name}_g{self.generation}", *columns) for name, columns in lists.items())


COMMON: Final = MetaData()

GENERATION: Final = Table(
    "generation",
    COMMON,
    _key("generation", Integer),
    _must("fold_version", Integer),
    _must("status", _text(_STATUS)),  # building, live or retired
    _must("made_at_us", _INT),
)
CHECKPOINT: Final = Table(
    "checkpoint",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _must("seq", _INT),
    _must("head", _text(_SHA256)),
    _must("digests", _long_text()),
    sqlite_with_rowid=False,
)
QUARANTINE: Final = Table(
    "quarantine",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _key("user_id", _text(_USER)),
    _must("seq", _INT),  # the first event that is not in the user's rows
    _must("time_us", _INT),  # of that event
    _must("reason", _text(_REASON)),
    sqlite_with_rowid=False,
)
QUARANTINED_EVENT: Final = Table(
    "quarantined_event",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _key("user_id", _text(_USER)),
    _key("seq", _INT),
    _must("record", LargeBinary().with_variant(LargeBinary(_4_GIB), "mysql", "mariadb")),
    sqlite_with_rowid=False,
)
PROOF: Final = Table(
    "proof",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _must("seq", _INT),  # up to which the rows were held against the log
    _must("checked_at_us", _INT),
    _must("differences", _INT),
    sqlite_with_rowid=False,
)
DIFFERENCE: Final = Table(
    "difference",
    COMMON,
    _key("generation", Integer),
    _partition(),
    _key("place", _text(_USER)),  # the user, or the account
    _key("row_table", _text(_TYPE)),
    _key("row_key", _text(_REASON)),
    _key("field", _text(_TYPE)),
    _must("expected", _long_text()),
    _must("found", _long_text()),
    _must("found_at_us", _INT),
    sqlite_with_rowid=False,
)
