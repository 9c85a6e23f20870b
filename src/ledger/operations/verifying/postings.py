"""Recomputes the postings of an event, and the balances after it, from its type, its data and the earlier events.

Invariants:
(1) nothing of ``ledger`` is imported here: a mistake in the deciders must not be repeated in the auditor;
(2) memory grows with wallets, limits and open items only: an order, bet, hold, proposal or grant is forgotten when it
    is resolved or used up;
(3) the bonus of a wallet is the sum of what remains of its grants.

Where the postings depend on earlier events: a settlement divides its payout as the stake was divided, a cancelled bet
returns to its buckets, a capture releases the rest of its hold, an approval or rejection moves what was requested, a
reversal posts the opposite of the event that it names.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from msgspec import UNSET, UnsetType

from ledger.operations.verifying.money_flows import MoneyFlows
from ledger.operations.verifying.money_rules import MoneyRules
from ledger.operations.verifying.records import Record
from ledger.operations.verifying.shapes import Buckets, Posting

_DEPOSITS: Final = "house/deposits"
_BONUSES: Final = "house/bonuses"
_WITHDRAWALS: Final = "house/withdrawals"
_STAKES: Final = "house/stakes"
_FEES: Final = "house/fees"
_PAYOUTS: Final = "house/payouts"
_CAPTURES: Final = "house/captures"
_ADJUSTMENTS: Final = "house/adjustments"
_TRANSIT: Final = "transit/transfers"

_AMOUNT_MAX: Final = 2**53 - 1


class Mismatch(Exception):
    """A record differs from what its type, its data and the earlier events give. The text says how.

    ``partition`` and ``seq`` name the record where it is not the one that is being read.
    """

    def __init__(self, reason: str, partition: int | None = None, seq: int | None = None) -> None:
        super().__init__(reason)
        self.partition, self.seq = partition, seq


Move = tuple[list[Posting], str, int, int, int]
"""The postings, the asset, and what they add to the wallet's cash, bonus and held."""

LookUp = Callable[[int], Record | None]
"""Seq → the record with this seq in the partition of the event; None if there is none."""

Handler = Callable[["Book", Record, Any, LookUp], Move | None]
"""Checks an event of one type, and returns what it moves; None if it moves no money. Raises Mismatch."""


class PlacedBet(NamedTuple):
    """What a bet took from the wallet; for a game with rules also what its outcome must name. ``game`` is empty for
    the others."""

    asset: str
    cash: int
    bonus: int
    grants: list[tuple[str, int]]
    fee: int = 0
    game: str = ""
    period: str = ""
    selection: str = ""
    seq: int = 0
    rules: str = ""


