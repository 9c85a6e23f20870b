"""The types of responses. Amounts are integers in the asset's minor unit.

Written by `make schemas` from openapi.json: do not edit.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Adjustment(Struct, frozen=True, kw_only=True):
    """A correction of a wallet's cash that one actor proposes and another one decides."""

    user_id: str
    """The wallet's user"""

    adjustment_id: str
    """The adjustment's id, chosen by the client"""

    asset: str
    """The asset's code"""

    amount: int
    """What it adds to cash, in the asset's minor unit; below 0: takes"""

    reason: str
    """Why it was proposed"""

    status: str
    """Status of the adjustment"""

    proposed_by: str
    """The actor who proposed it"""

    resolved_by: str | None
    """The actor who approved or rejected it; null before"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    created_at_us: int
    """Unix time in microseconds, UTC"""

    resolved_at_us: int | None
    """When it was approved or rejected; null before"""


class Adjustments(Struct, frozen=True, kw_only=True):
    """One page of all users' proposed adjustments, newest first."""

    items: list[Adjustment]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOfSeveral


class AsOf(Struct, frozen=True, kw_only=True):
    """The position at which a response about one wallet is true. It includes this event of the wallet's
    partition, and all events before it.
    """

    position: str
    """`<partition>:<seq>`"""

    lag_ms: int
    """Age of the oldest known event that the response does not include, in milliseconds; 0: none"""

    suspect: bool = False
    """True if the background check found rows behind this response that differ from the log: the response may
    be wrong. Otherwise absent
    """


class AsOfSettings(Struct, frozen=True, kw_only=True):
    """A response that comes from the settings: it draws on no partition."""

    positions: list[str] = []
    """Always empty"""

    lag_ms: int = 0
    """Always 0"""


class AsOfSeveral(Struct, frozen=True, kw_only=True):
    """The positions at which a response about many wallets is true, one for each partition."""

    positions: list[str]
    """`<partition>:<seq>` of each partition"""

    lag_ms: int
    """Age of the oldest known event that the response does not include, in milliseconds; 0: none"""

    suspect: bool = False
    """True if the background check found rows behind this response that differ from the log: the response may
    be wrong. Otherwise absent
    """


class Available(Struct, frozen=True, kw_only=True):
    """What a wallet has of one asset, and what commands can take of it, in the asset's minor unit."""

    cash: int
    """Money to bet and to withdraw; below 0 where credit was bet"""

    bonus: int
    """Bonus money: to bet, not to withdraw"""

    held: int
    """Money in open holds and in withdrawals not approved yet"""

    available: int
    """What a bet can take: cash + credit_limit if above 0, and bonus"""

    withdrawable: int
    """What a withdrawal, hold or transfer can take: cash above 0"""


class Balance(Struct, frozen=True, kw_only=True):
    """A wallet's three buckets of one asset, in the asset's minor unit. Only `cash` may be negative, down to
    −credit_limit.
    """

    cash: int
    """Money to bet and to withdraw; below 0 where credit was bet"""

    bonus: int
    """Bonus money: to bet, not to withdraw"""

    held: int
    """Money in open holds and in withdrawals not approved yet"""


class BalanceAt(Struct, frozen=True, kw_only=True):
    """The buckets at a time; an asset is left out before its first event."""

    user_id: str
    """The wallet's user"""

    at_us: int
    """Every event up to this time is in the balances"""

    balances: dict[str, Buckets]
    """Asset to balance"""

    as_of: AsOf


class Bet(Struct, frozen=True, kw_only=True):
    """A bet. A bet with a payout above 0 is won, with a payout of 0 lost."""

    bet_id: str
    """The bet's id, chosen by the client"""

    game: str
    """The game"""

    period: str
    """The game's round"""

    selection: str
    """What the bet is on"""

    asset: str
    """The asset's code"""

    stake: int
    """The stake, in the asset's minor unit"""

    status: str
    """Status of the bet"""

    payout: int | None
    """The payout, in the asset's minor unit; null until it is settled"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    placed_at_us: int
    """Unix time in microseconds, UTC"""

    settled_position: str | None
    """Position of the settlement or cancellation"""

    settled_at_us: int | None
    """Time of the settlement or cancellation"""

    unpaid: int
    """What the bet should have paid beyond `payout`, in the asset's minor unit: the wallet had no room for it.
    The operator pays it with `adjust`; the bet still shows it afterwards
    """

    as_of: AsOf


class Bets(Struct, frozen=True, kw_only=True):
    """One page of a wallet's bets, newest first."""

    items: list[ListedBet]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOf


class BonusGrant(Struct, frozen=True, kw_only=True):
    """Bonus money that was given to a wallet."""

    grant_id: str
    """The grant's id; of a deposit's bonus the deposit's order_id; the ledger's own begin with `~`"""

    kind: str
    """`deposit`: the bonus of a deposit; `grant`: of `grant_bonus`; `attendance`: of `claim_attendance`;
    `gift`: the share of a gift; the others were granted by the ledger itself, by its rules
    """

    asset: str
    """The asset's code"""

    amount: int
    """What was granted, in the asset's minor unit"""

    remaining: int
    """What is left of it in the wallet's bonus; payouts of bets that used the grant are added to it. 0 once it
    is used up, expired or reversed
    """

    expires_at_us: int | None
    """When what is left expires; null: never"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    created_at_us: int
    """Unix time in microseconds, UTC"""


class BonusGrants(Struct, frozen=True, kw_only=True):
    """One page of a wallet's grants of bonus money, newest first."""

    items: list[BonusGrant]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOf


class Buckets(Struct, frozen=True, kw_only=True):
    """What a wallet has of one asset, in the asset's minor unit."""

    cash: int
    """Money to bet and to withdraw; below 0 where credit was bet"""

    bonus: int
    """Bonus money: to bet, not to withdraw"""

    held: int
    """Money in open holds and in withdrawals not approved yet"""


class Change(Struct, frozen=True, kw_only=True):
    """What an event added to each bucket of one asset, in the asset's minor unit; below 0 where it took."""

    cash: int
    """Amount in the asset's minor unit"""

    bonus: int
    """Amount in the asset's minor unit"""

    held: int
    """Amount in the asset's minor unit"""


class ChangedBet(Struct, frozen=True, kw_only=True):
    """A bet when it was placed, or when it was settled or cancelled, and whose it is."""

    bet_id: str
    """The bet's id, chosen by the client"""

    game: str
    """The game"""

    period: str
    """The game's round"""

    selection: str
    """What the bet is on"""

    asset: str
    """The asset's code"""

    stake: int
    """The stake, in the asset's minor unit"""

    status: str
    """Status of the bet"""

    payout: int | None
    """The payout, in the asset's minor unit; null until it is settled"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    placed_at_us: int
    """Unix time in microseconds, UTC"""

    settled_position: str | None
    """Position of the settlement or cancellation"""

    settled_at_us: int | None
    """Time of the settlement or cancellation"""

    unpaid: int
    """What the bet should have paid beyond `payout`, in the asset's minor unit: the wallet had no room for it.
    The operator pays it with `adjust`; the bet still shows it afterwards
    """

    user_id: str
    """The wallet's user"""


class Cohort(Struct, frozen=True, kw_only=True):
    """The wallets that were opened on one UTC day."""

    registered_us: int
    """Start of the day of registration"""

    wallets: int
    """Wallets that were opened on that day"""

    deposited: int
    """Those whose first deposit, on whatever day, was made in the asset"""

    days: list[CohortDay]
    """The days on which they staked or netted anything in the asset, the first one first"""


class CohortDay(Struct, frozen=True, kw_only=True):
    """What the wallets of a cohort bet on one UTC day."""

    day: int
    """0 for the day of registration, 1 for the next UTC day, and so on"""

    active: int
    """Wallets with a stake on this day that was not cancelled"""

    staked: int
    """Stakes of the bets placed on this day, without cancelled ones"""

    net: int
    """Payouts less their stakes, of the bets settled on this day"""


class Cohorts(Struct, frozen=True, kw_only=True):
    """The wallets by their UTC day of registration, the latest day first, and their bets in one asset. Days
    without registrations are left out.
    """

    asset: str
    """The asset's code"""

    from_us: int
    """Start of the first day of registration"""

    to_us: int
    """End of the last day of registration"""

    items: list[Cohort]

    as_of: AsOfSeveral


