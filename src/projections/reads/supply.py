"""The money supply, from the folded account totals: where an asset's money came from, where it is, where it went.

Wallets and transit are where it is. A house account that gave out more than it took in is a source, the others are
sinks. All accounts of an asset together sum to zero, for every event does.
"""

from typing import Final

from msgspec import Struct

from projections.reads import statements
from projections.reads.port import Ask, ReadModel

_ROOTS: Final = ("wallet", "transit", "house")


class AccountTotal(Struct, frozen=True):
    """Of all partitions together, in minor units. ``wallet/cash`` is that bucket of all wallets together."""

    account: str
    asset: str
    credited: int
    debited: int

    @property
    def balance(self) -> int:
        return self.credited - self.debited


async def account_totals(model: ReadModel) -> list[AccountTotal]:
    """Sorted by asset, wallets first, then transit, then house. Raises ReadModelUnavailable."""
    (rows,) = await model.fetch([Ask(statements.accounts, {})])
    sums: dict[tuple[str, str], list[int]] = {}
    for _, account, asset, credited, debited in rows:
        total = sums.setdefault((asset, account), [0, 0])
        total[0] += int(credited)
        total[1] += int(debited)
    ordered = sorted(sums, key=lambda key: (key[0], _ROOTS.index(key[1].partition("/")[0]), key[1]))
    return [AccountTotal(account, asset, *sums[asset, account]) for asset, account in ordered]
