"""A wallet as the service shows it, compared with the books. No I/O."""

from __future__ import annotations

from typing import Any

from demo.books.wallets import LIMITS, Limits, Wallet


def differences(wallet: Wallet, seen: dict[str, Any] | None, *, settled: bool, sure: bool) -> list[str]:
    """Each difference between the service's wallet (None: not found) and the books.

    ``settled``: all money has arrived, so each amount is exact. Otherwise cash may include coming money, and bonus
    may include what the ledger grants by itself; no command of the wallet may be under way, and the wallet must have
    been read at or after its last response. ``sure``: no timer can have fired; otherwise no amount is compared.
    """
    user_id = wallet.user_id
    if wallet.status is None or seen is None:
        if (wallet.status is None) == (seen is None):
            return []
        return [f"{user_id}: {'found' if seen else 'not found'}, in the books {wallet.status or 'never opened'}"]
    found: list[str] = []

    def compare(what: str, theirs: object, ours: object) -> None:
        if theirs != ours:
            found.append(f"{user_id}: {what} is {theirs}, in the books {ours}")

    compare("status", seen.get("status"), wallet.status)
    coming = None if settled else wallet.referrer_coming
    if coming is None or seen.get("referrer_id") != coming:
        compare("referrer_id", seen.get("referrer_id"), wallet.referrer_id)
    first = seen.get("first_deposit")
    theirs = None if first is None else (first.get("order_id"), first.get("asset"), first.get("amount"))
    compare("first_deposit", theirs, wallet.first_deposit)
    balances: dict[str, dict[str, int]] = seen.get("balances") or {}
    limits: dict[str, dict[str, int | None]] = seen.get("limits") or {}
    for asset in sorted(wallet.assets() | set(balances) | set(limits)):
        limit = wallet.limit(asset)
        ours = {
            "cash": wallet.cash[asset],
            "bonus": wallet.bonus(asset),
            "held": wallet.held(asset),
        }
        theirs_of = balances.get(asset, {})
        if not settled:
            cash, bonus = theirs_of.get("cash", 0), theirs_of.get("bonus", 0)
            if wallet.cash[asset] <= cash <= wallet.cash[asset] + wallet.coming[asset]:
                ours["cash"] = cash
            if bonus in wallet.possible_bonus(asset):
                ours["bonus"] = bonus
        ours["available"] = ours["bonus"] + max(ours["cash"] + limit.credit_limit, 0)
        ours["withdrawable"] = max(ours["cash"], 0)
        for bucket, amount in ours.items() if sure else ():
            compare(f"{asset} {bucket}", theirs_of.get(bucket, 0), amount)
        for name in LIMITS:
            default = getattr(Limits(), name)
            compare(f"{asset} {name}", limits.get(asset, {}).get(name, default), getattr(limit, name))
    if settled:
        found += [f"{user_id}: the bonus {item.grant_id} is not among its grants" for item in wallet.awaited]
    for asset in sorted(wallet.wagering.keys() | (seen.get("wagering") or {}).keys()):
        if settled or not (wallet.awaits(asset) or wallet.just_granted[asset]):
            compare(f"{asset} wagering", (seen.get("wagering") or {}).get(asset), _wagering(wallet, asset))
    return found


def _wagering(wallet: Wallet, asset: str) -> dict[str, int] | None:
    window = wallet.wagering_of(asset).now()
    if window is None:
        return None
    return {"required": window.required, "done": window.done, "remaining": window.remaining}
