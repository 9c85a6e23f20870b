"""Withdrawals: requested within the bounds of the rules and the limits of the wallet, then approved or rejected."""

from ledger.core.case import (
    Case,
    Decision,
    already_resolved,
    event_of,
    formatted,
    lacks_cash,
    not_found,
    out_of_range,
    reused,
    unknown_asset,
)
from ledger.core.commands import ApproveWithdrawal, RejectWithdrawal, RequestWithdrawal
from ledger.core.events import (
    HOUSE_WITHDRAWALS,
    Balance,
    WithdrawalApproved,
    WithdrawalRejected,
    WithdrawalRequested,
)
from ledger.core.items import Order, order_key
from ledger.core.money import is_amount
from ledger.core.money_rules import MoneyRules
from ledger.core.postings import balances_with_held, move
from ledger.core.rejections import Code, Rejection
from ledger.core.wagering import remaining
from ledger.core.wallet import DAY_US, balance_of, day_count, limits_of


def request_withdrawal(case: Case, command: RequestWithdrawal) -> Decision:
    wallet, asset, amount = case.wallet, command.asset, command.amount
    if case.items[order_key(command.order_id)] is not None:
        return reused(Code.ORDER_ID_REUSED, "order_id", command.order_id)
    if asset not in case.assets:
        return unknown_asset(case, asset)
    if not is_amount(amount):
        return out_of_range(case, "amount", asset, amount)
    rules = case.rules.money.get(asset)
    if rules is not None and (refusal := _refused_by_rules(case, command, rules)):
        return refusal
    maximum = limits_of(wallet, asset).withdrawal_max_per_day
    if maximum is not None:
        requested = day_count(wallet, asset, case.time_us // DAY_US).withdrawn
        if requested + amount > maximum:
            return Rejection(
                Code.WITHDRAWAL_MAX_EXCEEDED,
                f"{formatted(case, asset, requested)} of {formatted(case, asset, maximum)} were requested for "
                "withdrawal today",
                {"withdrawal_max_per_day": maximum, "requested_today": requested},
            )
    if refusal := lacks_cash(case, asset, amount):
        return refusal
    return event_of(
        case,
        WithdrawalRequested(
            amount=amount,
            asset=asset,
            metadata=command.metadata,
            order_id=command.order_id,
            rules=None if rules is None else case.rules.money_digest,
        ),
        move(wallet.user_id, "cash", "held", asset, amount),
        balances_with_held(wallet, asset, amount),
    )


def _refused_by_rules(case: Case, command: RequestWithdrawal, rules: MoneyRules) -> Rejection | None:
    asset, amount = command.asset, command.amount
    least, most, per_day = rules.withdrawal_min, rules.withdrawal_max, rules.withdrawal_per_day
    bounds: dict[str, int | str] = {
        name: bound for name, bound in (("min", least), ("max", most)) if bound is not None
    }
    if least is not None and amount < least:
        detail = f"{formatted(case, asset, amount)} is less than {formatted(case, asset, least)}, the least"
        return Rejection(Code.WITHDRAWAL_OUT_OF_BOUNDS, detail, bounds)
    if most is not None and amount > most:
        detail = f"{formatted(case, asset, amount)} is more than {formatted(case, asset, most)}, the most"
        return Rejection(Code.WITHDRAWAL_OUT_OF_BOUNDS, detail, bounds)
    requests = day_count(case.wallet, asset, case.time_us // DAY_US).requests
    if per_day is not None and requests >= per_day:
        detail = f"{requests} withdrawals of {asset} were requested today; {per_day} a day are allowed"
        return Rejection(Code.WITHDRAWALS_PER_DAY_EXCEEDED, detail, {"per_day": per_day, "requests_today": requests})
    left = remaining(case.wallet, asset)
    if left and (rules.wagering_deposit or rules.wagering_bonus):
        detail = f"{formatted(case, asset, left)} must be staked before a withdrawal"
        return Rejection(Code.WAGERING_INCOMPLETE, detail, {"remaining": left})
    return None


def approve_withdrawal(case: Case, command: ApproveWithdrawal) -> Decision:
    order = _pending_withdrawal(case, command.order_id)
    if isinstance(order, Rejection):
        return order
    wallet, asset, amount = case.wallet, order.asset, order.amount
    before = balance_of(wallet, asset)
    return event_of(
        case,
        WithdrawalApproved(metadata=command.metadata, order_id=command.order_id, reason=command.reason),
        ((f"wallet/{wallet.user_id}/held", asset, -amount), (HOUSE_WITHDRAWALS, asset, amount)),
        {asset: Balance(before.cash, before.bonus, before.held - amount)},
    )


def reject_withdrawal(case: Case, command: RejectWithdrawal) -> Decision:
    order = _pending_withdrawal(case, command.order_id)
    if isinstance(order, Rejection):
        return order
    return event_of(
        case,
        WithdrawalRejected(metadata=command.metadata, order_id=command.order_id, reason=command.reason),
        move(case.wallet.user_id, "held", "cash", order.asset, order.amount),
        balances_with_held(case.wallet, order.asset, -order.amount),
    )


def _pending_withdrawal(case: Case, order_id: str) -> Order | Rejection:
    order = case.items[order_key(order_id)]
    if order is None or (isinstance(order, Order) and order.kind == "deposit"):
        return not_found(Code.ORDER_NOT_FOUND, "order_id", order_id)
    assert isinstance(order, Order), order
    if order.status != "pending":
        return already_resolved("order", order_id, order.status)
    return order
