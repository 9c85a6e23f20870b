"""The oracle: computes the documents that the reads must return, from the records and the public contract alone.

It shares no code with the folds or the writer. It decodes records as plain JSON, keeps no totals that could drift (a
statistic is counted from the bets when it is needed), and prefers the slow and obvious way. Where the contract can be
read in two ways, ``docs/reads.md`` says which one is meant.

A ``WalletOracle`` applies one wallet's records in order and returns, at any moment, the documents as of the last
applied record. A wallet's own records are enough: what other wallets do to it is an event of this wallet too.

Documents are the contract's JSON objects without ``as_of``; in lists, newest first.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

Document = dict[str, Any]

AMOUNT_MAX: Final = 2**53 - 1
LEVELS: Final = 6
_BUCKETS: Final = ("cash", "bonus", "held")
_LIMITS: Final = ("credit_limit", "balance_max", "stake_max_per_day", "withdrawal_max_per_day")
_RESERVED: Final = ("game:", "gift:", "code:", "partition:")
GIFT_STREAM: Final = "gift:"
CODE_STREAM: Final = "code:"

_decode: Final = msgspec.json.Decoder().decode


class UnknownRecord(Exception):
    """A record that the oracle cannot apply; the message names its position and the reason."""


def is_wallet(user_id: str) -> bool:
    """Whether the id is one of a wallet, not of a stream of the ledger."""
    return not user_id.startswith(_RESERVED)


def history_key(item: Document) -> str:
    """The unique key of an item of the history. Raises KeyError."""
    return f"{item['position']} {item['asset']}"


class WalletOracle:
    """One wallet, record by record."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.history: dict[str, Document] = {}
        """By ``history_key``."""
        self.history_without_private: dict[str, Document] = {}
        self.bets: dict[str, Document] = {}
        self.holds: dict[str, Document] = {}
        self.transfers: dict[str, Document] = {}
        self.orders: dict[str, Document] = {}
        self.grants: dict[str, Document] = {}
        self.adjustments: dict[str, Document] = {}
        """By id. All these dictionaries are in the order of the first events, the oldest first."""
        self._opened: Document | None = None
        self._status = "open"
        self._balances: dict[str, dict[str, int]] = {}
        self._limits: dict[str, dict[str, int | None]] = {}
        self._first_deposit: Document | None = None
        self._members = [0] * LEVELS
        self._commissions: dict[str, tuple[str, int]] = {}
        self._granted: dict[str, Document] = {}
        self._stakes: dict[str, Document] = {}
        self._by_position: dict[str, tuple[str, str]] = {}
        self._wagering: dict[str, list[tuple[int, str, int]]] = {}
        self._added: dict[str, tuple[str, int]] = {}

    # --- the documents -------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the wallet was ever opened; otherwise every read of it is ``wallet_not_found``."""
        return self._opened is not None

    def wallet(self) -> Document:
        assert self._opened is not None
        assets = sorted(self._balances.keys() | self._limits.keys())
        limits = {asset: {"credit_limit": 0} | dict.fromkeys(_LIMITS[1:]) for asset in assets}
        for asset, declared in self._limits.items():
            limits[asset] |= declared
        balances = self.balances()
        for asset in assets:
            cash, bonus = balances[asset]["cash"], balances[asset]["bonus"]
            credit = max((limits[asset]["credit_limit"] or 0) - max(-cash, 0), 0)
            balances[asset]["withdrawable"] = max(cash, 0)
            balances[asset]["available"] = balances[asset]["withdrawable"] + bonus + credit
        return {
            "user_id": self.user_id,
            "status": self._status,
            **self._opened,
            "balances": balances,
            "limits": limits,
            "first_deposit": self._first_deposit,
            **self._wagered(),
        }

    def _wagered(self) -> Document:
        """Asset → its wagering, from all additions and stakes, each with the seq of its event. An addition begins a
        new window if enough was staked before it. What is undone in an earlier window, an addition or a stake, adds
        to its surplus or is taken from it; a stake that is more than the surplus must be staked again."""
        wagering = {}
        for asset, facts in self._wagering.items():
            first, since, required, done, surplus = 0, 0, 0, 0, 0
            for seq, kind, amount in facts:
                if kind == "add":
                    if done >= required:
                        surplus += done - required
                        first, since, required, done = first or seq, seq, 0, 0
                    required += amount
                elif kind == "stake":
                    done += amount if since else 0
                elif since and int(kind) >= since:  # undone: a stake, below 0, or an addition
                    done, required = done + min(amount, 0), required - max(amount, 0)
                elif since and int(kind) >= first:
                    surplus += amount
                    required, surplus = min(required - min(surplus, 0), AMOUNT_MAX), max(surplus, 0)
            if since:
                wagering[asset] = {"required": required, "done": done, "remaining": max(required - done, 0)}
        return {"wagering": wagering} if wagering else {}

    def _wager(self, position: str, asset: str, kind: str, amount: int) -> None:
        self._wagering.setdefault(asset, []).append((_seq(position), kind, amount))

    def balances(self) -> Document:
        """By asset, for each asset that was moved or limited so far."""
        assets = sorted(self._balances.keys() | self._limits.keys())
        return {asset: dict(self._balances.get(asset, dict.fromkeys(_BUCKETS, 0))) for asset in assets}

    def stats(self) -> Document:
        games: dict[tuple[str, ...], Document] = {}
        totals: dict[tuple[str, ...], Document] = {}
        for bet in self.bets.values():
            if bet["status"] != "cancelled":
                _count_bet(games.setdefault((bet["asset"], bet["game"]), _no_bets()), bet)
                _count_bet(totals.setdefault((bet["asset"],), _no_totals()), bet)
        for order in self.orders.values():
            total = totals.setdefault((order["asset"],), _no_totals())
            if (order["kind"], order["status"]) == ("deposit", "completed"):
                _count(total["deposits"], order["amount"])
                if order["bonus"] > 0:
                    _count(total["bonuses"], order["bonus"])
            elif order["status"] == "approved":
                _count(total["withdrawals"], order["amount"])
        for grant in self._granted.values():
            if not grant["reversed"]:
                _count(totals.setdefault((grant["asset"],), _no_totals())["bonuses"], grant["amount"])
        for asset, amount in self._commissions.values():
            _count(totals.setdefault((asset,), _no_totals())["commissions"], amount)
        return {
            "user_id": self.user_id,
            "games": [
                {"asset": key[0], "game": key[1], **row} for key, row in sorted(games.items()) if _has_values(row)
            ],
            "totals": [{"asset": key[0], **row} for key, row in sorted(totals.items()) if _has_values(row)],
        }

    def referrals(self) -> Document:
        assert self._opened is not None
        commissions: dict[str, int] = {}
        for asset, amount in self._commissions.values():
            commissions[asset] = commissions.get(asset, 0) + amount
        return {
            "user_id": self.user_id,
            "referrer_id": self._opened["referrer_id"],
            "direct_count": self._members[0],
            "levels": [{"level": level, "members": members} for level, members in enumerate(self._members, 1)],
            "commissions": dict(sorted(commissions.items())),
        }

    # --- the records ---------------------------------------------------------------------------------------------

    def apply(self, record: bytes) -> None:
        """Raises UnknownRecord."""
        try:
            event: Document = _decode(record)
            position = f"{event['partition']}:{event['seq']}"
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise UnknownRecord(f"a record of {self.user_id} cannot be read: {error}") from error
        if event.get("v") != 1:
            raise UnknownRecord(
                f"the record {position} is of version {event.get('v')}, which this program does not know"
            )
        handler = _HANDLERS.get(event["type"])
        if handler is None:
            raise UnknownRecord(f"the record {position} is of type {event['type']}, which this program does not know")
        try:
            handler(self, position, event["time_us"], event["data"])
            if "wagering" in event["data"]:
                self._wager(position, event["data"]["asset"], "add", event["data"]["wagering"])
                self._added[position] = event["data"]["asset"], event["data"]["wagering"]
            self._apply_to_adjustments(position, event)
            self._apply_postings(position, event)
        except (KeyError, TypeError, ValueError) as error:
            raise UnknownRecord(
                f"the record {position} refers to something that does not exist: {error!r}"
            ) from error

    def _apply_postings(self, position: str, event: Document) -> None:
        own = f"wallet/{self.user_id}/"
        change: dict[str, dict[str, int]] = {}
        for account, asset, amount in event["postings"]:
            if account.startswith(own):
                change.setdefault(asset, dict.fromkeys(_BUCKETS, 0))[account.removeprefix(own)] += amount
        for asset in sorted(change):
            balance = self._balances.setdefault(asset, dict.fromkeys(_BUCKETS, 0))
            for bucket in _BUCKETS:
                balance[bucket] += change[asset][bucket]
            item = {
                "position": position,
                "time_us": event["time_us"],
                "type": event["type"],
                "command_id": event["command_id"],
                "asset": asset,
                "game": self._game(event["data"]) if event["type"].startswith("bet_") else None,
                "change": change[asset],
                "balances": dict(balance),
                "data": event["data"],
            }
            key = history_key(item)
            self.history[key] = self.history_without_private[key] = item
            if "private" in event["data"]:
                data = {name: value for name, value in event["data"].items() if name != "private"}
                self.history_without_private[key] = {**item, "data": data}

    def _game(self, data: Document) -> str:
        game: str = self.bets[data["bet_id"]]["game"]
        return game

    def _wallet_opened(self, _position: str, time_us: int, data: Document) -> None:
        self._opened = {"opened_at_us": time_us, "referrer_id": data.get("referrer_id")}

    def _referrer_set(self, _position: str, _time_us: int, data: Document) -> None:
        assert self._opened is not None
        self._opened["referrer_id"] = data["referrer_id"]

    def _of_a_stream(self, _position: str, _time_us: int, _data: Document) -> None:
        """On a stream of the ledger, which is no wallet."""

    def _referral_counted(self, _position: str, _time_us: int, data: Document) -> None:
        self._members[data["level"] - 1] += 1

    def _deposited(self, position: str, time_us: int, data: Document) -> None:
        self.orders[data["order_id"]] = {
            **_order(self.user_id, "deposit", position, time_us, data),
            "status": "completed",
            "resolved_at_us": time_us,
        }
        self._by_position[position] = ("order", data["order_id"])
        if data.get("bonus"):
            self.grants[data["order_id"]] = _grant(
                "deposit", position, time_us, data | {"grant_id": data["order_id"], "amount": data["bonus"]}
            )
        if self._first_deposit is None:
            self._first_deposit = {
                "order_id": data["order_id"],
                "asset": data["asset"],
                "amount": data["amount"],
                "position": position,
                "time_us": time_us,
            }

    def _withdrawal_requested(self, position: str, time_us: int, data: Document) -> None:
        self.orders[data["order_id"]] = _order(self.user_id, "withdrawal", position, time_us, data)

    def _withdrawal_approved(self, _position: str, time_us: int, data: Document) -> None:
        self.orders[data["order_id"]] |= _resolved("approved", time_us, data)

    def _withdrawal_rejected(self, _position: str, time_us: int, data: Document) -> None:
        self.orders[data["order_id"]] |= _resolved("rejected", time_us, data)

    def _bet_placed(self, position: str, time_us: int, data: Document) -> None:
        self.bets[data["bet_id"]] = {
            **{name: data[name] for name in ("bet_id", "game", "period", "selection", "asset", "stake")},
            "status": "open",
            "payout": None,
            "position": position,
            "placed_at_us": time_us,
            "settled_position": None,
            "settled_at_us": None,
            "unpaid": 0,
        }
        self._stakes[data["bet_id"]] = data["from"]
        self._wager(position, data["asset"], "stake", data["stake"])
        for grant_id, amount in data["from"]["grants"]:
            self.grants[grant_id]["remaining"] -= amount

    def _bet_settled(self, position: str, time_us: int, data: Document) -> None:
        payout, stake = data["payout"], self._stakes[data["bet_id"]]
        if stake["grants"]:
            last, _ = stake["grants"][-1]
            self.grants[last]["remaining"] += payout * stake["bonus"] // (stake["bonus"] + stake["cash"])
        self.bets[data["bet_id"]] |= {
            "status": "won" if payout > 0 else "lost",
            "payout": payout,
            "settled_position": position,
            "settled_at_us": time_us,
            "unpaid": data.get("unpaid", 0),
        }

    def _bet_cancelled(self, position: str, time_us: int, data: Document) -> None:
        if not data["before_bet"]:
            end = {"status": "cancelled", "settled_position": position, "settled_at_us": time_us}
            bet = self.bets[data["bet_id"]]
            bet |= end
            self._wager(position, bet["asset"], str(_seq(bet["position"])), -bet["stake"])
            for grant_id, amount in self._stakes[data["bet_id"]]["grants"]:
                self.grants[grant_id]["remaining"] += amount

    def _hold_placed(self, position: str, time_us: int, data: Document) -> None:
        self.holds[data["hold_id"]] = {
            "hold_id": data["hold_id"],
            "asset": data["asset"],
            "amount": data["amount"],
            "status": "open",
            "captured": None,
            "expires_at_us": data.get("expires_at_us"),
            "position": position,
            "created_at_us": time_us,
            "resolved_at_us": None,
        }

    def _hold_captured(self, _position: str, time_us: int, data: Document) -> None:
        hold = self.holds[data["hold_id"]]
        captured = data.get("amount")
        hold |= {
            "status": "captured",
            "captured": hold["amount"] if captured is None else captured,
            "resolved_at_us": time_us,
        }

    def _hold_released(self, _position: str, time_us: int, data: Document) -> None:
        self.holds[data["hold_id"]] |= {"status": "released", "resolved_at_us": time_us}

    def _hold_expired(self, _position: str, time_us: int, data: Document) -> None:
        self.holds[data["hold_id"]] |= {"status": "expired", "resolved_at_us": time_us}

    def _transfer_sent(self, position: str, time_us: int, data: Document) -> None:
        self.transfers[data["transfer_id"]] = {
            **{name: data[name] for name in ("transfer_id", "to_user_id", "asset", "amount")},
            "status": "sent",
            "reason": None,
            "position": position,
            "created_at_us": time_us,
            "resolved_at_us": None,
        }

    def _transfer_delivered(self, _position: str, time_us: int, data: Document) -> None:
        self.transfers[data["transfer_id"]] |= {"status": "delivered", "resolved_at_us": time_us}

    def _transfer_returned(self, _position: str, time_us: int, data: Document) -> None:
        self.transfers[data["transfer_id"]] |= _resolved("returned", time_us, data)

    def _attendance_claimed(self, position: str, time_us: int, data: Document) -> None:
        self.grants[data["grant_id"]] = _grant("attendance", position, time_us, data)
        self._granted[position] = {"asset": data["asset"], "amount": data["amount"], "reversed": False}

    def _bonus_granted(self, position: str, time_us: int, data: Document) -> None:
        self.grants[data["grant_id"]] = _grant(data.get("kind", "grant"), position, time_us, data)
        self._granted[position] = {
            **{name: data[name] for name in ("grant_id", "asset", "amount")},
            "reversed": False,
        }
        self._by_position[position] = ("grant", position)

    def _gift_received(self, position: str, time_us: int, data: Document) -> None:
        self._bonus_granted(position, time_us, data)
        self.grants[data["grant_id"]]["kind"] = "gift"

    def _bonus_expired(self, _position: str, _time_us: int, data: Document) -> None:
        self.grants[data["grant_id"]]["remaining"] -= data["amount"]

    def _adjusted(self, position: str, _time_us: int, _data: Document) -> None:
        self._by_position[position] = ("adjustment", position)

    def _reversed(self, position: str, time_us: int, data: Document) -> None:
        if data["position"] in self._added:
            asset, added = self._added[data["position"]]
            self._wager(position, asset, str(_seq(data["position"])), added)
        kind, name = self._by_position[data["position"]]
        if kind == "order":
            self.orders[name] |= _resolved("reversed", time_us, data)
            if name in self.grants and self.grants[name]["position"] == data["position"]:
                self.grants[name]["remaining"] = 0
        elif kind == "grant":
            self._granted[name]["reversed"] = True
            self.grants[self._granted[name]["grant_id"]]["remaining"] = 0

    def _apply_to_adjustments(self, position: str, event: Document) -> None:
        """Besides its data, an adjustment has the actors of its events."""
        data, time_us = event["data"], event["time_us"]
        match event["type"]:
            case "adjustment_proposed":
                self.adjustments[data["adjustment_id"]] = {
                    "user_id": self.user_id,
                    **{name: data[name] for name in ("adjustment_id", "asset", "amount", "reason")},
                    "status": "proposed",
                    "proposed_by": event["actor"],
                    "resolved_by": None,
                    "position": position,
                    "created_at_us": time_us,
                    "resolved_at_us": None,
                }
            case "adjustment_approved" | "adjustment_rejected":
                self.adjustments[data["adjustment_id"]] |= {
                    "status": event["type"].removeprefix("adjustment_"),
                    "resolved_by": event["actor"],
                    "resolved_at_us": time_us,
                }

    def _limits_set(self, _position: str, _time_us: int, data: Document) -> None:
        limits = self._limits.setdefault(data["asset"], {})
        for name in _LIMITS:
            if name in data:
                limits[name] = 0 if name == "credit_limit" and data[name] is None else data[name]

    def _wallet_frozen(self, _position: str, _time_us: int, _data: Document) -> None:
        self._status = "frozen"

    def _wallet_unfrozen(self, _position: str, _time_us: int, _data: Document) -> None:
        self._status = "open"

    def _wallet_closed(self, _position: str, _time_us: int, _data: Document) -> None:
        self._status = "closed"

    def _commission_paid(self, position: str, _time_us: int, data: Document) -> None:
        if data["amount"]:
            self._commissions[position] = (data["asset"], data["amount"])

    def _only_money(self, _position: str, _time_us: int, _data: Document) -> None:
        """Nothing beyond its postings."""


