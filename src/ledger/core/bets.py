"""Bets and the periods of games: what may be bet, settled, cancelled and recorded, and the event that it makes.

The bets of ``external`` are paid by the game server. Those of a game with rules are taken under a table of odds,
whose digest is on their event, and are settled by the outcome of their period (``settlement``).

Invariants:
(1) a bet is taken only between the start of its period and its close, by the time of its event;
(2) a period has one outcome: a result or a cancellation, recorded at the earliest ``RESULT_AFTER_US`` after its end;
(3) the stake of a game's bet is split between house/stakes and house/fees; a return takes it back from both.
"""

from typing import NamedTuple

from ledger.core.bet_events import (
    BetCancelled,
    BetPlaced,
    BetSettled,
    PeriodCancelled,
    ResultRecorded,
    StakeSource,
)
from ledger.core.case import (
    LISTED_MAX,
    Case,
    Decision,
    already_resolved,
    event_of,
    formatted,
    not_found,
    out_of_range,
    reused,
    total_out_of_range,
    unknown_asset,
)
from ledger.core.commands import CancelBet, CancelPeriod, PlaceBet, RecordResult, SettleBet
from ledger.core.commissions import terms_of
from ledger.core.events import (
    HOUSE_FEES,
    HOUSE_PAYOUTS,
    HOUSE_STAKES,
    Balance,
    Posting,
)
from ledger.core.fields import GAME_STREAM
from ledger.core.games.catalog import KINDS
from ledger.core.games.payout import fee_of, legs_of
from ledger.core.games.periods import RESULT_AFTER_US
from ledger.core.games.rules import EXTERNAL_GAME, Game, Span, span_of
from ledger.core.items import Bet, Outcome, bet_key, period_key, split_payout
from ledger.core.money import AMOUNT_MAX, in_bounds, is_amount
from ledger.core.postings import balances_with, draw_on_grants, owned_or_due, pay, return_stake
from ledger.core.rejections import Code, Rejection
from ledger.core.wallet import DAY_US, balance_of, day_count, limits_of


class Entry(NamedTuple):
    """A bet of a game with rules that may be taken now, as far as its game, period and selection are concerned."""

    game: Game
    span: Span
    legs: int