class CountAndAmount(Struct, frozen=True, kw_only=True):
    """How many, and how much in the asset's minor unit."""

    count: int = 0
    """How many"""

    amount: int = 0
    """Sum without an upper bound, in the asset's minor unit"""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """An event that was given up. `GET /v1/events/{position}` returns it."""

    position: str
    """Position of the event: `<partition>:<seq>`; it is the `webhook-id`"""

    user_id: str
    """The event's user, or a stream such as `game:wingo_1m`"""

    type: str
    """Type of the event"""

    time_us: int
    """Unix microseconds, UTC"""

    attempts: int
    """How often it was sent"""

    first_attempt_at_us: int
    """Unix microseconds, UTC. If an event before it of the same user was given up: of that one, or the time of
    this event, whichever is later
    """

    given_up_at_us: int
    """Unix microseconds, UTC"""

    error: str
    """Why the last attempt failed"""


class DeadLetters(Struct, frozen=True, kw_only=True):
    """A page of dead letters, by position."""

    items: list[DeadLetter]

    next_cursor: str | None
    """Leads to the next page; null: there is none"""


class FirstDeposit(Struct, frozen=True, kw_only=True):
    """The wallet's first deposit."""

    order_id: str
    """The deposit's order"""

    asset: str
    """The asset's code"""

    amount: int
    """Amount in the asset's minor unit"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    time_us: int
    """Unix time in microseconds, UTC"""


class GameStatistics(Struct, frozen=True, kw_only=True):
    """A user's sums in one asset and one game. Cancelled bets are not counted."""

    asset: str
    """The asset's code"""

    game: str
    """The game"""

    bets: int
    """Bets that were not cancelled, the open ones too"""

    wins: int
    """Bets with a payout above 0"""

    staked: int
    """Sum of the stakes, in the asset's minor unit"""

    paid_out: int
    """Sum of the payouts, in the asset's minor unit"""

    net: int
    """paid_out less the stakes of the settled bets, in the asset's minor unit"""

    biggest_win: int
    """The largest payout, in the asset's minor unit"""


class Games(Struct, frozen=True, kw_only=True):
    """All games that take bets, by name; `external` is the first."""

    items: list[ListedGame]

    as_of: AsOfSettings


class Gift(Struct, frozen=True, kw_only=True):
    """A gift, and how many of its shares are claimed."""

    code: str
    """The code"""

    asset: str
    """The asset's code"""

    amount: int
    """The whole gift, in the asset's minor unit"""

    claims: int
    """Into how many shares it is divided"""

    claimed: int
    """How many shares belong to a user"""

    status: str
    """Only an open gift grants shares. Of several reasons the first of closed, used_up, expired is named"""

    expires_at_us: int | None
    """It is expired from this time on; null: no expiry"""

    as_of: AsOf


class History(Struct, frozen=True, kw_only=True):
    """One page of a wallet's history, newest first."""

    items: list[HistoryItem]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOf


class HistoryItem(Struct, frozen=True, kw_only=True):
    """One event's effect on one asset of the wallet."""

    position: str
    """Position of the event"""

    time_us: int
    """Unix time in microseconds, UTC"""

    type: str
    """The event's type"""

    command_id: str
    """The command that caused the event"""

    asset: str
    """The asset's code"""

    game: str | None
    """The bet's game, also when it is settled or cancelled"""

    change: Change
    """What the event added to each bucket"""

    balances: Buckets
    """The buckets after the event"""

    data: dict[str, Any]


class Hold(Struct, frozen=True, kw_only=True):
    """Money set aside in a wallet until it is captured, released or expires."""

    hold_id: str
    """The hold's id, chosen by the client"""

    asset: str
    """The asset's code"""

    amount: int
    """The amount set aside, in the asset's minor unit"""

    status: str
    """Status of the hold"""

    captured: int | None
    """The captured amount, in the asset's minor unit; null unless the hold is captured"""

    expires_at_us: int | None
    """When the hold expires; null: never"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    created_at_us: int
    """Unix time in microseconds, UTC"""

    resolved_at_us: int | None
    """When the hold was captured, released or expired"""

    as_of: AsOf


class Holds(Struct, frozen=True, kw_only=True):
    """One page of a wallet's holds, newest first."""

    items: list[ListedHold]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOf


class House(Struct, frozen=True, kw_only=True):
    """What the games took in and gave out in one asset: the latest first, then by game. Hours without any money
    are left out.
    """

    items: list[HouseItem]

    warnings: list[HouseWarning]
    """The games in which commissions and bonuses can cost more than the game wins"""

    as_of: AsOfSeveral


class HouseItem(Struct, frozen=True, kw_only=True):
    """An hour or a day of a game, or of the money that no game moved."""

    from_us: int
    """Start of the hour or day"""

    game: str | None
    """Null: the money that no game moved"""

    bets: int
    """Bets placed then that were not cancelled"""

    staked: int
    """Their stakes, with their fees"""

    paid_out: int
    """Their payouts, whenever they were settled"""

    fees: int
    """Their fees, a part of `staked`"""

    commissions: int
    """Commissions paid then"""

    bonuses: int
    """Bonuses and gifts given then, less what expired or was reversed then"""

    edge_ppm: int | None
    """(staked − paid_out) ÷ staked in parts per million, rounded down; an open bet counts as lost. Null without
    a stake
    """

    expected_edge_ppm: int | None
    """The edge on average: with what each bet pays on average by its pay table in place of what it paid. Null
    for `external`, and without a stake
    """


class HouseWarning(Struct, frozen=True, kw_only=True):
    """A game in which commissions and bonuses, by the present rules, can cost more of a stake than the game
    wins.
    """

    game: str
    """The game"""

    leg: str
    """The game's worst leg: the one of which the house wins least"""

    edge_ppm: int
    """What the house wins of a stake on it on average, rounded down"""

    commissions_ppm: int
    """What commissions cost of a stake at most, rounded up"""

    bonuses_ppm: int | None
    """An upper bound of what bonuses cost of a stake, as if each were lost in full, rounded up; null: without a
    limit
    """

    message: str
    """The same for a person, and what to change in the rules"""


class Leader(Struct, frozen=True, kw_only=True):
    """A user on a leaderboard."""

    rank: int
    """1 for the largest value"""

    user_id: str
    """The wallet's user"""

    value: int
    """The user's sum, in the asset's minor unit; never 0"""


class Leaderboard(Struct, frozen=True, kw_only=True):
    """The users with the largest sums of a day, an ISO week or a month (UTC), largest first, ties by user_id.
    Users whose sum is 0 are left out.
    """

    name: str
    """What is summed, and over how long"""

    asset: str
    """The asset's code"""

    from_us: int
    """Start of the period, included"""

    to_us: int
    """End of the period, not included"""

    items: list[Leader]

    as_of: AsOfSeveral


class Level(Struct, frozen=True, kw_only=True):
    """How many members a referrer has at one level."""

    level: int
    """1 for direct members"""

    members: int
    """Wallets opened at this level"""


class Limits(Struct, frozen=True, kw_only=True):
    """A wallet's limits for one asset, in the asset's minor unit."""

    credit_limit: int
    """How far bets may take cash below 0"""

    balance_max: int | None
    """Upper bound of cash + bonus + held; null: no limit"""

    stake_max_per_day: int | None
    """Upper bound of the stakes of one UTC day; null: no limit"""

    withdrawal_max_per_day: int | None
    """Upper bound of the withdrawals of one UTC day; null: no limit"""


class ListedBet(Struct, frozen=True, kw_only=True):
    """A bet. A bet with a payout above 0 is won, with a payout of 0 lost."""

    bet_id: str
    """The bet's id, chosen by the client"""

    game: str
    """The game"""

    period: str
    """The game's round"""

    selection: str
    """What the bet is on"""

    asset: str
    """The asset's code"""

    stake: int
    """The stake, in the asset's minor unit"""

    status: str
    """Status of the bet"""

    payout: int | None
    """The payout, in the asset's minor unit; null until it is settled"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    placed_at_us: int
    """Unix time in microseconds, UTC"""

    settled_position: str | None
    """Position of the settlement or cancellation"""

    settled_at_us: int | None
    """Time of the settlement or cancellation"""

    unpaid: int
    """What the bet should have paid beyond `payout`, in the asset's minor unit: the wallet had no room for it.
    The operator pays it with `adjust`; the bet still shows it afterwards
    """


class ListedClient(Struct, frozen=True, kw_only=True):
    """A client."""

    client_id: str
    """The client's id, spelled like a user_id; it is the `actor` of its events"""

    role: str
    """What it may do"""

    games: list[str] | None
    """The only games whose bets and results it may post; null: all"""

    types: list[str] | None
    """The only types of commands that it may post; null: all that its role may"""

    public_key: str | None
    """The client's Ed25519 key, as `openssl pkey -pubout` writes it, without its first and last line: it must
    sign each request that is not `GET` or `HEAD`; null: it need not
    """

    created_at_us: int
    """Unix microseconds, UTC"""

    secret_since_us: int
    """Unix microseconds, UTC"""

    old_secret_until_us: int | None
    """Until then the secret before is valid; null: it is not"""

    disabled_at_us: int | None
    """Null: it is not disabled"""


