"""Wagering: how much must be staked before a withdrawal, by asset, and how much was staked.

A deposit or a bonus adds to what is required. Once enough was staked, the next addition begins a new window, in which
nothing is staked yet. A bet is counted when it is placed; if it is cancelled in the same window, it is no longer
counted.

Invariants:
(1) what an event adds is in its data (``wagering``), so the state follows from the events without the rules;
(2) ``required`` is at most ``AMOUNT_MAX``: an addition that would exceed it is reduced;
(3) a cancellation or reversal takes back only what was added to the current window.
"""

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
        current = Wagering(current.window + 1)
    assert 0 < amount <= AMOUNT_MAX - current.required, (after, asset, amount)
    _set(after, asset, Wagering(current.window, current.required + amount, current.done))
    return current.window


def take_back(after: Wallet, asset: str, window: int, amount: int) -> None:
    """No longer require what was added to ``window``. In an earlier window enough was staked already."""
    current = after.wagering.get(asset, NONE)
    if window and window == current.window:
        assert current.required >= amount, (after, amount)
        _set(after, asset, Wagering(window, current.required - amount, current.done))


def stake(after: Wallet, asset: str, amount: int) -> int:
    """Count a stake. Returns its window; 0 if nothing was ever required of the asset."""
    current = after.wagering.get(asset)
    if current is None:
        return 0
    _set(after, asset, Wagering(current.window, current.required, current.done + amount))
    return current.window


def give_back(after: Wallet, asset: str, window: int, amount: int) -> None:
    """No longer count a cancelled stake of ``window``."""
    current = after.wagering.get(asset, NONE)
    if window and window == current.window:
        assert current.done >= amount, (after, amount)
        _set(after, asset, Wagering(window, current.required, current.done - amount))


def _set(after: Wallet, asset: str, wagering: Wagering) -> None:
    after.wagering = {**after.wagering, asset: wagering}
