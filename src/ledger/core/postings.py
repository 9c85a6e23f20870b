"""Postings and the balances that follow from them: what the deciders of commands and of follow-ups share."""

from ledger.core.events import (
    HOUSE_ADJUSTMENTS,
    HOUSE_FEES,
    HOUSE_STAKES,
    LEDGER,
    NO_REQUEST,
    AnyData,
    Balance,
    Event,
    Posting,
    sums_to_zero,
)
from ledger.core.items import Bet
from ledger.core.wallet import Wallet, balance_of, balance_sum


def owned_or_due(wallet: Wallet, asset: str) -> int:
    """What the wallet owns of the asset, and the open stakes and transfers that can still come back to it."""
    return balance_sum(wallet, asset) + wallet.outstanding.get(asset, 0)


def draw_on_grants(wallet: Wallet, asset: str, amount: int) -> tuple[tuple[str, int], ...]:
    """The (grant_id, amount) that together make ``amount`` of bonus: the soonest expiry first, then the oldest."""
    drawn = []
    for grant in wallet.grants:
        if amount == 0:
            break
        if grant.asset == asset:
            part = min(grant.remaining, amount)
            drawn.append((grant.grant_id, part))
            amount -= part
    assert amount == 0, wallet
    return tuple(drawn)


def move(user_id: str, source: str, target: str, asset: str, amount: int) -> tuple[Posting, ...]:
    """From one bucket of the wallet to another."""
    return (
        (f"wallet/{user_id}/{source}", asset, -amount),
        (f"wallet/{user_id}/{target}", asset, amount),
    )


def balances_with_held(wallet: Wallet, asset: str, amount: int) -> dict[str, Balance]:
    """The balances after ``amount`` moves from cash to held; a negative amount moves back."""
    before = balance_of(wallet, asset)
    return {asset: Balance(before.cash - amount, before.bonus, before.held + amount)}


def pay(user_id: str, account: str, asset: str, cash: int, bonus: int) -> tuple[Posting, ...]:
    """From the account, which is outside of the wallet, to the wallet's cash and bonus."""
    postings: tuple[Posting, ...] = ((account, asset, -(cash + bonus)),)
    if cash:
        postings += ((f"wallet/{user_id}/cash", asset, cash),)
    if bonus:
        postings += ((f"wallet/{user_id}/bonus", asset, bonus),)
    return postings


def return_stake(user_id: str, bet: Bet) -> tuple[Posting, ...]:
    """The stake and its fee, back to the buckets that they came from."""
    fee = 0 if bet.of_game is None else bet.of_game.fee
    returned = pay(user_id, HOUSE_STAKES, bet.asset, bet.cash, bet.bonus)
    if not fee:
        return returned
    fees: Posting = (HOUSE_FEES, bet.asset, -fee)
    if fee == bet.stake:
        return (fees, *returned[1:])
    return ((HOUSE_STAKES, bet.asset, fee - bet.stake), fees, *returned[1:])


def balances_with(wallet: Wallet, asset: str, cash: int, bonus: int) -> dict[str, Balance]:
    """The balances after ``cash`` and ``bonus`` are added."""
    before = balance_of(wallet, asset)
    return {asset: Balance(before.cash + cash, before.bonus + bonus, before.held)}


def adjustment(user_id: str, asset: str, amount: int) -> tuple[Posting, ...]:
    """The postings of an adjustment, the paying account first."""
    cash: Posting = (f"wallet/{user_id}/cash", asset, amount)
    house: Posting = (HOUSE_ADJUSTMENTS, asset, -amount)
    return (house, cash) if amount > 0 else (cash, house)


def ledger_event(
    wallet: Wallet,
    command_id: str,
    time_us: int,
    data: AnyData,
    postings: tuple[Posting, ...] = (),
    balances: dict[str, Balance] | None = None,
) -> Event:
    assert sums_to_zero(postings), (data, postings)
    return Event(time_us, wallet.user_id, command_id, NO_REQUEST, LEDGER, data, postings, balances or {})
