"""What reads must return, from the client's own books: one pure function a read, which returns findings as sentences.

Invariants:

1. A wallet is read while none of its commands is under way, and at or after its last response (``min_position``).
   Then the effect of its own commands is exact. Only transfers of other wallets and timers add to it; these show in
   the wallet's money (`Books.differences`) and in lines that the ledger writes by itself.
2. A list that is not read to its end must match the books from the newest item on, without a gap.
3. A response is true at the requested position or later; its ``as_of`` must say so.
4. Lists of all users must contain what the books know. They may contain more, from other days on the same service.

Nothing raises on a wrong response: a document with another shape than the contract's is one finding (`shaped`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from demo.books.books import Books
from demo.books.wallets import Bet, Wallet

OF_THE_LEDGER = {"hold_expired", "bonus_expired", "transfer_received", "transfer_returned", "commission_paid"}
"""Events with money that come from no command of the wallet itself."""

Seen = dict[str, Any]
"""A document, or an item of a list, as the service returned it."""


def shaped(where: str, findings: Callable[[], list[str]]) -> list[str]:
    """Returns ``findings()``, or one finding if the document has another shape than the contract's."""
    try:
        return findings()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return [f"{where}: does not have the contract's shape ({type(error).__name__}: {error})"]


def as_of(where: str, seen: Seen, least: Mapping[int, int], *, several: bool = False) -> list[str]:
    """Findings if the response is older than ``least`` (partition → seq)."""
    found_at = seen["as_of"]
    positions = found_at["positions"] if several else [found_at["position"]]
    at = {int(partition): int(seq) for partition, _, seq in (position.partition(":") for position in positions)}
    found = [
        f"{where}: is true at {partition}:{at.get(partition)}, not at min_position {partition}:{seq}"
        for partition, seq in least.items()
        if at.get(partition, -1) < seq
    ]
    if not several and set(at) != set(least):
        found.append(f"{where}: is of partition {sorted(at)}, its wallet of {sorted(least)}")
    if type(found_at["lag_ms"]) is not int or found_at["lag_ms"] < 0:
        found.append(f"{where}: has lag_ms {found_at['lag_ms']}")
    return found


# -- statistics ---------------------------------------------------------------------------------------------------


def statistics(wallet: Wallet, seen: Seen, *, settled: bool = True) -> list[str]:
    """Each difference between the service's statistics and the books. Not ``settled``: bonuses and commissions that
    the ledger gives by itself may be missing."""
    where = f"{wallet.user_id}: statistics"
    found: list[str] = []
    for name, key_of, ours in (
        ("games", ("asset", "game"), _games(wallet)),
        ("totals", ("asset",), _possible_totals(wallet, seen["totals"], settled=settled)),
    ):
        theirs = {tuple(row[key] for key in key_of): row for row in seen[name]}
        if list(theirs) != sorted(theirs) or len(theirs) != len(seen[name]):
            found.append(f"{where} {name} are out of order, or a row comes twice")
        for key in sorted(ours.keys() | theirs.keys()):
            mine, their = ours.get(key, {}), theirs.get(key, {})
            found += [
                f"{where} {name} {' '.join(key)}: {member} is {their.get(member)}, in the books {mine.get(member)}"
                for member in sorted(mine.keys() | their.keys())
                if mine.get(member) != their.get(member)
            ]
    return found


def _games(wallet: Wallet) -> dict[tuple[str, ...], Seen]:
    of: dict[tuple[str, ...], list[Bet]] = {}
    for bet in wallet.bets.values():
        if bet.status in ("open", "settled"):
            of.setdefault((bet.asset, bet.game), []).append(bet)
    return {key: {"asset": key[0], "game": key[1], **_betting(bets)} for key, bets in of.items()}


