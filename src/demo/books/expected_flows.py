"""What the reads of money flows must return, from the books: grants of bonuses, referrals, gifts. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

from demo.books.expected_reads import Seen
from demo.books.flows import Gift
from demo.books.rules import LEVELS
from demo.books.wallets import Wallet


def grants(wallet: Wallet, items: Sequence[Seen]) -> list[str]:
    """Each difference between all grants of a wallet and the books, which are settled."""
    where = f"{wallet.user_id}: grants"
    theirs = {item["grant_id"]: item for item in items}
    found = [f"{where}: has {grant_id} more than once" for grant_id in theirs if len(theirs) != len(items)]
    found += [f"{where}: {grant_id} is not in the books" for grant_id in sorted(theirs.keys() - wallet.grants.keys())]
    found += [f"{where}: {grant_id} is missing" for grant_id in sorted(wallet.grants.keys() - theirs.keys())]
    for grant_id, grant in wallet.grants.items():
        if grant_id not in theirs:
            continue
        ours = {
            "kind": grant.kind,
            "asset": grant.asset,
            "amount": grant.amount,
            "remaining": grant.left,
            "expires_at_us": grant.expires_at_us,
            "position": f"{wallet.partition}:{grant.seq}",
        }
        found += [
            f"{where}: {grant_id} has {name} {theirs[grant_id][name]}, in the books {value}"
            for name, value in ours.items()
            if theirs[grant_id][name] != value
        ]
    seqs = [int(item["position"].partition(":")[2]) for item in items]
    if seqs != sorted(seqs, reverse=True):
        found.append(f"{where}: are not in order, newest first")
    return found


def referrals(wallet: Wallet, seen: Seen) -> list[str]:
    """Each difference between a wallet's referrals and the books, which are settled."""
    commissions = {asset: wallet.commission(asset) for asset in sorted(wallet.commission_e9)}
    ours = {
        "user_id": wallet.user_id,
        "referrer_id": wallet.referrer_id,
        "direct_count": wallet.members[1],
        "levels": [{"level": level, "members": wallet.members[level]} for level in range(1, LEVELS + 1)],
        "commissions": {asset: amount for asset, amount in commissions.items() if amount},
    }
    return [
        f"{wallet.user_id}: referrals have {name} {seen[name]}, in the books {value}"
        for name, value in ours.items()
        if seen[name] != value
    ]


def gift(gift: Gift, seen: Seen) -> list[str]:
    """Each difference between a gift and the books, after the outcome of each claim was read."""
    status = "closed" if gift.closed else "used_up" if gift.granted() == gift.claims else "open"
    ours = {
        "code": gift.code,
        "asset": gift.asset,
        "amount": gift.amount,
        "claims": gift.claims,
        "claimed": gift.granted(),
        "status": status,
        "expires_at_us": None,
    }
    return [
        f"gift {gift.code} has {name} {seen[name]}, in the books {value}"
        for name, value in ours.items()
        if seen[name] != value
    ]
