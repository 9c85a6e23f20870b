"""The reads, too simple to be wrong: every document is computed by scanning all events again.

It is written from the public contract and docs/reads.md alone and shares no code with the product. It takes records,
and each method returns the document of the read of that name, in the contract's JSON, without `as_of` and
`next_cursor`:

    reads = NaiveReads(records)                    # of all partitions, each partition's in log order
    reads.wallet("u1")                             # a document, or NotFound("wallet_not_found")
    reads.at({3: 42}).wallet("u1")                 # as it was at position 3:42
    for name, params, expected in every_read(reads, "u1"): …
    for name, params, expected in every_queue(reads): …

A list is returned in one piece, `{"items": […]}`; `assert_walked` checks its pages.

Left out: games and periods, leaderboards, live.

Where the contract and docs/reads.md can be read in two ways, this model reads them so:

 1. Bytes are events if they continue the chain of their partition; dicts are events.
 2. Every read of a wallet that was never opened is `wallet_not_found`, also its bets, its orders, its balance at a
    time. If the wallet is open by now, its balance at a time before its first event is `{}`.
 3. An asset of which a wallet has only limits, or limits set to nothing, has balances of 0. At a time, limits count
    as moves do: from the event's own `time_us` on.
 4. The first deposit stays the first when it is reversed.
 5. Items of one event are sorted by asset. (No event moves two assets so far.)
 6. `game` in the history is that of the bet that the event's `bet_id` names; null also for a bet cancelled before it
    came, which has no postings and so no item.
 7. A hold that expired, or was released, has captured nothing: null.
 8. Two wallets may each have an order, a bet, a hold or a transfer with the same id; these are independent.
 9. `commissions` of a wallet that got none is `{}`: an asset appears there once paid, as elsewhere once moved.
10. An event of `referral_counted` is one member of its level, in a ring of referrers too.
11. `staked`, `paid_out` and so on of a game are sums over the bets of the asset, whatever bucket they came from.
12. A grant is of the kind `deposit` if it is the bonus of a deposit, else `grant`. What a payout adds to bonus counts
    for the last grant that its stake took from.
13. `reason` of an adjustment is that of its proposal. Only proposed adjustments are listed.
14. The place of a wallet in the list of wallets is that of its `wallet_opened`.
15. `withdrawals` counts a withdrawal once it is approved.
"""

from __future__ import annotations

import json
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import quote, urlencode

from properties import naive_money

Event = Mapping[str, Any]
Doc = dict[str, Any]
Cut = Mapping[int, int]
"""Partition → the seq of its last event that counts."""

BUCKETS: Final = ("cash", "bonus", "held")
LIMITS: Final[Mapping[str, int | None]] = {
    "credit_limit": 0,
    "balance_max": None,
    "stake_max_per_day": None,
    "withdrawal_max_per_day": None,
}
REFERRAL_LEVELS: Final = 6
BET_STATUSES: Final = ("open", "won", "lost", "cancelled")
ORDER_KINDS: Final = ("deposit", "withdrawal")
ADJUSTMENT_STATUSES: Final = ("proposed", "approved", "rejected")
ORDER_STATUSES: Final = ("completed", "pending", "approved", "rejected", "reversed")


@dataclass(frozen=True)
class NotFound:
    """A 404 of that code."""

    code: str