def _betting(bets: Iterable[Bet]) -> dict[str, int]:
    bets = list(bets)
    payouts = [bet.payout or 0 for bet in bets]
    settled = sum(bet.stake for bet in bets if bet.status == "settled")
    return {
        "bets": len(bets),
        "wins": sum(payout > 0 for payout in payouts),
        "staked": sum(bet.stake for bet in bets),
        "paid_out": sum(payouts),
        "net": sum(payouts) - settled,
        "biggest_win": max(payouts, default=0),
    }


def _totals(wallet: Wallet) -> dict[tuple[str, ...], Seen]:
    sums: dict[str, Counter[str]] = {}
    counts: dict[str, Counter[str]] = {}

    def add(asset: str, name: str, amount: int) -> None:
        sums.setdefault(asset, Counter())[name] += amount
        counts.setdefault(asset, Counter())[name] += 1

    for order in wallet.orders.values():
        if order.kind == "deposit" and order.status == "completed":
            add(order.asset, "deposits", order.amount)
        if order.kind == "withdrawal" and order.status == "approved":
            add(order.asset, "withdrawals", order.amount)
    for grant in wallet.grants.values():
        if not grant.reversed:
            add(grant.asset, "bonuses", grant.amount)
    for asset in wallet.commission_e9:
        if amount := wallet.commission(asset):
            add(asset, "commissions", amount)
    bets: dict[str, list[Bet]] = {}
    for bet in wallet.bets.values():
        if bet.status in ("open", "settled"):
            bets.setdefault(bet.asset, []).append(bet)
    return {
        (asset,): {
            "asset": asset,
            **_betting(bets.get(asset, ())),
            **{
                name: {
                    "count": counts.get(asset, Counter())[name],
                    "amount": sums.get(asset, Counter())[name],
                }
                for name in ("deposits", "withdrawals", "bonuses", "commissions")
            },
        }
        for asset in sums.keys() | bets.keys() | {awaited.asset for awaited in wallet.awaited}
    }


def _possible_totals(wallet: Wallet, seen: Sequence[Seen], *, settled: bool) -> dict[tuple[str, ...], Seen]:
    """The totals, with the bonuses and commissions of ``seen`` where these are possible. How many payments a
    commission was paid in depends on their order, so only the bounds of that number are known."""
    ours, theirs = _totals(wallet), {row["asset"]: row for row in seen}
    for (asset,), row in list(ours.items()):
        their = theirs.get(asset, {})
        paid, most = their.get("commissions", _NOTHING), wallet.commission(asset)
        least, parts = most if settled else 0, wallet.commission_parts[asset]
        if least <= paid["amount"] <= most and (paid["amount"] > 0) <= paid["count"] <= parts:
            row["commissions"] = paid
        granted = their.get("bonuses", _NOTHING)
        if not settled and (granted["count"], granted["amount"]) in _possible_bonuses(wallet, asset, row["bonuses"]):
            row["bonuses"] = granted
        if asset not in theirs and not any(value not in (0, asset, _NOTHING) for value in row.values()):
            del ours[asset,]
    return ours


_NOTHING: Seen = {"count": 0, "amount": 0}


def _possible_bonuses(wallet: Wallet, asset: str, all_but_awaited: Seen) -> set[tuple[int, int]]:
    count, amount = all_but_awaited["count"], all_but_awaited["amount"]
    possible = {(count, amount)}
    if just := wallet.just_granted[asset]:
        possible.add((count - 1, amount - just))
    for item in wallet.awaited:
        if item.asset == asset and not item.arrived:
            possible |= {(times + 1, total + item.amount) for times, total in possible}
    return possible


# -- lists of one wallet ------------------------------------------------------------------------------------------


