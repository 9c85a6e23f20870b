"""The accounts of the house, from the books: what the users of the day must have added to each. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from demo.books.books import Books

BY_RULES = ("registration", "first_deposit", "attendance", "invitation")
"""The flows of bonuses that the ledger grants by the rules."""
BONUSES = ("bonus", *BY_RULES)
Accounts = Mapping[tuple[str, str], int]
"""(account, asset) → the sum of its postings."""


def accounts(books: Books) -> Counter[tuple[str, str]]:
    """What each account of the house must have, by account and asset."""
    flows = books.flows
    of: Counter[tuple[str, str]] = Counter()
    for asset in {asset for _, asset in flows}:
        for name, amount in {
            "deposits": -flows["deposited", asset],
            "withdrawals": flows["withdrawn", asset],
            "bonuses": flows["expired", asset] - sum(flows[name, asset] for name in BONUSES),
            "gifts": -flows["gift", asset],
            "stakes": flows["staked", asset] - flows["fees", asset],
            "fees": flows["fees", asset],
            "payouts": -flows["paid out", asset],
            "captures": flows["captured", asset],
            "adjustments": -flows["adjusted", asset],
            "commissions": -flows["commission", asset],
        }.items():
            of[f"house/{name}", asset] = amount
    return of


def differences(books: Books, seen: Accounts) -> list[str]:
    """Each difference between the postings of the day's users in the log and the books."""
    ours = accounts(books)
    return [
        f"{account} {asset} is {seen.get((account, asset), 0)}, in the books {ours[account, asset]}"
        for account, asset in sorted(ours.keys() | seen.keys())
        if seen.get((account, asset), 0) != ours[account, asset]
    ]


def result(books: Books, asset: str) -> int:
    """What the house has won: stakes less payouts, bonuses, gifts and commissions. An open bet counts as lost, and a
    bonus counts as spent when it is given."""
    of = accounts(books)
    names = ("stakes", "fees", "payouts", "bonuses", "gifts", "commissions")
    return sum(of[f"house/{name}", asset] for name in names)