class ListedClients(Struct, frozen=True, kw_only=True):
    """All clients, disabled ones too, by id."""

    items: list[ListedClient]


class ListedGame(Struct, frozen=True, kw_only=True):
    """A game that takes bets."""

    game: str
    """The name of the game"""

    rules: str | None
    """SHA-256, in hex, of the rules that its bets are taken under now, as in `bet_placed`; null for `external`,
    whose rules the game server keeps
    """

    length_s: int | None
    """The length of its periods; null for `external`"""


class ListedHold(Struct, frozen=True, kw_only=True):
    """Money set aside in a wallet until it is captured, released or expires."""

    hold_id: str
    """The hold's id, chosen by the client"""

    asset: str
    """The asset's code"""

    amount: int
    """The amount set aside, in the asset's minor unit"""

    status: str
    """Status of the hold"""

    captured: int | None
    """The captured amount, in the asset's minor unit; null unless the hold is captured"""

    expires_at_us: int | None
    """When the hold expires; null: never"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    created_at_us: int
    """Unix time in microseconds, UTC"""

    resolved_at_us: int | None
    """When the hold was captured, released or expired"""


class ListedOrder(Struct, frozen=True, kw_only=True):
    """A deposit or a withdrawal."""

    user_id: str
    """The wallet's user"""

    order_id: str
    """The order's id, chosen by the client"""

    kind: str
    """Deposit or withdrawal"""

    asset: str
    """The asset's code"""

    amount: int
    """Amount in the asset's minor unit"""

    bonus: int
    """The deposit's bonus, in the asset's minor unit; 0 for withdrawals"""

    status: str
    """Deposits are completed or reversed; only withdrawals are pending"""

    reason: str | None
    """As given by who resolved the order"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    created_at_us: int
    """Unix time in microseconds, UTC"""

    resolved_at_us: int | None
    """When the order got its status; null while pending"""


class ListedPeriod(Struct, frozen=True, kw_only=True):
    """A period of a game: its times, its bets, and how it ended. Cancelled bets count nowhere."""

    game: str
    """The game"""

    period: str
    """Its start in UTC"""

    issue: str
    """The number that players are shown"""

    starts_at_us: int
    """Unix time in microseconds, UTC"""

    closes_at_us: int
    """When it stops taking bets, by the game's present rules"""

    ends_at_us: int
    """Unix time in microseconds, UTC"""

    status: str
    """By the clock `open`, then `closed`. Once the result is recorded, or the period is cancelled: `settling`
    while bets of it are open, then `settled` or `cancelled`
    """

    result: str | None
    """The result; null while there is none"""

    proof: Proof | None
    """The block of the result, if it came with one"""

    open_bets: int
    """Bets that are not settled"""

    settled_bets: int
    """Bets that are settled"""

    staked: dict[str, int]
    """Asset to the sum of the stakes, in its minor unit"""

    paid_out: dict[str, int]
    """Asset to the sum of the payouts, in its minor unit"""


class ListedSentTransfer(Struct, frozen=True, kw_only=True):
    """A transfer, as it is in its sender's wallet."""

    transfer_id: str
    """The transfer's id, chosen by the client"""

    to_user_id: str
    """The receiver"""

    asset: str
    """The asset's code"""

    amount: int
    """Amount in the asset's minor unit"""

    status: str
    """A transfer that the receiver's wallet refuses is returned"""

    reason: str | None
    """The code for which the transfer was returned"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    created_at_us: int
    """Unix time in microseconds, UTC"""

    resolved_at_us: int | None
    """When the transfer was delivered or returned"""


class ListedWallet(Struct, frozen=True, kw_only=True):
    """A wallet. An asset appears once it was moved or limited."""

    user_id: str
    """The wallet's user"""

    status: str
    """Frozen: no bets and no withdrawals; closed: no commands at all"""

    opened_at_us: int
    """Unix time in microseconds, UTC"""

    referrer_id: str | None
    """The referrer: as named when the wallet was opened, or the owner of the code that was given"""

    balances: dict[str, Available]
    """Asset to balance"""

    limits: dict[str, Limits]
    """Asset to limits"""

    first_deposit: FirstDeposit | None
    """null before the first deposit"""

    wagering: dict[str, Wagering] | None = None
    """Asset to wagering; absent unless a deposit or a bonus had to be staked by the rules"""