def bets(wallet: Wallet, items: Sequence[Seen], status: str | None, *, whole: bool) -> list[str]:
    """Findings unless ``items`` are the newest of the wallet's bets with that status; all of them if ``whole``."""
    where = f"{wallet.user_id}: bets {status or ''}".rstrip()
    known = {
        bet_id: bet for bet_id, bet in wallet.bets.items() if bet.status != "never" and status in (None, bet.shown())
    }
    newest = sorted(known, key=lambda bet_id: known[bet_id].seq, reverse=True)
    expected = newest if whole else newest[: len(items)]
    found = []
    if (listed := [item["bet_id"] for item in items]) != expected:
        found.append(f"{where}: are {_first_different(listed, expected)}")
    for item in items:
        if (bet := known.get(item["bet_id"])) is not None:
            found += _bet(f"{wallet.user_id}: bet {item['bet_id']}", wallet, bet, item)
    return found


def _bet(where: str, wallet: Wallet, bet: Bet, item: Seen) -> list[str]:
    ours = {
        "asset": bet.asset,
        "stake": bet.stake,
        "game": bet.game,
        "period": bet.period,
        "status": bet.shown(),
        "payout": bet.payout,
        "position": f"{wallet.partition}:{bet.seq}",
        "placed_at_us": bet.placed_at_us,
    }
    return [
        f"{where} has {name} {item[name]}, in the books {value}"
        for name, value in ours.items()
        if item[name] != value
    ]


def history(wallet: Wallet, items: Sequence[Seen], *, whole: bool) -> list[str]:
    """Findings unless ``items`` are the newest lines: one for each response, no others but the ledger's own.

    For each asset, the balances after a line are the balances after the line before plus its change; they start at 0.
    """
    where = f"{wallet.user_id}: history"
    found: list[str] = []
    seen: dict[int, Seen] = {}
    after: dict[str, Seen] = {}
    previous: tuple[int, str] | None = None
    for item in items:
        seq, asset = int(item["position"].partition(":")[2]), item["asset"]
        if previous is not None and previous <= (seq, asset):
            found.append(f"{where}: {item['position']} {asset} comes after {previous[0]} {previous[1]}")
        previous = (seq, asset)
        line = wallet.lines.get(seq)
        if line is None and item["type"] not in OF_THE_LEDGER and "cause" not in item["data"]:
            found.append(f"{where}: has a {item['type']} at {item['position']} without a response")
        if line is not None:
            expected = (line.type, line.command_id, line.balances.get(asset))
            if expected != (item["type"], item["command_id"], item["balances"]):
                found.append(f"{where}: {item['position']} differs from the response")
            seen[seq] = item
        if (newer := after.get(asset)) is not None and _before(newer) != item["balances"]:
            found.append(f"{where}: {newer['position']} {asset} does not follow {item['position']}")
        after[asset] = item
    if whole:
        for asset, oldest in after.items():
            if any(_before(oldest).values()):
                found.append(f"{where}: {asset} does not start at zero at {oldest['position']}")
    end = 0 if whole or previous is None else previous[0]
    missing = [seq for seq in wallet.lines if seq > end and seq not in seen] if items or whole else []
    return found + [f"{where}: lacks {wallet.partition}:{seq}, a {wallet.lines[seq].type}" for seq in sorted(missing)]


def _before(item: Seen) -> dict[str, int]:
    return {bucket: amount - item["change"][bucket] for bucket, amount in item["balances"].items()}


def order(wallet: Wallet, order_id: str, seen: Seen) -> list[str]:
    """Each difference between an order and the books."""
    known = wallet.orders[order_id]
    ours = {
        "user_id": wallet.user_id,
        "order_id": order_id,
        "kind": known.kind,
        "asset": known.asset,
        "amount": known.amount,
        "bonus": known.bonus,
        "status": known.status,
        "created_at_us": known.at_us,
    }
    where = f"{wallet.user_id}: order {order_id}"
    return [
        f"{where} has {name} {seen[name]}, in the books {value}"
        for name, value in ours.items()
        if seen[name] != value
    ]


# -- lists of all users -------------------------------------------------------------------------------------------


