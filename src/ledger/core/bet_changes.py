"""What the events of a bet change: the wallet with its counts of the day and its turnover, and the bet.

Each function is for one event type. It changes ``after``, the copy of the wallet that ``evolve`` made, and returns
the items that the event changes, by their keys.
"""

from bisect import insort

from msgspec.structs import replace

from ledger.core import wagering
from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled
from ledger.core.changes import Step, add_outstanding, add_to_grant, count_day, existing, take_from_grants
from ledger.core.games.periods import ends_at_us
from ledger.core.items import Bet, Drawn, GameBet, Item, bet_key, split_payout
from ledger.core.wallet import DAY_US, Grant, PeriodCount, Turnover, Wallet


def bet_placed(after: Wallet, data: BetPlaced, step: Step) -> dict[str, Item]:
    day = step.event.time_us // DAY_US
    source = data.source
    drawn: tuple[Drawn, ...] = ()
    if source.grants:
        running = {grant.grant_id: grant for grant in after.grants}
        drawn = tuple(
            Drawn(
                grant_id,
                amount,
                running[grant_id].expires_at_us,
                running[grant_id].granted_seq,
                running[grant_id].granted,
                running[grant_id].won,
            )
            for grant_id, amount in source.grants
        )
        take_from_grants(after, dict(source.grants))
    after.open_items += 1
    count_day(after, data.asset, day, staked=data.stake)
    add_outstanding(after, data.asset, data.stake)
    of_game = None
    if data.rules is not None:
        ends_us = ends_at_us(data.game, data.period)
        _count_played(after, data.game, ends_us, step.event.time_us, 1)
        of_game = GameBet(
            step.position.seq, data.game, data.period, ends_us, data.selection, data.rules, data.fee or 0
        )
    window = wagering.stake(after, data.asset, data.stake)
    return {bet_key(data.bet_id): Bet("open", data.asset, source.cash, source.bonus, drawn, day, of_game, window)}


def _count_played(after: Wallet, game: str, ends_us: int, time_us: int, bets: int) -> None:
    """Add ``bets`` to the count of the wallet's bets on the period of ``game`` that ends at ``ends_us``. Counts of
    periods that have ended are removed: no rule needs them."""
    running = {name: count for name, count in after.played.items() if count.ends_at_us > time_us}
    count = running.get(game)
    before = count.bets if count is not None and count.ends_at_us == ends_us else 0
    running[game] = PeriodCount(ends_us, before + bets)
    after.played = running


def bet_settled(after: Wallet, data: BetSettled, step: Step) -> dict[str, Item]:
    bet = existing(step.items, bet_key(data.bet_id), Bet)
    after.open_items -= 1
    add_outstanding(after, bet.asset, -bet.stake)
    if data.commission_at_us is not None:
        _add_turnover(after, bet, data, step)
    _, to_bonus = split_payout(bet, data.payout)
    if to_bonus:
        last = bet.drawn[-1]
        add_to_grant(
            after,
            Grant(
                last.grant_id,
                bet.asset,
                to_bonus,
                last.expires_at_us,
                last.granted_seq,
                last.granted,
                True,
                str(step.position),
            ),
        )
    return {bet_key(data.bet_id): Bet("settled")}


def _add_turnover(after: Wallet, bet: Bet, data: BetSettled, step: Step) -> None:
    """Add the stake of a settled bet to the turnover of its day. There is one turnover for each asset, day and set of
    rules."""
    assert data.commission_at_us is not None, data
    assert data.commission_rules is not None, data
    added = Turnover(
        data.commission_at_us,
        bet.asset,
        step.event.time_us // DAY_US,
        data.commission_rules,
        bet.stake,
        str(step.position),
    )
    others = []
    for turnover in after.turnover:
        if (turnover.asset, turnover.day, turnover.rules) == (added.asset, added.day, added.rules):
            added = replace(added, due_at_us=turnover.due_at_us, stake=turnover.stake + bet.stake)
        else:
            others.append(turnover)
    insort(others, added)
    after.turnover = tuple(others)


def bet_cancelled(after: Wallet, data: BetCancelled, step: Step) -> dict[str, Item]:
    if data.before_bet:
        return {bet_key(data.bet_id): Bet("cancelled_before")}
    bet = existing(step.items, bet_key(data.bet_id), Bet)
    after.open_items -= 1
    add_outstanding(after, bet.asset, -bet.stake)
    count_day(after, bet.asset, bet.day, staked=-bet.stake)
    wagering.give_back(after, bet.asset, bet.window, bet.stake)
    of_game = bet.of_game
    if of_game is not None and step.event.time_us < of_game.ends_at_us:
        _count_played(after, of_game.game, of_game.ends_at_us, step.event.time_us, -1)
    for drawn in bet.drawn:
        add_to_grant(
            after,
            Grant(
                drawn.grant_id,
                bet.asset,
                drawn.amount,
                drawn.expires_at_us,
                drawn.granted_seq,
                drawn.granted,
                drawn.won,
                str(step.position),
            ),
        )
    return {bet_key(data.bet_id): Bet("cancelled")}