class ListedWebhook(Struct, frozen=True, kw_only=True):
    """A webhook, and how far it got."""

    webhook_id: str
    """The webhook's id"""

    url: str
    """Where events are posted: `https://…`, to a public address. `STAKELOG_WEBHOOK_NETWORKS` allows private
    networks, and there `http://…` too
    """

    types: list[str] | None
    """The types of the events that it gets; null: all"""

    give_up_s: int
    """An event that was not delivered so many seconds after its first attempt becomes a dead letter; 0: after
    one attempt
    """

    enabled: bool
    """False: nothing is sent; what comes meanwhile is sent later"""

    created_at_us: int
    """Unix microseconds, UTC"""

    waiting: int
    """Events that failed and are tried again, and those behind them"""

    dead_letters: int
    """Events that were given up"""

    cursors: list[str]
    """For each partition: every event up to here was delivered, is of another type, waits, or is a dead letter
    """


class Mover(Struct, frozen=True, kw_only=True):
    """A user who won or lost money on the day."""

    rank: int
    """1 for the largest win or loss"""

    user_id: str
    """The wallet's user"""

    net: int
    """Payouts less their stakes, in the asset's minor unit; below 0 for a loss"""


class Movers(Struct, frozen=True, kw_only=True):
    """The users with the largest net win and with the largest net loss of a UTC day: the largest first, ties by
    user_id.
    """

    asset: str
    """The asset's code"""

    from_us: int
    """Start of the day, included"""

    to_us: int
    """End of the day, not included"""

    won: list[Mover]
    """Users whose net is above 0"""

    lost: list[Mover]
    """Users whose net is below 0"""

    as_of: AsOfSeveral


class Order(Struct, frozen=True, kw_only=True):
    """A deposit or a withdrawal."""

    user_id: str
    """The wallet's user"""

    order_id: str
    """The order's id, chosen by the client"""

    kind: str
    """Deposit or withdrawal"""

    asset: str
    """The asset's code"""

    amount: int
    """Amount in the asset's minor unit"""

    bonus: int
    """The deposit's bonus, in the asset's minor unit; 0 for withdrawals"""

    status: str
    """Deposits are completed or reversed; only withdrawals are pending"""

    reason: str | None
    """As given by who resolved the order"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    created_at_us: int
    """Unix time in microseconds, UTC"""

    resolved_at_us: int | None
    """When the order got its status; null while pending"""

    as_of: AsOf


class Orders(Struct, frozen=True, kw_only=True):
    """One page of all users' orders, newest first."""

    items: list[ListedOrder]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOfSeveral


class Outcome(Struct, frozen=True, kw_only=True):
    """How a period ended: its result, or that it was cancelled. Its bets may still be open."""

    game: str
    """The game"""

    period: str
    """Its start in UTC"""

    result: str | None
    """The result; null where it was cancelled"""

    cancelled: bool
    """Whether it was cancelled, and its stakes return"""

    proof: Proof | None
    """The block of the result, if it came with one"""

    position: str
    """Position of the event"""


class OwnedCode(Struct, frozen=True, kw_only=True):
    """A referral code and its owner."""

    code: str
    """The code"""

    user_id: str
    """The owner of the code"""

    as_of: AsOf


class PartitionEnd(Struct, frozen=True, kw_only=True):
    """Where a partition ends, and which node owns it."""

    partition: int
    """The partition of the wallet's user"""

    seq: int
    """Seq of the last record; 0: none"""

    head: str
    """SHA-256 of the last record; 64 zeros: none"""

    owner: str | None
    """The node that owns the partition, by the address it advertises; null: no node"""