class NaiveReads:
    """What the reads say after these records; `at` says what they said after fewer."""

    def __init__(self, records: Iterable[bytes | Event]) -> None:
        self.events = list(_events(records))
        self._by_user: dict[str, list[Event]] = {}
        for event in self.events:
            self._by_user.setdefault(event["user_id"], []).append(event)

    def at(self, cut: Cut) -> NaiveReads:
        """The same reads when those were the last events; a partition that isn't named counts whole."""
        return NaiveReads(event for event in self.events if event["seq"] <= cut.get(event["partition"], event["seq"]))

    def users(self) -> list[str]:
        """Every user with an event, opened or not, in order of their first events."""
        return list(self._by_user)

    # ---- one wallet

    def wallet(self, user_id: str) -> Doc | NotFound:
        opened = self._opening(user_id)
        if opened is None:
            return NotFound("wallet_not_found")
        assets = _assets(self._of(user_id))
        balances = {asset: _balance(self._of(user_id), asset) for asset in assets}
        limits = {asset: self._limits(user_id, asset) for asset in assets}
        return {
            "user_id": user_id,
            "status": self._status(user_id),
            "opened_at_us": opened["time_us"],
            "referrer_id": self._referrer(user_id),
            "balances": {
                asset: {
                    **balances[asset],
                    "available": balances[asset]["bonus"]
                    + max(0, balances[asset]["cash"] + (limits[asset]["credit_limit"] or 0)),
                    "withdrawable": max(0, balances[asset]["cash"]),
                }
                for asset in assets
            },
            "limits": limits,
            "first_deposit": self._first_deposit(user_id),
            **self._wagering(user_id, assets),
        }

    def _wagering(self, user_id: str, assets: Sequence[str]) -> Doc:
        events = self._of(user_id)
        facts = [SimpleNamespace(type=event["type"], data=event["data"]) for event in events]
        index_of = {_position(event): index for index, event in enumerate(events)}
        found = {asset: naive_money.wagering(facts, asset, index_of) for asset in assets}
        asked = {asset: wagering for asset, wagering in found.items() if wagering is not None}
        return {"wagering": asked} if asked else {}

    def balance(self, user_id: str, at_us: int | None = None) -> Doc | NotFound:
        """`at_us` is left out of what is compared where it wasn't asked: now is whenever the answer was given."""
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        until = [event for event in self._of(user_id) if at_us is None or event["time_us"] <= at_us]
        document: Doc = {"user_id": user_id, "at_us": at_us}
        document["balances"] = {asset: _balance(until, asset) for asset in _assets(until)}
        return document

    def history(
        self,
        user_id: str,
        *,
        type: str | None = None,  # noqa: A002 - the name of the filter
        asset: str | None = None,
        game: str | None = None,
        from_us: int | None = None,
        to_us: int | None = None,
    ) -> Doc | NotFound:
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        items = []
        balances: dict[str, dict[str, int]] = {}
        for event in self._of(user_id):
            for moved in sorted({posting[1] for posting in event["postings"] if _bucket(event, posting)}):
                change = {bucket: _change(event, moved, bucket) for bucket in BUCKETS}
                before = balances.get(moved, dict.fromkeys(BUCKETS, 0))
                balances[moved] = {bucket: before[bucket] + change[bucket] for bucket in BUCKETS}
                items.append(
                    {
                        "position": _position(event),
                        "time_us": event["time_us"],
                        "type": event["type"],
                        "command_id": event["command_id"],
                        "asset": moved,
                        "game": self._game(event),
                        "change": change,
                        "balances": balances[moved],
                        "data": event["data"],
                    }
                )
        return _listed(
            item
            for item in _newest_first(items, "time_us")
            if type in (None, item["type"])
            and asset in (None, item["asset"])
            and game in (None, item["game"])
            and (from_us is None or from_us <= item["time_us"])
            and (to_us is None or item["time_us"] < to_us)
        )

    # ---- bets, holds, transfers

    def bets(
        self, user_id: str, *, game: str | None = None, period: str | None = None, status: str | None = None
    ) -> Doc | NotFound:
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        bets = [self._bet(placed) for placed in self._of(user_id) if placed["type"] == "bet_placed"]
        return _listed(
            bet
            for bet in _newest_first(bets, "placed_at_us")
            if game in (None, bet["game"]) and period in (None, bet["period"]) and status in (None, bet["status"])
        )

    def bet(self, user_id: str, bet_id: str) -> Doc | NotFound:
        return self._one(user_id, "bet_placed", "bet_id", bet_id, self._bet)

    def holds(self, user_id: str) -> Doc | NotFound:
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        holds = [self._hold(placed) for placed in self._of(user_id) if placed["type"] == "hold_placed"]
        return _listed(_newest_first(holds, "created_at_us"))

    def hold(self, user_id: str, hold_id: str) -> Doc | NotFound:
        return self._one(user_id, "hold_placed", "hold_id", hold_id, self._hold)

    def transfers(self, user_id: str) -> Doc | NotFound:
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        sent = [self._transfer(event) for event in self._of(user_id) if event["type"] == "transfer_sent"]
        return _listed(_newest_first(sent, "created_at_us"))

    def grants(self, user_id: str) -> Doc | NotFound:
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        grants = [self._grant(event) for event in self._of(user_id) if _grants(event)]
        return _listed(_newest_first(grants, "created_at_us"))

    def transfer(self, user_id: str, transfer_id: str) -> Doc | NotFound:
        return self._one(user_id, "transfer_sent", "transfer_id", transfer_id, self._transfer)

    # ---- orders

    def order(self, user_id: str, order_id: str) -> Doc | NotFound:
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        for event in self._of(user_id):
            if event["type"] in ("deposited", "withdrawal_requested") and event["data"]["order_id"] == order_id:
                return self._order(event)
        return NotFound("order_not_found")

    def orders(self, *, user_id: str | None = None, kind: str | None = None, status: str | None = None) -> Doc:
        """The queue: the orders of all wallets, or of one."""
        orders = [
            self._order(event) for event in self.events if event["type"] in ("deposited", "withdrawal_requested")
        ]
        return _listed(
            order
            for order in _newest_first(orders, "created_at_us")
            if user_id in (None, order["user_id"])
            and kind in (None, order["kind"])
            and status in (None, order["status"])
        )

    # ---- all users

    def adjustments(self, *, status: str | None = None) -> Doc:
        proposed = [self._adjustment(event) for event in self.events if event["type"] == "adjustment_proposed"]
        return _listed(
            adjustment
            for adjustment in _newest_first(proposed, "created_at_us")
            if status in (None, adjustment["status"])
        )

    def wallets(self, *, user_id: Sequence[str] | None = None, prefix: str | None = None) -> Doc:
        openings = [
            event
            for event in self.events
            if event["type"] == "wallet_opened"
            and (user_id is None or event["user_id"] in user_id)
            and event["user_id"].startswith(prefix or "")
        ]
        openings.sort(key=lambda event: (event["time_us"], event["partition"], event["seq"]), reverse=True)
        return _listed(self.wallet(event["user_id"]) for event in openings)  # type: ignore[misc]  # each is open

    # ---- sums

    def movers(self, asset: str, at_us: int, limit: int) -> Doc:
        """The whole leaderboard of the day, from both ends."""
        board = self.leaderboard("net_day", asset, at_us, len(self.events))
        nets = [(item["value"], item["user_id"]) for item in board["items"]]
        lost = sorted(one for one in nets if one[0] < 0)
        won = [one for one in nets if one[0] > 0]
        return {
            **{name: board[name] for name in ("asset", "from_us", "to_us")},
            "won": _movers(won[:limit]),
            "lost": _movers(lost[:limit]),
        }

    def cohorts(self, asset: str, from_us: int, to_us: int) -> Doc:
        """The UTC days that overlap these times, and each bet of each wallet that was opened on them."""
        first_us, end_us = _span_of("day", from_us)[0], _span_of("day", to_us - 1)[1]
        cohorts: dict[int, Doc] = {}
        for user_id in self.users():
            opened = self._opening(user_id)
            if opened is None or not first_us <= opened["time_us"] < end_us:
                continue
            registered_us = _span_of("day", opened["time_us"])[0]
            cohort = cohorts.setdefault(registered_us, {"wallets": 0, "deposited": 0, "days": {}})
            cohort["wallets"] += 1
            deposits = [event["data"]["asset"] for event in self._of(user_id) if event["type"] == "deposited"]
            cohort["deposited"] += deposits[:1] == [asset]
            for placed in self._of(user_id):
                if placed["type"] != "bet_placed" or placed["data"]["asset"] != asset:
                    continue
                end = self._resolution(placed, "bet_id", "bet_settled", "bet_cancelled")
                if end is not None and end["type"] == "bet_cancelled":
                    continue
                stake = placed["data"]["stake"]
                amounts = [(placed, user_id, stake, 0)]
                if end is not None:
                    amounts.append((end, "", 0, end["data"]["payout"] - stake))
                for event, active, staked, net in amounts:
                    day = (event["time_us"] - registered_us) // 86_400_000_000
                    cohort["days"].setdefault(day, []).append((active, staked, net))
        return {
            "asset": asset,
            "from_us": first_us,
            "to_us": end_us,
            "items": [
                {"registered_us": registered_us, **cohort, "days": _cohort_days(cohort["days"])}
                for registered_us, cohort in sorted(cohorts.items(), reverse=True)
            ],
        }

    def leaderboard(self, name: str, asset: str, at_us: int, limit: int) -> Doc:
        """The day, ISO week or month of `at_us`, found by trying each user and each bet."""
        measure, span = name.split("_")
        window = _span_of(span, at_us)
        values: dict[str, int] = {}
        for placed in self.events:
            if placed["type"] != "bet_placed" or placed["data"]["asset"] != asset:
                continue
            end = self._resolution(placed, "bet_id", "bet_settled", "bet_cancelled")
            if end is not None and end["type"] == "bet_cancelled":
                continue
            counted, value = placed, placed["data"]["stake"]
            if measure != "staked":
                if end is None:
                    continue
                counted, value = end, end["data"]["payout"] - (value if measure == "net" else 0)
            if _span_of(span, counted["time_us"]) == window:
                values[placed["user_id"]] = values.get(placed["user_id"], 0) + value
        ranked = sorted((-value, user_id) for user_id, value in values.items() if value)
        first, end_ = window
        return {
            "name": name,
            "asset": asset,
            "from_us": first,
            "to_us": end_,
            "items": [
                {"rank": rank, "user_id": user_id, "value": -value}
                for rank, (value, user_id) in enumerate(ranked[:limit], 1)
            ],
        }

    def stats(self, user_id: str) -> Doc | NotFound:
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        bets = [
            bet
            for bet in (self._bet(placed) for placed in self._of(user_id) if placed["type"] == "bet_placed")
            if bet["status"] != "cancelled"
        ]
        deposits = self._not_reversed(user_id, "deposited")
        withdrawals = [
            order
            for order in (
                self._order(event) for event in self._of(user_id) if event["type"] == "withdrawal_requested"
            )
            if order["status"] == "approved"
        ]
        bonuses = [(event["data"]["asset"], event["data"].get("bonus", 0)) for event in deposits]
        bonuses += [
            (event["data"]["asset"], event["data"]["amount"])
            for event in self._not_reversed(user_id, "bonus_granted")
            + self._not_reversed(user_id, "attendance_claimed")
            + self._not_reversed(user_id, "gift_received")
        ]
        games = [
            {"asset": asset, "game": game, **_played([b for b in bets if (b["asset"], b["game"]) == (asset, game)])}
            for asset, game in sorted({(bet["asset"], bet["game"]) for bet in bets})
        ]
        totals = [
            {
                "asset": asset,
                **_played([bet for bet in bets if bet["asset"] == asset]),
                "deposits": _counted(
                    event["data"]["amount"] for event in deposits if event["data"]["asset"] == asset
                ),
                "withdrawals": _counted(order["amount"] for order in withdrawals if order["asset"] == asset),
                "bonuses": _counted(amount for of, amount in bonuses if of == asset and amount > 0),
                "commissions": _counted(paid for of, paid in self._commissions(user_id) if of == asset),
            }
            for asset in _assets(self._of(user_id))
        ]
        return {"user_id": user_id, "games": games, "totals": [row for row in totals if _says_something(row)]}

    def referrals(self, user_id: str) -> Doc | NotFound:
        opened = self._opening(user_id)
        if opened is None:
            return NotFound("wallet_not_found")
        counted = [event["data"]["level"] for event in self._of(user_id) if event["type"] == "referral_counted"]
        return {
            "user_id": user_id,
            "referrer_id": self._referrer(user_id),
            "direct_count": counted.count(1),
            "levels": [{"level": level, "members": counted.count(level)} for level in range(1, REFERRAL_LEVELS + 1)],
            "commissions": {
                asset: sum(paid for of, paid in self._commissions(user_id) if of == asset)
                for asset in sorted({asset for asset, _ in self._commissions(user_id)})
            },
        }

    # ---- codes

    def gift(self, code: str, now_us: int) -> Doc | NotFound:
        events = self._of(f"gift:{code}")
        for created in events:
            if created["type"] == "gift_created":
                data = created["data"]
                claimed = sum(event["type"] == "gift_share_granted" for event in events)
                expires_at_us = data.get("expires_at_us")
                if any(event["type"] == "gift_closed" for event in events):
                    status = "closed"
                elif claimed == data["claims"]:
                    status = "used_up"
                else:
                    status = "open" if expires_at_us is None or now_us < expires_at_us else "expired"
                told = {name: data[name] for name in ("asset", "amount", "claims")}
                return {"code": code, **told, "claimed": claimed, "status": status, "expires_at_us": expires_at_us}
        return NotFound("not_found")

    def referral_code(self, code: str) -> Doc | NotFound:
        for event in self._of(f"code:{code}"):
            if event["type"] == "referral_code_granted":
                return {"code": code, "user_id": event["data"]["claimed_by"]}
        return NotFound("not_found")

    # ---- scanning

    def _referrer(self, user_id: str) -> str | None:
        """Named when the wallet was opened, or found by the code that was named then."""
        named = [
            event["data"].get("referrer_id")
            for event in self._of(user_id)
            if event["type"] in ("wallet_opened", "referrer_set")
        ]
        return next((referrer_id for referrer_id in named if referrer_id is not None), None)

    def _commissions(self, user_id: str) -> list[tuple[str, int]]:
        """Asset and amount of each commission that paid something."""
        return [
            (event["data"]["asset"], event["data"]["amount"])
            for event in self._of(user_id)
            if event["type"] == "commission_paid" and event["data"]["amount"] > 0
        ]

    def _of(self, user_id: str) -> list[Event]:
        return self._by_user.get(user_id, [])

    def _opening(self, user_id: str) -> Event | None:
        return next((event for event in self._of(user_id) if event["type"] == "wallet_opened"), None)

    def _not_reversed(self, user_id: str, type_: str) -> list[Event]:
        """The events of that type that were not reversed."""
        return [event for event in self._of(user_id) if event["type"] == type_ and self._reversal(event) is None]

    def _reversal(self, event: Event) -> Event | None:
        for reversed_ in self._of(event["user_id"]):
            if reversed_["type"] == "reversed" and reversed_["data"]["position"] == _position(event):
                return reversed_
        return None

    def _resolution(self, event: Event, id_name: str, *types: str) -> Event | None:
        for resolving in self._of(event["user_id"]):
            if resolving["type"] in types and resolving["data"][id_name] == event["data"][id_name]:
                return resolving
        return None

    def _one(self, user_id: str, type_: str, id_name: str, id_: str, shown: Callable[[Event], Doc]) -> Doc | NotFound:
        if self._opening(user_id) is None:
            return NotFound("wallet_not_found")
        for event in self._of(user_id):
            if event["type"] == type_ and event["data"][id_name] == id_:
                return shown(event)
        return NotFound(id_name.replace("_id", "_not_found"))

    def _status(self, user_id: str) -> str:
        said = {
            "wallet_opened": "open",
            "wallet_frozen": "frozen",
            "wallet_unfrozen": "open",
            "wallet_closed": "closed",
        }
        return [said[event["type"]] for event in self._of(user_id) if event["type"] in said][-1]

    def _limits(self, user_id: str, asset: str) -> dict[str, int | None]:
        limits = dict(LIMITS)
        for event in self._of(user_id):
            if event["type"] == "limits_set" and event["data"]["asset"] == asset:
                for name, default in LIMITS.items():
                    if name in event["data"]:
                        limits[name] = default if event["data"][name] is None else event["data"][name]
        return limits

    def _first_deposit(self, user_id: str) -> Doc | None:
        for event in self._of(user_id):
            if event["type"] == "deposited":
                told = {name: event["data"][name] for name in ("order_id", "asset", "amount")}
                return {**told, "position": _position(event), "time_us": event["time_us"]}
        return None

    def _game(self, event: Event) -> str | None:
        bet_id = event["data"].get("bet_id")
        for placed in self._of(event["user_id"]) if bet_id is not None else ():
            if placed["type"] == "bet_placed" and placed["data"]["bet_id"] == bet_id:
                game: str = placed["data"]["game"]
                return game
        return None

    def _bet(self, placed: Event) -> Doc:
        settled = self._resolution(placed, "bet_id", "bet_settled", "bet_cancelled")
        payout: int | None = None
        unpaid = 0
        if settled is None:
            status = "open"
        elif settled["type"] == "bet_cancelled":
            status = "cancelled"
        else:
            payout = int(settled["data"]["payout"])
            if settled["data"].get("legs"):  # a settlement by a result: what its legs pay is what it should have paid
                unpaid = sum(paid for _, _, paid in settled["data"]["legs"]) - payout
            status = "won" if payout > 0 else "lost"
        told = {name: placed["data"][name] for name in ("bet_id", "game", "period", "selection", "asset", "stake")}
        return {
            **told,
            "status": status,
            "payout": payout,
            "position": _position(placed),
            "placed_at_us": placed["time_us"],
            "settled_position": None if settled is None else _position(settled),
            "settled_at_us": None if settled is None else settled["time_us"],
            "unpaid": unpaid,
        }

    def _hold(self, placed: Event) -> Doc:
        resolved = self._resolution(placed, "hold_id", "hold_captured", "hold_released", "hold_expired")
        captured = None
        if resolved is not None and resolved["type"] == "hold_captured":
            captured = resolved["data"].get("amount", placed["data"]["amount"])
        return {
            "hold_id": placed["data"]["hold_id"],
            "asset": placed["data"]["asset"],
            "amount": placed["data"]["amount"],
            "status": "open" if resolved is None else resolved["type"].removeprefix("hold_"),
            "captured": captured,
            "expires_at_us": placed["data"].get("expires_at_us"),
            "position": _position(placed),
            "created_at_us": placed["time_us"],
            "resolved_at_us": None if resolved is None else resolved["time_us"],
        }

    def _transfer(self, sent: Event) -> Doc:
        resolved = self._resolution(sent, "transfer_id", "transfer_delivered", "transfer_returned")
        return {
            "transfer_id": sent["data"]["transfer_id"],
            "to_user_id": sent["data"]["to_user_id"],
            "asset": sent["data"]["asset"],
            "amount": sent["data"]["amount"],
            "status": "sent" if resolved is None else resolved["type"].removeprefix("transfer_"),
            "reason": None if resolved is None else resolved["data"].get("reason"),
            "position": _position(sent),
            "created_at_us": sent["time_us"],
            "resolved_at_us": None if resolved is None else resolved["time_us"],
        }

    def _grant(self, granted: Event) -> Doc:
        is_deposit, data = granted["type"] == "deposited", granted["data"]
        grant_id = data["order_id"] if is_deposit else data["grant_id"]
        amount = data["bonus"] if is_deposit else data["amount"]
        remaining = amount
        for event in self._of(granted["user_id"]):
            match event["type"]:
                case "bet_placed":
                    remaining -= _taken(event, grant_id)
                case "bet_cancelled" if not event["data"]["before_bet"]:
                    remaining += _taken(self._placed(event), grant_id)
                case "bet_settled":
                    source = self._placed(event)["data"]["from"]
                    if source["grants"] and source["grants"][-1][0] == grant_id:
                        stake = source["bonus"] + source["cash"]
                        remaining += event["data"]["payout"] * source["bonus"] // stake
                case "bonus_expired" if event["data"]["grant_id"] == grant_id:
                    remaining -= event["data"]["amount"]
        return {
            "grant_id": grant_id,
            "kind": _KIND_OF.get(granted["type"]) or data.get("kind", "grant"),
            "asset": data["asset"],
            "amount": amount,
            "remaining": remaining if self._reversal(granted) is None else 0,
            "expires_at_us": None if is_deposit else data.get("expires_at_us"),
            "position": _position(granted),
            "created_at_us": granted["time_us"],
        }

    def _placed(self, event: Event) -> Event:
        """The bet that a settlement or cancellation is about."""
        return next(
            placed
            for placed in self._of(event["user_id"])
            if placed["type"] == "bet_placed" and placed["data"]["bet_id"] == event["data"]["bet_id"]
        )

    def _adjustment(self, proposed: Event) -> Doc:
        resolved = self._resolution(proposed, "adjustment_id", "adjustment_approved", "adjustment_rejected")
        return {
            "user_id": proposed["user_id"],
            **{name: proposed["data"][name] for name in ("adjustment_id", "asset", "amount", "reason")},
            "status": "proposed" if resolved is None else resolved["type"].removeprefix("adjustment_"),
            "proposed_by": proposed["actor"],
            "resolved_by": None if resolved is None else resolved["actor"],
            "position": _position(proposed),
            "created_at_us": proposed["time_us"],
            "resolved_at_us": None if resolved is None else resolved["time_us"],
        }

    def _order(self, made: Event) -> Doc:
        if made["type"] == "deposited":
            kind, reversal = "deposit", self._reversal(made)
            status = "completed" if reversal is None else "reversed"
            resolved: Event | None = reversal or made
        else:
            kind, reversal = "withdrawal", None
            resolved = self._resolution(made, "order_id", "withdrawal_approved", "withdrawal_rejected")
            status = "pending" if resolved is None else resolved["type"].removeprefix("withdrawal_")
        return {
            "user_id": made["user_id"],
            "order_id": made["data"]["order_id"],
            "kind": kind,
            "asset": made["data"]["asset"],
            "amount": made["data"]["amount"],
            "bonus": made["data"].get("bonus", 0),
            "status": status,
            "reason": None if resolved is None else resolved["data"].get("reason"),
            "position": _position(made),
            "created_at_us": made["time_us"],
            "resolved_at_us": None if resolved is None else resolved["time_us"],
        }


