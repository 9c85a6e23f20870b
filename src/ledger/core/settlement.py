"""Settlement: how the outcome of a period ends each open bet of it.

An outcome is an event on the stream of its game. It is announced to every partition as ``ResolvePeriod``, and each
partition ends its open bets one by one.

Invariants:
(1) a bet is paid by the table that it was taken under, whatever the rules are now;
(2) an open bet is ended once: its item says whether it is open. The id of its event names the outcome's record and
    the bet's: ``~<head of the cause>:<seq of the bet>``;
(3) no wallet refuses: frozen or not, and however full it is. A payout beyond the wallet's range is paid up to it, and
    the event names the rest.

The range holds for what the wallet owns together with what may still come back to it: the stakes of its other open
bets, and its transfers under way. So another open bet reduces the room for a payout by its stake, even if that bet is
lost a moment later. This is intended: if the stake is returned instead, it must fit into the wallet.
"""

from ledger.core.bet_events import (
    BetCancelled,
    BetSettled,
    PeriodCancelled,
    ResultRecorded,
)
from ledger.core.commissions import terms_of
from ledger.core.events import HOUSE_PAYOUTS, Event
from ledger.core.fields import GAME_STREAM
from ledger.core.follow_up_commands import ResolvePeriod
from ledger.core.games.payout import pay_legs
from ledger.core.games.rules import RuleBook
from ledger.core.items import OpenBet, split_payout
from ledger.core.money import AMOUNT_MAX
from ledger.core.position import RESERVED_PARTITION_PREFIX, Position
from ledger.core.postings import balances_with, ledger_event, owned_or_due, pay, return_stake
from ledger.core.wallet import Wallet


def resolution_of(event: Event, position: Position, head: str, partition: int) -> ResolvePeriod:
    """What the outcome ``event`` sends to ``partition``. ``head`` is the hash of its record."""
    data = event.data
    assert isinstance(data, ResultRecorded | PeriodCancelled), event
    return ResolvePeriod(
        command_id=f"~{head}:{partition}",
        user_id=f"{RESERVED_PARTITION_PREFIX}{partition}",
        cause=str(position),
        cause_time_us=event.time_us,
        game=event.user_id.removeprefix(GAME_STREAM),
        period=data.period,
        result=data.result if isinstance(data, ResultRecorded) else None,
        reason=data.reason if isinstance(data, PeriodCancelled) else None,
    )


def resolve_bet(resolution: ResolvePeriod, open_bet: OpenBet, wallet: Wallet, rules: RuleBook, time_us: int) -> Event:
    """The event that ends the bet. ``rules`` contains the pay table that the bet was taken under."""
    bet, of_game = open_bet.bet, open_bet.of_game
    assert bet.status == "open", bet
    assert (of_game.game, of_game.period) == (resolution.game, resolution.period), (bet, resolution)
    command_id = f"{resolution.command_id.partition(':')[0]}:{of_game.seq}"
    asset, stake = bet.asset, bet.stake
    if resolution.result is None:
        return ledger_event(
            wallet,
            command_id,
            time_us,
            BetCancelled(
                amount=stake,
                asset=asset,
                before_bet=False,
                bet_id=open_bet.bet_id,
                cause=resolution.cause,
                reason=resolution.reason,
            ),
            return_stake(wallet.user_id, bet),
            balances_with(wallet, asset, bet.cash, bet.bonus),
        )
    terms = terms_of(wallet, asset, rules, time_us)
    legs = pay_legs(rules.tables[of_game.table_digest], of_game.selection, stake, resolution.result)
    due = sum(leg.payout for leg in legs)
    room = AMOUNT_MAX - (owned_or_due(wallet, asset) - stake)
    payout = min(due, room, AMOUNT_MAX)
    assert 0 <= payout <= due, (open_bet, wallet)
    data = BetSettled(
        asset=asset,
        bet_id=open_bet.bet_id,
        cause=resolution.cause,
        commission_at_us=None if terms is None else terms.due_at_us,
        commission_rules=None if terms is None else terms.rules,
        legs=tuple((leg, part, paid) for leg, part, paid in legs),
        payout=payout,
        unpaid=due - payout or None,
    )
    if payout == 0:
        return ledger_event(wallet, command_id, time_us, data)
    to_cash, to_bonus = split_payout(bet, payout)
    return ledger_event(
        wallet,
        command_id,
        time_us,
        data,
        pay(wallet.user_id, HOUSE_PAYOUTS, asset, to_cash, to_bonus),
        balances_with(wallet, asset, to_cash, to_bonus),
    )
