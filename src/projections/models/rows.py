"""The rows of the read model: one Struct per table, its members in the order of the table's columns.

Truths:
(1) a row belongs to one partition, which stands before its members in the table and in no other place;
(2) the first ``key_length`` members are the row's key inside its partition;
(3) members are integers, texts or None only, so that a row is the same value on every database;
(4) ``digest_of`` of a row depends on its table and its members alone. The digest of many rows is the sum of theirs
    modulo 2^128: it does not depend on their order, and a changed row changes it by a difference.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, ClassVar, Final

import msgspec
from msgspec import Struct

Key = tuple[Any, ...]

DIGEST_BITS: Final = 128
_DIGEST_MASK: Final = (1 << DIGEST_BITS) - 1


class Row(Struct, array_like=True, gc=False):
    """Base of all rows. Treated as a value by everybody but the shelf that holds it."""

    table: ClassVar[str]
    key_length: ClassVar[int]


class WalletRow(Row):
    """``status`` is ``none`` until the wallet is opened, whatever came before."""

    table = "wallet"
    key_length = 1

    user_id: str
    status: str = "none"
    opened_at_us: int | None = None
    referrer_id: str | None = None
    first_order_id: str | None = None
    first_asset: str | None = None
    first_amount: int | None = None
    first_position: str | None = None
    first_time_us: int | None = None


class AssetRow(Row):
    """A wallet's buckets and limits of one asset, in minor units; there is one from the first event that moved or
    limited the asset, at ``since_us``. A limit of None is no limit."""

    table = "asset"
    key_length = 2

    user_id: str
    asset: str
    since_us: int
    cash: int = 0
    bonus: int = 0
    held: int = 0
    credit_limit: int = 0
    balance_max: int | None = None
    stake_max_per_day: int | None = None
    withdrawal_max_per_day: int | None = None


class HistoryRow(Row):
    """One event's effect on one asset of its wallet; ``data`` is the event's, as JSON."""

    table = "history"
    key_length = 4

    user_id: str
    time_us: int
    seq: int
    asset: str
    type: str
    command_id: str
    game: str | None
    cash_change: int
    bonus_change: int
    held_change: int
    cash: int
    bonus: int
    held: int
    data: str


class OrderRow(Row):
    """``seq`` is the order's first event; ``resolved_seq`` the event that approved, rejected or reversed it."""

    table = "orders"
    key_length = 2

    user_id: str
    order_id: str
    kind: str
    asset: str
    amount: int
    bonus: int
    status: str
    reason: str | None
    seq: int
    created_at_us: int
    resolved_seq: int | None
    resolved_at_us: int | None


class DepositRow(Row):
    """The order that the event at ``seq`` made: a reversal names its event, not its order."""

    table = "deposit"
    key_length = 1

    seq: int
    order_id: str


class BetRow(Row):
    table = "bet"
    key_length = 2

    user_id: str
    bet_id: str
    game: str
    period: str
    selection: str
    asset: str
    stake: int
    status: str
    payout: int | None
    seq: int
    placed_at_us: int
    settled_seq: int | None
    settled_at_us: int | None


class HoldRow(Row):
    table = "hold"
    key_length = 2

    user_id: str
    hold_id: str
    asset: str
    amount: int
    status: str
    captured: int | None
    expires_at_us: int | None
    seq: int
    created_at_us: int
    resolved_seq: int | None
    resolved_at_us: int | None


class TransferRow(Row):
    """In the sender's wallet."""

    table = "transfer"
    key_length = 2

    user_id: str
    transfer_id: str
    to_user_id: str
    asset: str
    amount: int
    status: str
    reason: str | None
    seq: int
    created_at_us: int
    resolved_at_us: int | None


class StatisticsRow(Row):
    """A user's sums in one asset, of one game; under ``game`` "" what no game has part in.

    ``bets`` and ``staked`` are of the bets that are not cancelled, ``settled_stake`` of the settled ones. Amounts add
    up over all time, beyond every integer of a database: sums are decimal texts.
    """

    table = "statistics"
    key_length = 3

    user_id: str
    asset: str
    game: str
    bets: int = 0
    wins: int = 0
    staked: str = "0"
    settled_stake: str = "0"
    paid_out: str = "0"
    biggest_win: int = 0
    deposits_count: int = 0
    deposits: str = "0"
    withdrawals_count: int = 0
    withdrawals: str = "0"
    bonuses_count: int = 0
    bonuses: str = "0"
    commissions_count: int = 0
    commissions: str = "0"


LOW_BITS: Final = 48
LOW_MASK: Final = (1 << LOW_BITS) - 1


class LeaderboardRow(Row):
    """A user's bets of one UTC day (days since 1970) in one asset: what leaderboards are added up from.

    ``staked`` counts on the day of the bet, ``won`` (payouts) and ``net`` (payouts less their stakes) on the day of
    the settlement. Databases add these up and sort by them, which no text can be, and a thousand largest stakes are
    beyond 64 bits: so a sum is high × 2^48 + low, 0 ≤ low < 2^48.
    """

    table = "standing"
    key_length = 3

    user_id: str
    asset: str
    day: int
    staked_high: int = 0
    staked_low: int = 0
    won_high: int = 0
    won_low: int = 0
    net_high: int = 0
    net_low: int = 0


class ReferralRow(Row):
    """How many members opened a wallet ``level`` steps below."""

    table = "referral"
    key_length = 2

    user_id: str
    level: int
    members: int = 0


class AccountRow(Row):
    """What one account of a partition took in and gave out, in minor units.

    Accounts are ``house/…``, ``transit/…``, and ``wallet/cash|bonus|held`` for all wallets of the partition together.
    Sums are decimal texts, as in statistics: house accounts have no bound.
    """

    table = "account"
    key_length = 2

    account: str
    asset: str
    credited: str = "0"
    debited: str = "0"


ROW_TYPES: Final[tuple[type[Row], ...]] = (
    WalletRow,
    AssetRow,
    HistoryRow,
    OrderRow,
    DepositRow,
    BetRow,
    HoldRow,
    TransferRow,
    StatisticsRow,
    LeaderboardRow,
    ReferralRow,
    AccountRow,
)

BY_USER: Final[tuple[type[Row], ...]] = tuple(kind for kind in ROW_TYPES if kind.__struct_fields__[0] == "user_id")
"""The tables whose rows are each of one user, whose id is the first member."""

WHOLE: Final[tuple[type[Row], ...]] = tuple(kind for kind in ROW_TYPES if kind not in BY_USER)
"""The tables whose rows are the partition's."""

_encode = msgspec.msgpack.encode


def key_of(row: Row) -> Key:
    """The row's key inside its partition."""
    return msgspec.structs.astuple(row)[: row.key_length]


def plus(total: str, amount: int) -> str:
    """A sum as a decimal text, and ``amount`` added to it."""
    return str(int(total) + amount)


def digest_function(table: str) -> Callable[[Row | list[Any]], int]:
    """``digest_of`` for one table: a row, or its members as a list, → an integer below 2^128."""
    start = blake2b(digest_size=DIGEST_BITS // 8, person=table.encode()).copy

    def digest_of(row: Row | list[Any]) -> int:
        state = start()
        state.update(_encode(row))
        return int.from_bytes(state.digest(), "little")

    return digest_of


DIGEST_OF: Final = {kind.table: digest_function(kind.table) for kind in ROW_TYPES}


def add_digests(one: int, other: int) -> int:
    """The digest of both together; subtract by adding a negative one."""
    return (one + other) & _DIGEST_MASK