class Queue:
    """What the queue of pending withdrawals must and must not contain. Made before the queue is read.

    The first page fixes which orders are in the list. So the list must contain each order that was pending before the
    first request and had no decision sent when the first page arrived. Later decisions do not change the list.
    """

    def __init__(self, books: Books) -> None:
        self._books = books
        self._must: set[tuple[str, str]] = set()
        self._must_not: set[tuple[str, str]] = set()
        for wallet in books.wallets.values():
            for order_id, known in wallet.orders.items():
                key = (wallet.user_id, order_id)
                if known.kind == "deposit" or known.status in ("approved", "rejected"):
                    self._must_not.add(key)
                else:
                    self._must.add(key)

    def after_first_page(self) -> None:
        """Call when the first page arrives: an order with a decision sent by now may be in the list or not."""
        wallets = self._books.wallets
        decided = {(user, order) for user, order in self._must if wallets[user].orders[order].status != "pending"}
        self._must -= decided | self._books.deciding

    def check(self, items: Sequence[Seen]) -> list[str]:
        """Findings in ``items``, the items of all pages."""
        listed = [(item["user_id"], item["order_id"]) for item in items]
        found = [f"queue: {key} comes {times} times" for key, times in Counter(listed).items() if times > 1]
        found += [f"queue: lacks {key}, which is pending" for key in sorted(self._must - set(listed))]
        found += [f"queue: has {key}, which is not pending" for key in sorted(self._must_not & set(listed))]
        order = [(item["created_at_us"], *_position(item["position"])) for item in items]
        if order != sorted(order, reverse=True):
            found.append("queue: is not in order, newest first")
        for item in items:
            wallet = self._books.wallets.get(item["user_id"])
            known = wallet.orders.get(item["order_id"]) if wallet is not None else None
            if known is not None and (item["asset"], item["amount"]) != (known.asset, known.amount):
                found.append(f"queue: {item['order_id']} of {item['user_id']} has another amount")
        return found


def leaderboard(books: Books, mine: Iterable[str], name: str, asset: str, seen: Seen, limit: int) -> list[str]:
    """Findings unless a board is in order, and right for the users ``mine``, who have no command under way."""
    where = f"leaderboard {name} {asset}"
    items, measure = seen["items"], name.partition("_")[0]
    found = []
    ranking = [(-item["value"], item["user_id"].encode()) for item in items]
    if ranking != sorted(ranking):
        found.append(f"{where}: is not in order")
    if [item["rank"] for item in items] != list(range(1, len(items) + 1)) or len(items) > limit:
        found.append(f"{where}: is not ranked 1 to {len(items)}")
    values = {item["user_id"]: item["value"] for item in items}
    last = ranking[-1] if len(items) >= limit else (float("inf"), b"")
    for user_id in mine:
        value = _value(books.wallet(user_id), measure, asset, seen["from_us"], seen["to_us"])
        expected = value if value and (-value, user_id.encode()) <= last else None
        if values.get(user_id) != expected:
            found.append(f"{where}: {user_id} has {values.get(user_id)}, in the books {value}")
    return found


def _value(wallet: Wallet, measure: str, asset: str, from_us: int, to_us: int) -> int:
    value = 0
    for bet in wallet.bets.values():
        if bet.asset != asset:
            continue
        if measure == "staked" and bet.status in ("open", "settled") and from_us <= bet.placed_at_us < to_us:
            value += bet.stake
        if measure != "staked" and bet.settled_at_us is not None and from_us <= bet.settled_at_us < to_us:
            value += (bet.payout or 0) - (bet.stake if measure == "net" else 0)
    return value


def _position(position: str) -> tuple[int, int]:
    partition, _, seq = position.partition(":")
    return int(partition), int(seq)


def _first_different(listed: Sequence[str], expected: Sequence[str]) -> str:
    for at, (one, other) in enumerate(zip(listed, expected, strict=False)):
        if one != other:
            return f"{one} at place {at + 1}, in the books {other}"
    return f"{len(listed)}, in the books {len(expected)}"