class Partitions(Struct, frozen=True, kw_only=True):
    """All partitions of the log."""

    items: list[PartitionEnd]
    """In their order"""


class Period(Struct, frozen=True, kw_only=True):
    """A period of a game, with what was bet on each selection."""

    game: str
    """The game"""

    period: str
    """Its start in UTC"""

    issue: str
    """The number that players are shown"""

    starts_at_us: int
    """Unix time in microseconds, UTC"""

    closes_at_us: int
    """When it stops taking bets, by the game's present rules"""

    ends_at_us: int
    """Unix time in microseconds, UTC"""

    status: str
    """By the clock `open`, then `closed`. Once the result is recorded, or the period is cancelled: `settling`
    while bets of it are open, then `settled` or `cancelled`
    """

    result: str | None
    """The result; null while there is none"""

    proof: Proof | None
    """The block of the result, if it came with one"""

    open_bets: int
    """Bets that are not settled"""

    settled_bets: int
    """Bets that are settled"""

    staked: dict[str, int]
    """Asset to the sum of the stakes, in its minor unit"""

    paid_out: dict[str, int]
    """Asset to the sum of the payouts, in its minor unit"""

    distribution: list[Selected]
    """By selection and asset"""

    as_of: AsOfSeveral


class Periods(Struct, frozen=True, kw_only=True):
    """One page of a game's periods, the latest first: those with a bet, a result or a cancellation."""

    items: list[ListedPeriod]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOfSeveral


class Proof(Struct, frozen=True, kw_only=True):
    """The block that a result was drawn from: 64 hexadecimal digits, the height, the time. The rules of games
    check the values, so that what is wrong with them is an `invalid_result`.
    """

    hash: str
    """The block's hash, in hex. Its last decimal digit is the result of TrxWix"""

    height: int
    """The block's height"""

    time_us: int
    """The block's time, Unix microseconds, UTC; for TrxWix not before the period's end"""


class Receipt(Struct, frozen=True, kw_only=True):
    """A proof that the ledger had this record, for one who has the public keys and nothing else."""

    record: str
    """The event's record, byte for byte, as text"""

    head: str
    """SHA-256 of the record"""

    partition: int
    """The event's partition"""

    seq: int
    """The event's seq"""

    signed_at_us: int
    """When it was signed: Unix microseconds, UTC"""

    kid: str
    """The key at `/.well-known/jwks.json`"""

    signature: str
    """Ed25519 over the UTF-8 text `stakelog-receipt:<partition>:<seq>:<head>:<signed_at_us>`, base64url without
    padding
    """


class Referrals(Struct, frozen=True, kw_only=True):
    """A wallet's referrer, members and commissions."""

    user_id: str
    """The wallet's user"""

    referrer_id: str | None
    """The referrer, as named when the wallet was opened"""

    direct_count: int
    """Members of level 1"""

    levels: list[Level]
    """All levels, the lowest first"""

    commissions: dict[str, int]
    """Asset to the commissions paid, over all levels"""

    as_of: AsOf


class Result(Struct, frozen=True, kw_only=True):
    """The event that an accepted command became."""

    position: str
    """Position of the event: `<partition>:<seq>`"""

    partition: int
    """The partition of the wallet's user"""

    seq: int
    """Place of the event in its partition: 1, 2, 3 … without gaps"""

    time_us: int
    """Unix time of the event in microseconds, UTC"""

    type: str
    """Type of the event"""

    data: dict[str, Any]
    """Data of the event: the fields of the command, and what the decision added"""

    balances: dict[str, Balance]
    """The wallet after the event, for each asset that the event moved"""

    head: str
    """SHA-256 of the event's record"""


class Seal(Struct, frozen=True, kw_only=True):
    """Where every partition ended at a time, chained to the seal before."""

    sealed_at_us: int
    """Unix time in microseconds, UTC"""

    partitions: list[SealedHead]
    """All partitions, in their order"""

    prev: str
    """SHA-256 of the seal before; 64 zeros: none"""

    kid: str | None = None
    """The key at `/.well-known/jwks.json`; null: the seal is not signed"""

    signature: str | None = None
    """Ed25519 over the UTF-8 text `stakelog-seal:` and the seal as in the file, with
    `"kid":null,"signature":null`; base64url without padding. null: the seal is not signed
    """


