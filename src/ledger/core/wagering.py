"""Wagering: how much must be staked before a withdrawal, by asset, and how much was staked.

A deposit or a bonus adds to what is required. Once enough was staked, the next addition begins a new window, in which
nothing is staked yet. A bet is counted when it is placed, and no longer when it is cancelled. If its window is over
then, what was needed of its stake must be staked again in the current window: otherwise a large bet that is cancelled
after the next small deposit would free the money of the large deposit.

Invariants:
(1) what an event adds is in its data (``wagering``), so the state follows from the events without the rules;
(2) ``required`` is at most ``AMOUNT_MAX``: an addition that would exceed it is reduced;
(3) until (2) reduces something, all that was ever required less all that still counts as staked is the same as
    ``required`` less ``done`` and ``surplus``.
"""

from msgspec.structs import replace

from ledger.core.money import AMOUNT_MAX
from ledger.core.money_rules import MoneyRules
from ledger.core.wallet import Wagering, Wallet

NONE = Wagering()


def addition(wallet: Wallet, asset: str, rules: MoneyRules, *, deposit: int = 0, bonus: int = 0) -> int | None:
    """What a deposit and a bonus add to what must be staked; None if they add nothing."""
    current = wallet.wagering.get(asset, NONE)
    room = AMOUNT_MAX - (0 if current.done >= current.required else current.required)
    return min(deposit * rules.wagering_deposit + bonus * rules.wagering_bonus, room) or None


def remaining(wallet: Wallet, asset: str) -> int:
    """How much must still be staked."""
    current = wallet.wagering.get(asset, NONE)
    return max(current.required - current.done, 0)


# --- changes of ``after``, the copy of the wallet that ``evolve`` made ---------------------------------------------


def add(after: Wallet, asset: str, amount: int | None) -> int:
    """Require ``amount`` more to be staked. Returns the window that it was added to; 0 if ``amount`` is 0 or None."""
    if not amount:
        return 0
    current = after.wagering.get(asset, NONE)
    if current.done >= current.required:
        current = Wagering(current.window + 1, surplus=current.surplus + current.done - current.required)
    assert 0 < amount <= AMOUNT_MAX - current.required, (after, asset, amount)
    _set(after, asset, replace(current, required=current.required + amount))
    return current.window


def take_back(after: Wallet, asset: str, window: int, amount: int) -> None:
    """No longer require what was added to ``window``. In an earlier one enough was staked already: that much more is
    now beyond what was required."""
    if not window:
        return
    current = after.wagering[asset]
    if window < current.window:
        _set(after, asset, replace(current, surplus=current.surplus + amount))
    else:
        assert current.required >= amount, (after, amount)
        _set(after, asset, replace(current, required=current.required - amount))


def stake(after: Wallet, asset: str, amount: int) -> int:
    """Count a stake. Returns its window; 0 if nothing was ever required of the asset."""
    current = after.wagering.get(asset)
    if current is None:
        return 0
    _set(after, asset, replace(current, done=current.done + amount))
    return current.window


def give_back(after: Wallet, asset: str, window: int, amount: int) -> None:
    """No longer count a cancelled stake of ``window``. If that one is over, what it lacks must be staked again."""
    if not window:
        return
    current = after.wagering[asset]
    if window < current.window:
        spare = min(amount, current.surplus)
        required = min(current.required + amount - spare, AMOUNT_MAX)
        _set(after, asset, replace(current, required=required, surplus=current.surplus - spare))
    else:
        assert current.done >= amount, (after, amount)
        _set(after, asset, replace(current, done=current.done - amount))


def _set(after: Wallet, asset: str, wagering: Wagering) -> None:
    after.wagering = {**after.wagering, asset: wagering}