class Book:
    """The balances and open items of all wallets."""

    def __init__(self, rules: MoneyRules, referrers: Mapping[str, str]) -> None:
        """``referrers``: wallet → its referrer, as far as the log has been read."""
        self._wallets: dict[str, dict[str, Buckets]] = {}
        self._orders: dict[tuple[str, str], tuple[str, int]] = {}
        self._bets: dict[tuple[str, str], PlacedBet] = {}
        self.ended: PlacedBet | None = None
        """The bet of a game with rules that the last event has ended; None if it was another event."""
        self._holds: dict[tuple[str, str], tuple[str, int, int | UnsetType, int]] = {}
        self._proposals: dict[tuple[str, str], tuple[str, int, str]] = {}
        self._grants: dict[tuple[str, str], list[Any]] = {}
        self._credit: dict[tuple[str, str], int] = {}
        self.turnover: dict[tuple[str, str, str, str], tuple[int, int, int]] = {}
        """(wallet, asset, day, rules) → the stakes that earn a commission, when it is due, the seq of the last."""
        self.carried_e9: dict[tuple[str, str], int] = {}
        self.gifts: dict[str, Any] = {}
        """Code → its gift, for ``verifying.gifts``."""
        self.code_owners: dict[str, str] = {}
        """Referral code → its owner."""
        self._in_transit: dict[tuple[str, str], int] = {}
        """(wallet, asset) → what its transfers under way may bring back."""
        self.agent_levels: dict[str, int] = {}
        self.referrers = referrers
        self.flows = MoneyFlows(rules)

    @property
    def open_items(self) -> int:
        """How many orders, bets, holds, proposals and grants are remembered."""
        items = (self._orders, self._bets, self._holds, self._proposals, self._grants)
        return sum(len(kept) for kept in items)

    def recompute(self, event: Record, handle: Handler, look_up: LookUp) -> None:
        """Give the event the postings and balances that it must have, and remember what later events need.

        The event comes without both. ``handle`` is the one of its type in ``HANDLERS``. Raises Mismatch.
        """
        move = handle(self, event, event.data, look_up)
        if move is None:
            return
        event.postings, asset, cash, bonus, held = move
        try:
            buckets = self._wallets[asset][event.user_id]
        except KeyError:
            buckets = self._wallets.setdefault(asset, {})[event.user_id] = Buckets(0, 0, 0)
        buckets.cash += cash
        if bonus:
            buckets.bonus += bonus
        if held:
            buckets.held += held
        event.balances = {asset: buckets}
        if buckets.cash < 0 and cash < 0:
            credit = self._credit.get((event.user_id, asset), 0) if event.type == "bet_placed" else 0
            if buckets.cash < -credit:
                raise Mismatch(f"it takes more {asset} than the wallet has: cash is {buckets.cash}, credit {credit}")
        assert buckets.bonus >= 0, event
        assert buckets.held >= 0, event

    def room(self, user_id: str, asset: str) -> int:
        """How much more of the asset the wallet can take: all that it has, and all that open bets and transfers may
        bring back, is at most the largest amount. Goes through all open bets; few events ask."""
        has = self._wallets.get(asset, {}).get(user_id, Buckets(0, 0, 0))
        staked = sum(
            bet.cash + bet.bonus for (of, _), bet in self._bets.items() if of == user_id and bet.asset == asset
        )
        return _AMOUNT_MAX - has.cash - has.bonus - has.held - staked - self._in_transit.get((user_id, asset), 0)

    def add_in_transit(self, user_id: str, asset: str, amount: int) -> None:
        total = self._in_transit.pop((user_id, asset), 0) + amount
        if total:
            self._in_transit[user_id, asset] = total

    # --- grants ---------------------------------------------------------------------------------------------------

    def add_to_grant(self, event: Record, grant_id: str, asset: str, amount: int) -> None:
        key = (event.user_id, grant_id)
        grant = self._grants.get(key)
        if grant is None:
            self._grants[key] = [asset, amount, event.seq]
        elif grant[0] != asset:
            raise Mismatch(f"the grant {grant_id} is of {grant[0]}, not of {asset}")
        else:
            grant[1] += amount
            grant[2] = event.seq

    def take_from_grant(self, event: Record, grant_id: str, asset: str, amount: int, *, whole: bool) -> int:
        """Return the seq of the last event that put bonus into the grant. ``whole``: nothing may remain."""
        key = (event.user_id, grant_id)
        grant = self._grants.get(key)
        if grant is None or grant[0] != asset:
            raise Mismatch(f"no bonus of {asset} is left in the grant {grant_id}")
        if amount > grant[1] or amount < 0 or (whole and amount != grant[1]):
            raise Mismatch(f"it takes {amount} {asset} from the grant {grant_id}, which has {grant[1]}")
        grant[1] -= amount
        if grant[1] == 0:
            del self._grants[key]
        seq: int = grant[2]
        return seq


def amount_of(value: int, least: int = 1) -> int:
    if not least <= value <= _AMOUNT_MAX:
        raise Mismatch(f"{value} is out of the range of an amount")
    return value


def _nothing_wrong(reason: str | None) -> None:
    if reason is not None:
        raise Mismatch(reason)


def _cash(event: Record) -> str:
    return f"wallet/{event.user_id}/cash"


def _bonus(event: Record) -> str:
    return f"wallet/{event.user_id}/bonus"


def _held(event: Record) -> str:
    return f"wallet/{event.user_id}/held"


def into_wallet(event: Record, account: str, asset: str, cash: int, bonus: int) -> Move:
    postings = [(account, asset, -(cash + bonus))]
    if cash:
        postings.append((_cash(event), asset, cash))
    if bonus:
        postings.append((_bonus(event), asset, bonus))
    return postings, asset, cash, bonus, 0