class SealedHead(Struct, frozen=True, kw_only=True):
    """Where a partition ended when the seal was made."""

    partition: int
    """The partition"""

    seq: int
    """Seq of its last record; 0: none"""

    head: str
    """SHA-256 of its last record; 64 zeros: none"""


class Seals(Struct, frozen=True, kw_only=True):
    """A page of the seals of the log."""

    items: list[Seal]
    """The newest first"""

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""


class Selected(Struct, frozen=True, kw_only=True):
    """The bets on one selection in one asset."""

    selection: str
    """The selection, as the bets have it"""

    asset: str
    """The asset's code"""

    bets: int
    """Bets on it that were not cancelled"""

    staked: int
    """Sum of their stakes, in the asset's minor unit"""


class SentTransfer(Struct, frozen=True, kw_only=True):
    """A transfer, as it is in its sender's wallet."""

    transfer_id: str
    """The transfer's id, chosen by the client"""

    to_user_id: str
    """The receiver"""

    asset: str
    """The asset's code"""

    amount: int
    """Amount in the asset's minor unit"""

    status: str
    """A transfer that the receiver's wallet refuses is returned"""

    reason: str | None
    """The code for which the transfer was returned"""

    position: str
    """Position of the first event, <partition>:<seq>"""

    created_at_us: int
    """Unix time in microseconds, UTC"""

    resolved_at_us: int | None
    """When the transfer was delivered or returned"""

    as_of: AsOf


class Statistics(Struct, frozen=True, kw_only=True):
    """What a user bet, paid in, was paid out and was given. What was reversed or cancelled is not counted."""

    user_id: str
    """The wallet's user"""

    games: list[GameStatistics]
    """By asset and game"""

    totals: list[Totals]
    """By asset"""

    as_of: AsOf


class Totals(Struct, frozen=True, kw_only=True):
    """A user's sums in one asset, over all games."""

    asset: str
    """The asset's code"""

    bets: int
    """Bets that were not cancelled, the open ones too"""

    wins: int
    """Bets with a payout above 0"""

    staked: int
    """Sum of the stakes, in the asset's minor unit"""

    paid_out: int
    """Sum of the payouts, in the asset's minor unit"""

    net: int
    """paid_out less the stakes of the settled bets, in the asset's minor unit"""

    biggest_win: int
    """The largest payout, in the asset's minor unit"""

    deposits: CountAndAmount
    """Deposits without their bonuses"""

    withdrawals: CountAndAmount
    """Approved withdrawals"""

    bonuses: CountAndAmount
    """Bonuses of deposits, and granted bonuses"""

    commissions: CountAndAmount
    """Commissions paid to the user, those above 0"""


class Transfers(Struct, frozen=True, kw_only=True):
    """One page of the transfers that a wallet sent, newest first."""

    items: list[ListedSentTransfer]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOf


class Wagering(Struct, frozen=True, kw_only=True):
    """What must be staked of an asset before a withdrawal, in the asset's minor unit."""

    required: int
    """What must be staked in this window"""

    done: int
    """What was staked in this window; it may exceed what is required"""

    remaining: int
    """What is still to be staked"""


class Wallet(Struct, frozen=True, kw_only=True):
    """A wallet. An asset appears once it was moved or limited."""

    user_id: str
    """The wallet's user"""

    status: str
    """Frozen: no bets and no withdrawals; closed: no commands at all"""

    opened_at_us: int
    """Unix time in microseconds, UTC"""

    referrer_id: str | None
    """The referrer: as named when the wallet was opened, or the owner of the code that was given"""

    balances: dict[str, Available]
    """Asset to balance"""

    limits: dict[str, Limits]
    """Asset to limits"""

    first_deposit: FirstDeposit | None
    """null before the first deposit"""

    as_of: AsOf

    wagering: dict[str, Wagering] | None = None
    """Asset to wagering; absent unless a deposit or a bonus had to be staked by the rules"""


class Wallets(Struct, frozen=True, kw_only=True):
    """One page of wallets, newest first."""

    items: list[ListedWallet]

    next_cursor: str | None
    """The `cursor` of the next page; null at the end of the list"""

    as_of: AsOfSeveral


class Webhooks(Struct, frozen=True, kw_only=True):
    """All webhooks, by time of creation."""

    items: list[ListedWebhook]