def _events(records: Iterable[bytes | Event]) -> Iterator[Event]:
    """Those that are events: a record that doesn't continue its partition's chain is a fork."""
    ends: dict[int, tuple[int, str]] = {}
    for record in records:
        if not isinstance(record, bytes):
            yield record
            continue
        event: Event = json.loads(record)
        seq, head = ends.get(event["partition"], (0, "0" * 64))
        if (event["seq"], event["prev"]) == (seq + 1, head):
            ends[event["partition"]] = event["seq"], sha256(record).hexdigest()
            yield event


def _span_of(span: str, time_us: int) -> tuple[int, int]:
    """From when to when, in microseconds, the day, ISO week or month (UTC) of a time goes."""
    at = datetime.fromtimestamp(time_us // 1_000_000, UTC).replace(hour=0, minute=0, second=0)
    first = {"day": at, "week": at - timedelta(days=at.isoweekday() - 1), "month": at.replace(day=1)}[span]
    days = {"day": 1, "week": 7, "month": monthrange(at.year, at.month)[1]}[span]
    return int(first.timestamp()) * 1_000_000, int((first + timedelta(days=days)).timestamp()) * 1_000_000


def _grants(event: Event) -> bool:
    """Whether the event grants bonus money."""
    data = event["data"]
    return event["type"] in ("bonus_granted", "attendance_claimed", "gift_received") or bool(
        event["type"] == "deposited" and data.get("bonus")
    )


_KIND_OF: Final = {"deposited": "deposit", "attendance_claimed": "attendance", "gift_received": "gift"}
"""Type of an event → the kind of the grant that it makes."""


def _taken(placed: Event, grant_id: str) -> int:
    """What a stake took from a grant."""
    return sum(amount for of, amount in placed["data"]["from"]["grants"] if of == grant_id)


def _position(event: Event) -> str:
    return f"{event['partition']}:{event['seq']}"


def _place(position: str) -> tuple[int, int]:
    partition, seq = position.split(":")
    return int(partition), int(seq)


def _bucket(event: Event, posting: Sequence[Any]) -> str | None:
    """The bucket of the event's own wallet that a posting moves."""
    for bucket in BUCKETS:
        if posting[0] == f"wallet/{event['user_id']}/{bucket}":
            return bucket
    return None


def _change(event: Event, asset: str, bucket: str) -> int:
    return sum(
        posting[2] for posting in event["postings"] if posting[1] == asset and _bucket(event, posting) == bucket
    )


def _balance(events: Sequence[Event], asset: str) -> dict[str, int]:
    return {bucket: sum(_change(event, asset, bucket) for event in events) for bucket in BUCKETS}


def _assets(events: Sequence[Event]) -> list[str]:
    """The assets that were moved or limited, sorted."""
    moved = {posting[1] for event in events for posting in event["postings"] if _bucket(event, posting)}
    limited = {event["data"]["asset"] for event in events if event["type"] == "limits_set"}
    return sorted(moved | limited)


def _newest_first(items: Iterable[Doc], time_name: str) -> list[Doc]:
    """Of one event they stay as they stand."""
    return sorted(items, key=lambda item: (item[time_name], *_place(item["position"])), reverse=True)


def _listed(items: Iterable[Doc]) -> Doc:
    return {"items": list(items)}


def _played(bets: Sequence[Doc]) -> Doc:
    payouts = [bet["payout"] for bet in bets if bet["payout"] is not None]
    return {
        "bets": len(bets),
        "wins": len([bet for bet in bets if bet["status"] == "won"]),
        "staked": sum(bet["stake"] for bet in bets),
        "paid_out": sum(payouts),
        "net": sum(payouts) - sum(bet["stake"] for bet in bets if bet["status"] in ("won", "lost")),
        "biggest_win": max([0, *payouts]),
    }


def _counted(amounts: Iterable[int]) -> Doc:
    all_of_them = list(amounts)
    return {"count": len(all_of_them), "amount": sum(all_of_them)}


def _says_something(row: Doc) -> bool:
    """Whether anything in it but its name is not 0."""
    return any(
        any(value.values()) if isinstance(value, dict) else value != 0
        for name, value in row.items()
        if name not in ("asset", "game")
    )


# ---- every read there is, for loops that compare


Read = tuple[str, dict[str, Any], Doc | NotFound]
"""The name of a read, its parameters, and the document that it must answer."""

_TIMES_MAX: Final = 12
NONE_SUCH: Final = "none-such"


def every_read(reads: NaiveReads, user_id: str) -> Iterator[Read]:
    """All that can be asked of one wallet: each read, each filter alone and some together, times before, between and
    after its events, each id that it has, and ids that it hasn't.

    The names are those of the methods; the parameters are their keyword arguments, which are the names of the
    contract's too. A wallet that was never opened is asked the same, and isn't found each time.
    """
    for name, params in _questions(reads, user_id):
        yield name, params, getattr(reads, name)(user_id, **params)


def every_queue(reads: NaiveReads) -> Iterator[Read]:
    """The lists of all wallets, with each filter. A status of orders belongs to one kind."""
    for kind in (None, *ORDER_KINDS):
        for status in (None, *ORDER_STATUSES):
            if None in (kind, status) or (kind == "deposit") == (status in ("completed", "reversed")):
                params = _given(kind=kind, status=status)
                yield "orders", params, reads.orders(**params)
    for status in (None, *ADJUSTMENT_STATUSES):
        yield "adjustments", _given(status=status), reads.adjustments(**_given(status=status))
    users = reads.users()
    named: tuple[Doc, ...] = (
        *({"prefix": prefix} for prefix in ("", *{user_id[:1] for user_id in users}, *users[:2], NONE_SUCH)),
        *({"user_id": some} for some in (users[:1], users[::2], [*users[-2:], NONE_SUCH])),
    )
    for params in named:
        yield "wallets", params, reads.wallets(**params)


def _questions(reads: NaiveReads, user_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    events = [event for event in reads.events if event["user_id"] == user_id]
    times = _some(sorted({event["time_us"] for event in events}))
    types = sorted({event["type"] for event in events})
    assets = _assets(events)
    bets = [event["data"] for event in events if event["type"] == "bet_placed"]
    games = sorted({bet["game"] for bet in bets})
    periods = sorted({bet["period"] for bet in bets})

    for name in ("wallet", "stats", "referrals", "holds", "transfers", "grants", "balance", "history", "bets"):
        yield name, {}
    for at_us in sorted({time_us + step for time_us in times for step in (-1, 0, 1)}):
        yield "balance", {"at_us": at_us}

    for type_ in (*types, NONE_SUCH):
        yield "history", {"type": type_}
        for asset in assets:
            yield "history", {"type": type_, "asset": asset}
    for asset in (*assets, NONE_SUCH):
        yield "history", {"asset": asset}
    for game in (*games, NONE_SUCH):
        yield "history", {"game": game}
        for type_ in types:
            yield "history", {"game": game, "type": type_}
    for first, last in zip(times, reversed(times), strict=True):
        yield "history", {"from_us": first}
        yield "history", {"to_us": first}
        yield "history", {"from_us": first, "to_us": last}
        yield "history", {"from_us": first, "to_us": last + 1, **_given(asset=assets[0] if assets else None)}

    for game in (None, *games, NONE_SUCH):
        for period in (None, *periods, NONE_SUCH):
            for status in (None, *BET_STATUSES):
                yield "bets", _given(game=game, period=period, status=status)

    for name, id_name in (("bet", "bet_id"), ("hold", "hold_id"), ("transfer", "transfer_id"), ("order", "order_id")):
        for id_ in sorted({event["data"][id_name] for event in events if id_name in event["data"]} | {NONE_SUCH}):
            yield name, {id_name: id_}


def _given(**params: Any) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _some(times: Sequence[int]) -> list[int]:
    """The first, the last and some between them."""
    step = max((len(times) - 1) // (_TIMES_MAX - 1), 1)
    return sorted({*times[::step], *times[-1:]})


def target_of(name: str, user_id: str, params: Mapping[str, Any]) -> str:
    """What to GET for a read of `every_read` or `every_queue`: path and query."""

    def part(text: str) -> str:
        return quote(text, safe="")

    paths = {
        "wallet": "",
        "bet": f"/bets/{part(params.get('bet_id', ''))}",
        "hold": f"/holds/{part(params.get('hold_id', ''))}",
        "transfer": f"/transfers/{part(params.get('transfer_id', ''))}",
    }
    if name in ("orders", "adjustments", "wallets"):
        path = f"/v1/{name}"
    elif name == "order":
        path = f"/v1/orders/{part(user_id)}/{part(params['order_id'])}"
    else:
        path = f"/v1/wallets/{part(user_id)}{paths.get(name, f'/{name}')}"
    query = {key: value for key, value in params.items() if not key.endswith("_id") or name == "wallets"}
    return f"{path}?{urlencode(query, doseq=True)}" if query else path


# ---- pages


@dataclass(frozen=True)
class Page:
    """One answer of a walk along a list: its items, and the last events that they draw on."""

    items: list[Doc]
    as_of: Cut


def identity(item: Doc) -> tuple[str, str]:
    """What makes a list's item the same while it changes: its first event, and the asset."""
    return item["position"], item["asset"]


def assert_walked(
    pages: Sequence[Page],
    reads: NaiveReads,
    listed: Callable[..., Doc | NotFound],
    *,
    may_add: bool = False,
    **filters: Any,
) -> None:
    """The pages of one walk delivered every item that matched at the first page, once, in order, and nothing else;
    each is shown as it was when its page was read. `may_add`: also items that did not exist at the first page.

    `listed` is the read, `filters` those of the walk on what may change while it goes on:
    `assert_walked(pages, reads, lambda at, **more: at.bets("u1", game="external", **more), status="open")`.
    """
    matched = _items(listed(reads.at(pages[0].as_of), **filters))
    delivered = [identity(item) for page in pages for item in page.items]
    if may_add:
        existed = {identity(item) for item in _items(listed(reads.at(pages[0].as_of)))}
        assert len(delivered) == len(set(delivered))
        delivered = [one for one in delivered if one in existed]
    assert delivered == [identity(item) for item in matched]
    for page in pages:
        as_they_were = {identity(item): item for item in _items(listed(reads.at(page.as_of)))}
        for item in page.items:
            assert item == as_they_were[identity(item)]


def _items(answer: Doc | NotFound) -> list[Doc]:
    assert not isinstance(answer, NotFound), answer
    items: list[Doc] = answer["items"]
    return items


def _movers(nets: list[tuple[int, str]]) -> list[Doc]:
    return [{"rank": rank, "user_id": user_id, "net": net} for rank, (net, user_id) in enumerate(nets, 1)]


def _cohort_days(days: dict[int, list[tuple[str, int, int]]]) -> list[Doc]:
    """Of the user of each stake ("" for a settlement), the stake and the net, by day."""
    items = [
        {
            "day": day,
            "active": len({user_id for user_id, _, _ in amounts if user_id}),
            "staked": sum(staked for _, staked, _ in amounts),
            "net": sum(net for _, _, net in amounts),
        }
        for day, amounts in sorted(days.items())
    ]
    return [item for item in items if item["staked"] or item["net"]]