def _hold(event: Record, asset: str, amount: int) -> Move:
    """Move an amount from cash to held; a negative one from held to cash."""
    if amount > 0:
        return [(_cash(event), asset, -amount), (_held(event), asset, amount)], asset, -amount, 0, amount
    return [(_held(event), asset, amount), (_cash(event), asset, -amount)], asset, -amount, 0, amount


def _adjust(event: Record, asset: str, amount: int) -> Move:
    amount_of(abs(amount))
    return [(_cash(event), asset, amount), (_ADJUSTMENTS, asset, -amount)], asset, amount, 0, 0


# --- one function for each event type that moves money or is remembered ---------------------------------------------


def _opened(book: Book, event: Record, _: Any, __: LookUp) -> None:
    book.flows.opened(event)


def _deposited(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount = data.asset, amount_of(data.amount)
    _nothing_wrong(book.flows.deposited(event))
    postings = [(_DEPOSITS, asset, -amount), (_cash(event), asset, amount)]
    if not data.bonus:
        return postings, asset, amount, 0, 0
    bonus = amount_of(data.bonus)
    book.add_to_grant(event, data.order_id, asset, bonus)
    postings += [(_BONUSES, asset, -bonus), (_bonus(event), asset, bonus)]
    return postings, asset, amount, bonus, 0


def _withdrawal_requested(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount = data.asset, amount_of(data.amount)
    book._orders[event.user_id, data.order_id] = (asset, amount)
    return _hold(event, asset, amount)


def _withdrawal_approved(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount = _resolved(book._orders, event, "withdrawal", data.order_id)
    return [(_held(event), asset, -amount), (_WITHDRAWALS, asset, amount)], asset, 0, 0, -amount


def _withdrawal_rejected(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount = _resolved(book._orders, event, "withdrawal", data.order_id)
    return _hold(event, asset, -amount)


def _bet_placed(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, source, stake = data.asset, data.source, data.stake
    cash, bonus, grants = source.cash, source.bonus, source.grants
    if cash + bonus != stake or cash < 0 or bonus < 0 or not 0 < stake <= _AMOUNT_MAX:
        raise Mismatch(f"its stake is {stake}, but it comes from {cash} of cash and {bonus} of bonus")
    if bonus or grants:
        if sum(amount for _, amount in grants) != bonus:
            raise Mismatch(f"its grants do not add up to {bonus}, the bonus of the stake")
        for grant_id, amount in grants:
            book.take_from_grant(event, grant_id, asset, amount_of(amount), whole=False)
    if data.rules is not UNSET:
        return _game_bet_placed(book, event, data)
    if data.fee is not UNSET:
        raise Mismatch("it has a fee, but no rules")
    book._bets[event.user_id, data.bet_id] = PlacedBet(asset, cash, bonus, grants)
    user_id = event.user_id
    if not bonus:
        return [(f"wallet/{user_id}/cash", asset, -cash), (_STAKES, asset, stake)], asset, -cash, 0, 0
    postings = [(_bonus(event), asset, -bonus), (_STAKES, asset, stake)]
    if cash:
        postings.insert(0, (_cash(event), asset, -cash))
    return postings, asset, -cash, -bonus, 0


def _game_bet_placed(book: Book, event: Record, data: Any) -> Move:
    asset, source, stake, fee = data.asset, data.source, data.stake, data.fee
    if type(fee) is not int or not 0 <= fee <= stake:
        raise Mismatch(f"its fee is {fee}, of a stake of {stake}")
    of_game = (fee, data.game, data.period, data.selection, event.seq, data.rules)
    book._bets[event.user_id, data.bet_id] = PlacedBet(asset, source.cash, source.bonus, source.grants, *of_game)
    sides = [(_cash(event), -source.cash), (_bonus(event), -source.bonus), (_STAKES, stake - fee), (_FEES, fee)]
    return [(account, asset, amount) for account, amount in sides if amount], asset, -source.cash, -source.bonus, 0


def _ended(book: Book, event: Record, data: Any) -> PlacedBet:
    """The open bet that the event ends. A game with rules ends its own bets, and only those; a command may cancel one
    too, before its period closes."""
    bet: PlacedBet = _resolved(book._bets, event, "bet", data.bet_id)
    own = event.command_id[:1] == "~"
    if own != (data.cause is not UNSET) or own != (data.asset is not UNSET):
        raise Mismatch("only what the ledger itself ends has a cause and an asset")
    if (own and not bet.game) or (not own and bet.game and event.type == "bet_settled"):
        raise Mismatch(f"the bet {data.bet_id} is not ended by {'its period' if own else 'a command'}")
    if own and data.asset != bet.asset:
        raise Mismatch(f"the bet {data.bet_id} is of {bet.asset}")
    book.ended = bet if bet.game else None
    return bet


def _check_legs(bet: PlacedBet, data: Any) -> None:
    """The legs are those of the selection, share its stake exactly, and pay what the bet pays."""
    if data.legs is UNSET:
        raise Mismatch("a settlement by the result of a period has legs")
    part, rest = divmod(bet.cash + bet.bonus, len(data.legs) or 1)
    stakes = [part + (at < rest) for at in range(len(data.legs))]
    if "+".join(leg for leg, _, _ in data.legs) != bet.selection or [stake for _, stake, _ in data.legs] != stakes:
        raise Mismatch(f"its legs are not those of {bet.selection}, with equal parts of the stake")
    unpaid = 0 if data.unpaid is UNSET else data.unpaid
    if sum(payout for _, _, payout in data.legs) != data.payout + unpaid or any(pay < 0 for _, _, pay in data.legs):
        raise Mismatch(f"its legs do not pay {data.payout} and leave {unpaid} unpaid")


def _add_turnover(book: Book, event: Record, data: Any, bet: PlacedBet) -> None:
    """The stake earns a referrer a commission, later or at once."""
    _nothing_wrong(book.flows.settled(event, bet.asset, referred=event.user_id in book.referrers))
    day = datetime.fromtimestamp(event.time_us // 86_400_000_000 * 86_400, UTC).date().isoformat()
    key = (event.user_id, bet.asset, day, data.commission_rules)
    stake, due_at_us, _ = book.turnover.get(key, (0, data.commission_at_us, 0))
    book.turnover[key] = (stake + bet.cash + bet.bonus, due_at_us, event.seq)


def _bet_settled(book: Book, event: Record, data: Any, _: LookUp) -> Move | None:
    bet = _ended(book, event, data)
    if data.commission_at_us is not UNSET or data.commission_rules is not UNSET:
        _add_turnover(book, event, data, bet)
    asset, cash, bonus, grants = bet[:4]
    if bet.game:
        _check_legs(bet, data)
    elif data.legs is not UNSET or data.unpaid is not UNSET:
        raise Mismatch("a settlement by a command has no legs")
    payout = data.payout
    if payout == 0:
        return None
    amount_of(payout)
    if not bonus:
        postings = [(_PAYOUTS, asset, -payout), (f"wallet/{event.user_id}/cash", asset, payout)]
        return postings, asset, payout, 0, 0
    to_bonus = payout * bonus // (cash + bonus)
    if to_bonus:
        book.add_to_grant(event, grants[-1][0], asset, to_bonus)
    return into_wallet(event, _PAYOUTS, asset, payout - to_bonus, to_bonus)


def _bet_cancelled(book: Book, event: Record, data: Any, _: LookUp) -> Move | None:
    if data.before_bet:
        return None
    bet = _ended(book, event, data)
    asset, cash, bonus, grants = bet[:4]
    stake = cash + bonus
    if (data.cause is UNSET) != (data.amount is UNSET) or (data.amount is not UNSET and data.amount != stake):
        raise Mismatch(f"the stake of the bet {data.bet_id} is {stake}")
    for grant_id, amount in grants:
        book.add_to_grant(event, grant_id, asset, amount)
    if not bet.fee:
        return into_wallet(event, _STAKES, asset, cash, bonus)
    sides = [(_STAKES, bet.fee - stake), (_FEES, -bet.fee), (_cash(event), cash), (_bonus(event), bonus)]
    return [(account, asset, amount) for account, amount in sides if amount], asset, cash, bonus, 0


def _hold_placed(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount = data.asset, amount_of(data.amount)
    book._holds[event.user_id, data.hold_id] = (asset, amount, data.expires_at_us, event.seq)
    return _hold(event, asset, amount)


def _hold_expired(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount, expires_at_us, seq = _resolved(book._holds, event, "hold", data.hold_id)
    if (asset, amount) != (data.asset, data.amount):
        raise Mismatch(f"the hold {data.hold_id} is of {amount} {asset}")
    if expires_at_us is UNSET:
        raise Mismatch(f"the hold {data.hold_id} has no expiry")
    if event.time_us < expires_at_us:
        raise Mismatch(f"the hold {data.hold_id} expires at {expires_at_us}, after this event")
    caused_by(event, data.cause, seq)
    return _hold(event, asset, -amount)


def _hold_captured(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, held, _, _ = _resolved(book._holds, event, "hold", data.hold_id)
    amount = held if data.amount is UNSET else amount_of(data.amount)
    if amount > held:
        raise Mismatch(f"it captures {amount} of the hold {data.hold_id}, which is of {held}")
    postings = [(_held(event), asset, -held), (_CAPTURES, asset, amount)]
    if held > amount:
        postings.append((_cash(event), asset, held - amount))
    return postings, asset, held - amount, 0, -held


def _hold_released(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount, _, _ = _resolved(book._holds, event, "hold", data.hold_id)
    return _hold(event, asset, -amount)


def _transfer_sent(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount = data.asset, amount_of(data.amount)
    book.add_in_transit(event.user_id, asset, amount)
    return [(_cash(event), asset, -amount), (_TRANSIT, asset, amount)], asset, -amount, 0, 0


def _transfer_received(_: Book, event: Record, data: Any, __: LookUp) -> Move:
    return into_wallet(event, _TRANSIT, data.asset, amount_of(data.amount), 0)


def _transfer_delivered(book: Book, event: Record, data: Any, _: LookUp) -> None:
    book.add_in_transit(event.user_id, data.asset, -data.amount)


def _transfer_returned(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    book.add_in_transit(event.user_id, data.asset, -data.amount)
    return into_wallet(event, _TRANSIT, data.asset, amount_of(data.amount), 0)


def _bonus_granted(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    _nothing_wrong(book.flows.granted(event, lambda: book.room(event.user_id, data.asset)))
    book.add_to_grant(event, data.grant_id, data.asset, amount_of(data.amount))
    return into_wallet(event, _BONUSES, data.asset, 0, data.amount)


def _attendance_claimed(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    _nothing_wrong(book.flows.attended(event))
    book.add_to_grant(event, data.grant_id, data.asset, amount_of(data.amount))
    return into_wallet(event, _BONUSES, data.asset, 0, data.amount)


def _bonus_expired(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount = data.asset, amount_of(data.amount)
    seq = book.take_from_grant(event, data.grant_id, asset, amount, whole=True)
    caused_by(event, data.cause, seq)
    return [(_bonus(event), asset, -amount), (_BONUSES, asset, amount)], asset, 0, -amount, 0


def _adjusted(_: Book, event: Record, data: Any, __: LookUp) -> Move:
    return _adjust(event, data.asset, data.amount)


def _adjustment_proposed(book: Book, event: Record, data: Any, _: LookUp) -> None:
    book._proposals[event.user_id, data.adjustment_id] = (data.asset, data.amount, event.actor)


def _adjustment_approved(book: Book, event: Record, data: Any, _: LookUp) -> Move:
    asset, amount, proposer = _resolved(book._proposals, event, "proposed adjustment", data.adjustment_id)
    if proposer == event.actor:
        raise Mismatch(f"{proposer} proposed the adjustment {data.adjustment_id} and approves it")
    return _adjust(event, asset, amount)


def _adjustment_rejected(book: Book, event: Record, data: Any, _: LookUp) -> None:
    _resolved(book._proposals, event, "proposed adjustment", data.adjustment_id)


def _reversed(book: Book, event: Record, data: Any, look_up: LookUp) -> Move:
    partition, _, seq = data.position.partition(":")
    original = None
    if partition == str(event.partition) and seq.isascii() and seq.isdigit() and int(seq[:17]) < event.seq:
        original = look_up(int(seq[:17]))
    if original is None or original.user_id != event.user_id or original.type not in _REVERSIBLE:
        raise Mismatch(f"{data.position} is not a deposit, a grant or an adjustment of this wallet")
    of = original.data
    cash = of.amount if original.type != "bonus_granted" else 0
    bonus = of.amount if original.type == "bonus_granted" else (original.type == "deposited" and of.bonus) or 0
    if bonus:
        grant_id = of.order_id if original.type == "deposited" else of.grant_id
        book.take_from_grant(event, grant_id, of.asset, bonus, whole=True)
    if original.type == "deposited":
        book.flows.reversed(original)
    postings = [(account, asset, -amount) for account, asset, amount in original.postings]
    return postings, of.asset, -cash, -bonus, 0


_REVERSIBLE: Final = frozenset({"deposited", "bonus_granted", "adjusted"})


def _limits_set(book: Book, event: Record, data: Any, _: LookUp) -> None:
    limit = data.credit_limit
    if limit is None or isinstance(limit, int):
        key = (event.user_id, data.asset)
        book._credit.pop(key, None)
        if limit:
            book._credit[key] = limit


def moves_nothing(_: Book, __: Record, ___: Any, ____: LookUp) -> None:
    """The handler of every type that is not in ``HANDLERS``: no money moves, and nothing is remembered."""


HANDLERS: Final[dict[str, Handler]] = {
    "wallet_opened": _opened,
    "deposited": _deposited,
    "withdrawal_requested": _withdrawal_requested,
    "withdrawal_approved": _withdrawal_approved,
    "withdrawal_rejected": _withdrawal_rejected,
    "bet_placed": _bet_placed,
    "bet_settled": _bet_settled,
    "bet_cancelled": _bet_cancelled,
    "hold_placed": _hold_placed,
    "hold_expired": _hold_expired,
    "hold_captured": _hold_captured,
    "hold_released": _hold_released,
    "transfer_sent": _transfer_sent,
    "transfer_received": _transfer_received,
    "transfer_delivered": _transfer_delivered,
    "transfer_returned": _transfer_returned,
    "bonus_granted": _bonus_granted,
    "bonus_expired": _bonus_expired,
    "attendance_claimed": _attendance_claimed,
    "adjusted": _adjusted,
    "adjustment_proposed": _adjustment_proposed,
    "adjustment_approved": _adjustment_approved,
    "adjustment_rejected": _adjustment_rejected,
    "reversed": _reversed,
    "limits_set": _limits_set,
}


def _resolved(kept: dict[tuple[str, str], Any], event: Record, kind: str, name: str) -> Any:
    """The open item that the event resolves. Raises Mismatch where it is not open."""
    item = kept.pop((event.user_id, name), None)
    if item is None:
        raise Mismatch(f"the wallet has no open {kind} {name}")
    return item


def caused_by(event: Record, cause: str, seq: int) -> None:
    if cause != f"{event.partition}:{seq}":
        raise Mismatch(f"it names {cause} as its cause, the cause is {event.partition}:{seq}")


def difference(stated: Record, expected: Record) -> str | None:
    """What is wrong with the postings and balances of a record, as exactly as possible; None if nothing is.

    The order of the postings is free.
    """
    if stated.postings != expected.postings and sorted(stated.postings) != sorted(expected.postings):
        return _wrong_postings(stated, expected.postings)
    if stated.balances.keys() != expected.balances.keys():
        return "its balances are not of the assets that it moves"
    for asset, buckets in expected.balances.items():
        said = stated.balances[asset]
        if said != buckets:
            return (
                f"the postings so far give {stated.user_id} {buckets.cash}, {buckets.bonus}, {buckets.held} {asset} "
                f"(cash, bonus, held), the event says {said.cash}, {said.bonus}, {said.held}: this event or an "
                "earlier one of the wallet was changed"
            )
    return None


def _wrong_postings(event: Record, expected: list[Posting]) -> str:
    sums: dict[str, int] = {}
    for _, asset, amount in event.postings:
        sums[asset] = sums.get(asset, 0) + amount
    for asset, total in sums.items():
        if total:
            return f"its postings of {asset} sum to {total}, not to zero"
    own = f"wallet/{event.user_id}/"
    for account, _, _ in event.postings:
        if account.startswith("wallet/") and not account.startswith(own):
            return f"it posts to {account}, another wallet"
        if account.startswith(own) and account[len(own) :] not in ("cash", "bonus", "held"):
            return f"there is no account {account}"
    if any(stated.bonus < 0 or stated.held < 0 for stated in event.balances.values()):
        return "a bucket that it states is below zero"
    return f"its postings are {_shown(event.postings)}, its type and data give {_shown(expected)}"


def _shown(postings: list[Posting]) -> str:
    return ", ".join(f"{account} {amount:+d} {asset}" for account, asset, amount in postings) or "none"