_HANDLERS: Final[dict[str, Callable[[WalletOracle, str, int, Document], None]]] = {
    "wallet_opened": WalletOracle._wallet_opened,
    "referral_counted": WalletOracle._referral_counted,
    "referral_void": WalletOracle._only_money,
    "deposited": WalletOracle._deposited,
    "withdrawal_requested": WalletOracle._withdrawal_requested,
    "withdrawal_approved": WalletOracle._withdrawal_approved,
    "withdrawal_rejected": WalletOracle._withdrawal_rejected,
    "bet_placed": WalletOracle._bet_placed,
    "bet_settled": WalletOracle._bet_settled,
    "bet_cancelled": WalletOracle._bet_cancelled,
    "hold_placed": WalletOracle._hold_placed,
    "hold_captured": WalletOracle._hold_captured,
    "hold_released": WalletOracle._hold_released,
    "hold_expired": WalletOracle._hold_expired,
    "transfer_sent": WalletOracle._transfer_sent,
    "transfer_received": WalletOracle._only_money,
    "transfer_refused": WalletOracle._only_money,
    "transfer_delivered": WalletOracle._transfer_delivered,
    "transfer_returned": WalletOracle._transfer_returned,
    "result_recorded": WalletOracle._of_a_stream,
    "period_cancelled": WalletOracle._of_a_stream,
    "bonus_granted": WalletOracle._bonus_granted,
    "bonus_expired": WalletOracle._bonus_expired,
    "attendance_claimed": WalletOracle._attendance_claimed,
    "adjusted": WalletOracle._adjusted,
    "adjustment_proposed": WalletOracle._only_money,
    "adjustment_approved": WalletOracle._only_money,
    "adjustment_rejected": WalletOracle._only_money,
    "reversed": WalletOracle._reversed,
    "limits_set": WalletOracle._limits_set,
    "wallet_frozen": WalletOracle._wallet_frozen,
    "wallet_unfrozen": WalletOracle._wallet_unfrozen,
    "wallet_closed": WalletOracle._wallet_closed,
    "agent_level_set": WalletOracle._only_money,
    "referral_valid": WalletOracle._only_money,
    "commission_due": WalletOracle._only_money,
    "commission_paid": WalletOracle._commission_paid,
    **dict.fromkeys(
        ("gift_created", "gift_closed", "gift_share_granted", "gift_share_refused"), WalletOracle._of_a_stream
    ),
    **dict.fromkeys(("referral_resolved", "referral_unknown"), WalletOracle._of_a_stream),
    "gift_claimed": WalletOracle._only_money,
    "gift_received": WalletOracle._gift_received,
    "gift_refused": WalletOracle._only_money,
    "referral_code_claimed": WalletOracle._only_money,
    "referral_code_granted": WalletOracle._only_money,
    "referral_code_refused": WalletOracle._only_money,
    "referrer_set": WalletOracle._referrer_set,
}