def place_bet(case: Case, command: PlaceBet) -> Decision:
    wallet, asset, stake = case.wallet, command.asset, command.stake
    entry: Entry | None = None
    if command.game != EXTERNAL_GAME:
        entered = _entry(case, command)
        if isinstance(entered, Rejection):
            return entered
        entry = entered
    bet = case.items[bet_key(command.bet_id)]
    if bet is not None:
        assert isinstance(bet, Bet), bet
        if bet.status == "cancelled_before":
            return Rejection(
                Code.BET_CANCELLED_BEFORE,
                f"the bet {command.bet_id} was cancelled before it came",
                {"bet_id": command.bet_id},
            )
        return reused(Code.BET_ID_REUSED, "bet_id", command.bet_id)
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(stake):
        return out_of_range(case, "stake", asset, stake)
    if entry is not None and (refusal := _outside_of_table(case, command, entry)):
        return refusal
    limits = limits_of(wallet, asset)
    if limits.stake_max_per_day is not None:
        staked = day_count(wallet, asset, case.time_us // DAY_US).staked
        if staked + stake > limits.stake_max_per_day:
            return Rejection(
                Code.STAKE_MAX_EXCEEDED,
                f"{formatted(case, asset, staked)} of {formatted(case, asset, limits.stake_max_per_day)} "
                "were staked today",
                {"stake_max_per_day": limits.stake_max_per_day, "staked_today": staked},
            )
    before = balance_of(wallet, asset)
    cash = max(before.cash, 0)
    credit = max(limits.credit_limit + min(before.cash, 0), 0)
    available = cash + before.bonus + credit
    if stake > available:
        code = Code.CREDIT_LIMIT_EXCEEDED if limits.credit_limit > 0 else Code.INSUFFICIENT_FUNDS
        detail = f"the stake is {formatted(case, asset, stake)}, {formatted(case, asset, available)} can be taken"
        return Rejection(code, detail, {"available": available})
    if command.spend == "bonus_first":
        from_bonus = min(before.bonus, stake)
    else:
        from_bonus = min(before.bonus, stake - min(cash, stake))
    from_cash = stake - from_bonus
    fee = None if entry is None else fee_of(entry.game.table, stake, entry.legs)
    postings: tuple[Posting, ...] = ((HOUSE_STAKES, asset, stake),) if not fee else _with_fee(asset, stake, fee)
    if from_bonus:
        postings = ((f"wallet/{wallet.user_id}/bonus", asset, -from_bonus), *postings)
    if from_cash:
        postings = ((f"wallet/{wallet.user_id}/cash", asset, -from_cash), *postings)
    return event_of(
        case,
        BetPlaced(
            asset=asset,
            bet_id=command.bet_id,
            fee=fee,
            source=StakeSource(from_bonus, from_cash, draw_on_grants(wallet, asset, from_bonus)),
            game=command.game,
            metadata=command.metadata,
            period=command.period,
            rules=None if entry is None else entry.game.digest,
            selection=command.selection,
            spend=command.spend,
            stake=stake,
        ),
        postings,
        {asset: Balance(before.cash - from_cash, before.bonus - from_bonus, before.held)},
    )


def _with_fee(asset: str, stake: int, fee: int) -> tuple[Posting, ...]:
    fees: Posting = (HOUSE_FEES, asset, fee)
    return (fees,) if fee == stake else ((HOUSE_STAKES, asset, stake - fee), fees)


def settle_bet(case: Case, command: SettleBet) -> Decision:
    wallet, payout = case.wallet, command.payout
    bet = case.items[bet_key(command.bet_id)]
    if bet is None:
        return not_found(Code.BET_NOT_FOUND, "bet_id", command.bet_id)
    assert isinstance(bet, Bet), bet
    if bet.status != "open":
        return already_resolved("bet", command.bet_id, bet.status)
    if bet.of_game is not None:
        return _settled_by_result(command.bet_id, bet)
    asset = bet.asset
    if not 0 <= payout <= AMOUNT_MAX:
        return out_of_range(case, "payout", asset, payout)
    if not in_bounds(owned_or_due(wallet, asset) - bet.stake + payout):
        return total_out_of_range(case, asset)
    terms = terms_of(wallet, asset, case.rules, case.time_us)
    data = BetSettled(
        bet_id=command.bet_id,
        commission_at_us=None if terms is None else terms.due_at_us,
        commission_rules=None if terms is None else terms.rules,
        metadata=command.metadata,
        payout=payout,
    )
    if payout == 0:
        return event_of(case, data)
    to_cash, to_bonus = split_payout(bet, payout)
    return event_of(
        case,
        data,
        pay(wallet.user_id, HOUSE_PAYOUTS, asset, to_cash, to_bonus),
        balances_with(wallet, asset, to_cash, to_bonus),
    )


def cancel_bet(case: Case, command: CancelBet) -> Decision:
    wallet = case.wallet
    bet = case.items[bet_key(command.bet_id)]
    before_bet = bet is None
    data = BetCancelled(
        before_bet=before_bet, bet_id=command.bet_id, metadata=command.metadata, reason=command.reason
    )
    if bet is None:
        return event_of(case, data)
    assert isinstance(bet, Bet), bet
    if bet.status != "open":
        return already_resolved("bet", command.bet_id, bet.status)
    of_game = bet.of_game
    if of_game is not None:
        close_ms = case.rules.tables[of_game.table_digest].close_ms
        if case.time_us >= of_game.ends_at_us - close_ms * 1_000:
            return _settled_by_result(command.bet_id, bet)
    return event_of(
        case,
        data,
        return_stake(wallet.user_id, bet),
        balances_with(wallet, bet.asset, bet.cash, bet.bonus),
    )


def record_result(case: Case, command: RecordResult) -> Decision:
    ended = _ended(case, command.user_id, command.period)
    if isinstance(ended, Rejection):
        return ended
    game, span = ended
    kind = KINDS[game.table.rules]
    if not kind.is_result(command.result):
        detail = f"{command.result!r} is not a result of {game.table.rules}"
        return Rejection(Code.INVALID_RESULT, detail, {"field": "result"})
    if (why := kind.unproven(command.result, command.proof, span.ends_at_us)) is not None:
        return Rejection(Code.INVALID_RESULT, why, {"field": "proof"})
    if refusal := _has_outcome(case, command.period):
        return refusal
    return event_of(
        case,
        ResultRecorded(metadata=command.metadata, period=command.period, proof=command.proof, result=command.result),
    )


def cancel_period(case: Case, command: CancelPeriod) -> Decision:
    ended = _ended(case, command.user_id, command.period)
    if isinstance(ended, Rejection):
        return ended
    if refusal := _has_outcome(case, command.period):
        return refusal
    return event_of(case, PeriodCancelled(metadata=command.metadata, period=command.period, reason=command.reason))


# --- checks -------------------------------------------------------------------------------------------------------


def _entry(case: Case, command: PlaceBet) -> Entry | Rejection:
    game = case.rules.games.get(command.game)
    if game is None:
        return _unknown_game(command.game, [EXTERNAL_GAME, *sorted(case.rules.games)])
    span = span_of(game, command.period)
    if span is None or not span.starts_at_us <= case.time_us < span.closes_at_us:
        detail = f"the period {command.period} of {command.game} takes no bets now"
        if span is None:  # another node, with other rules, has checked its shape
            return Rejection(Code.PERIOD_CLOSED, detail)
        fields = {"starts_at_us": span.starts_at_us, "closes_at_us": span.closes_at_us}
        return Rejection(Code.PERIOD_CLOSED, detail, dict[str, int | str](fields))
    legs = legs_of(game.table.rules, command.selection)
    if legs is None:
        detail = f"{command.selection!r} is not a selection of {game.table.rules}"
        return Rejection(Code.INVALID_SELECTION, detail, {"field": "selection"})
    return Entry(game, span, len(legs))


def _unknown_game(name: str, known: list[str]) -> Rejection:
    listed = ", ".join(known[:LISTED_MAX])
    if len(known) > LISTED_MAX:
        listed += ", … (GET /v1/games lists them all)"
    return Rejection(Code.UNKNOWN_GAME, f"there is no game {name}; known games: {listed}", {"game": name})


def _outside_of_table(case: Case, command: PlaceBet, entry: Entry) -> Rejection | None:
    """Refuse a stake outside of the table's bounds, or one bet of a period too many."""
    table, asset = entry.game.table, command.asset
    least, most = table.stake_min.get(asset, 1), table.stake_max.get(asset)
    if command.stake < least:
        detail = f"a stake of {entry.game.name} is at least {formatted(case, asset, least)}"
        return Rejection(Code.AMOUNT_OUT_OF_RANGE, detail, {"field": "stake", "stake_min": least})
    if most is not None and command.stake > most:
        detail = f"a stake of {entry.game.name} is at most {formatted(case, asset, most)}"
        return Rejection(Code.STAKE_MAX_EXCEEDED, detail, {"stake_max": most})
    if table.bets_per_period is not None:
        played = case.wallet.played.get(entry.game.name)
        bets = played.bets if played is not None and played.ends_at_us == entry.span.ends_at_us else 0
        if bets >= table.bets_per_period:
            detail = f"the wallet has {bets} bets in this period, which are as many as a period allows"
            return Rejection(Code.STAKE_MAX_EXCEEDED, detail, {"bets_per_period": table.bets_per_period})
    return None


def _settled_by_result(bet_id: str, bet: Bet) -> Rejection:
    assert bet.of_game is not None, bet
    detail = f"the bet {bet_id} is settled by the result of its period"
    return Rejection(Code.SETTLED_BY_RESULT, detail, {"game": bet.of_game.game, "period": bet.of_game.period})


def _ended(case: Case, stream: str, period: str) -> tuple[Game, Span] | Rejection:
    """The game of the stream and the span of its period, once the outcome of the period may come."""
    name = stream.removeprefix(GAME_STREAM)
    if name == EXTERNAL_GAME:
        detail = "games outside of the ledger have no results here: settle_bet or cancel_bet ends each of their bets"
        return Rejection(Code.UNKNOWN_GAME, detail, {"game": name})
    game = case.rules.with_outcomes(name)
    if game is None:
        return _unknown_game(name, sorted(case.rules.games))
    span = span_of(game, period)
    if span is None or case.time_us < span.ends_at_us + RESULT_AFTER_US:
        detail = f"the period {period} of {name} has not been over for 2 s"
        ends = {} if span is None else {"ends_at_us": span.ends_at_us}
        return Rejection(Code.PERIOD_NOT_CLOSED, detail, dict[str, int | str](ends))
    return game, span


def _has_outcome(case: Case, period: str) -> Rejection | None:
    outcome = case.items[period_key(period)]
    if outcome is None:
        return None
    assert isinstance(outcome, Outcome), outcome
    if outcome.status == "cancelled":
        return already_resolved("period", period, outcome.status)
    detail = f"the period {period} has a result already"
    return Rejection(Code.RESULT_ALREADY_RECORDED, detail, {"period": period})