def gift_of(code: str, records: Iterable[bytes]) -> Document | None:
    """The document of the gift after these records of its stream, as if it had not expired; None if there is none."""
    gift: Document | None = None
    for event in map(_decode, records):
        data = event["data"]
        if event["type"] == "gift_created":
            gift = {name: data[name] for name in ("asset", "amount", "claims")}
            gift |= {"code": code, "claimed": 0, "status": "open", "expires_at_us": data.get("expires_at_us")}
        elif event["type"] == "gift_share_granted":
            assert gift is not None
            gift["claimed"] += 1
            if gift["claimed"] == gift["claims"] and gift["status"] == "open":
                gift["status"] = "used_up"
        elif event["type"] == "gift_closed":
            assert gift is not None
            gift["status"] = "closed"
    return gift


def owned_code_of(code: str, records: Iterable[bytes]) -> Document | None:
    """The document of the code after these records of its stream; None if it has no owner."""
    for event in map(_decode, records):
        if event["type"] == "referral_code_granted":
            return {"code": code, "user_id": event["data"]["claimed_by"]}
    return None


def _seq(position: str) -> int:
    return int(position.partition(":")[2])


def _order(user_id: str, kind: str, position: str, time_us: int, data: Document) -> Document:
    return {
        "user_id": user_id,
        "order_id": data["order_id"],
        "kind": kind,
        "asset": data["asset"],
        "amount": data["amount"],
        "bonus": data.get("bonus") or 0,
        "status": "pending",
        "reason": None,
        "position": position,
        "created_at_us": time_us,
        "resolved_at_us": None,
    }


def _grant(kind: str, position: str, time_us: int, data: Document) -> Document:
    return {
        "grant_id": data["grant_id"],
        "kind": kind,
        "asset": data["asset"],
        "amount": data["amount"],
        "remaining": data["amount"],
        "expires_at_us": data.get("expires_at_us"),
        "position": position,
        "created_at_us": time_us,
    }


def _resolved(status: str, time_us: int, data: Document) -> Document:
    return {"status": status, "reason": data.get("reason"), "resolved_at_us": time_us}


def _no_bets() -> Document:
    return dict.fromkeys(("bets", "wins", "staked", "paid_out", "net", "biggest_win"), 0)


def _no_totals() -> Document:
    kinds = ("deposits", "withdrawals", "bonuses", "commissions")
    return _no_bets() | {kind: {"count": 0, "amount": 0} for kind in kinds}


def _count_bet(row: Document, bet: Document) -> None:
    row["bets"] += 1
    row["staked"] += bet["stake"]
    if bet["payout"] is not None:
        row["wins"] += bet["payout"] > 0
        row["paid_out"] += bet["payout"]
        row["net"] += bet["payout"] - bet["stake"]
        row["biggest_win"] = max(row["biggest_win"], bet["payout"])


def _count(counted: Document, amount: int) -> None:
    counted["count"] += 1
    counted["amount"] += amount


def _has_values(row: Document) -> bool:
    return any(any(value.values()) if isinstance(value, dict) else value for value in row.values())


class Supply:
    """The sum of all postings by asset and account: where money came from, where it is, where it went."""

    def __init__(self) -> None:
        self.accounts: dict[str, dict[str, int]] = {}
        """Asset → account → amount. The wallets are summed by bucket: ``wallets/cash``, ``wallets/bonus`` …"""

    def add(self, postings: Iterable[tuple[str, str, int]]) -> None:
        for account, asset, amount in postings:
            name = f"wallets/{account.rpartition('/')[2]}" if account.startswith("wallet/") else account
            accounts = self.accounts.setdefault(asset, {})
            accounts[name] = accounts.get(name, 0) + amount

    def remainders(self) -> Mapping[str, int]:
        """Asset → sum of its accounts if that is not zero; empty if all postings are balanced."""
        sums = {asset: sum(accounts.values()) for asset, accounts in self.accounts.items()}
        return {asset: remainder for asset, remainder in sums.items() if remainder}
