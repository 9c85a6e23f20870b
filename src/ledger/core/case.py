"""What a decider gets and makes: the case, the event, and the refusals that several deciders share."""

from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from ledger.core.events import AnyData, Balance, Event, Posting, sums_to_zero
from ledger.core.games.rules import RuleBook
from ledger.core.items import Items
from ledger.core.money import AMOUNT_MAX, Assets, format_amount
from ledger.core.rejections import Code, Rejection
from ledger.core.wallet import Wallet, balance_of, limits_of

LISTED_MAX: Final = 20
_SHOWN_MAX: Final = 64


class Case(Struct, gc=False):
    """Everything that a decider reads: the command, its actor, the time, the wallet and the items."""

    command: Any
    request_sha256: str
    actor: str
    wallet: Wallet
    items: Items
    assets: Assets
    rules: RuleBook
    time_us: int


Decision = Event | Rejection


def reused(code: Code, field: str, value: str) -> Rejection:
    return Rejection(code, f"{field} {value} is used already by another command of this wallet", {field: value})


def not_found(code: Code, field: str, value: str) -> Rejection:
    return Rejection(code, f"this wallet has no {field} {value}", {field: value})


def already_resolved(what: str, name: str, status: str) -> Rejection:
    return Rejection(Code.ALREADY_RESOLVED, f"the {what} {name} is {status}", {"status_now": status})


def unknown_asset(case: Case, asset: str) -> Rejection:
    # A client may send a name of megabytes: the response repeats only its beginning.
    shown = asset if len(asset) <= _SHOWN_MAX else asset[:_SHOWN_MAX] + "…"
    known = ", ".join(sorted(case.assets)[:LISTED_MAX])
    return Rejection(
        Code.UNKNOWN_ASSET, f"the asset {shown} is not declared; the assets are {known}", {"asset": shown}
    )


def out_of_range(case: Case, field: str, asset: str, value: int) -> Rejection:
    shown = formatted(case, asset, value) if abs(value) < 10**24 else "a number of more than 24 digits"
    return Rejection(Code.AMOUNT_OUT_OF_RANGE, f"{field} is {shown}, outside of its range", {"field": field})


def total_out_of_range(case: Case, asset: str) -> Rejection:
    bound = formatted(case, asset, AMOUNT_MAX)
    return Rejection(Code.AMOUNT_OUT_OF_RANGE, f"what the wallet has and may get back would exceed ±{bound}")


def formatted(case: Case, asset: str, amount: int) -> str:
    return format_amount(amount, asset, case.assets)


def event_of(
    case: Case,
    data: AnyData,
    postings: tuple[Posting, ...] = (),
    balances: dict[str, Balance] | None = None,
) -> Event:
    assert sums_to_zero(postings), (data, postings)
    command = case.command
    if command.private is not None:  # no decider reads it
        assert type(command.private) is str, "private texts are encrypted before a node gets the command"
        data = replace(data, private=command.private)
    return Event(
        case.time_us,
        command.user_id,
        command.command_id,
        case.request_sha256,
        case.actor,
        data,
        postings,
        balances or {},
    )


def balance_max_exceeded(case: Case, asset: str, added: int) -> Rejection | None:
    maximum = limits_of(case.wallet, asset).balance_max
    if maximum is None:
        return None
    before = balance_of(case.wallet, asset)
    after = before.cash + before.bonus + before.held + added
    if after <= maximum:
        return None
    return Rejection(
        Code.BALANCE_MAX_EXCEEDED,
        f"the balance would be {formatted(case, asset, after)}, at most {formatted(case, asset, maximum)} is allowed",
        {"balance_max": maximum, "balance_after": after},
    )


def lacks_cash(case: Case, asset: str, amount: int) -> Rejection | None:
    available = max(balance_of(case.wallet, asset).cash, 0)
    if amount <= available:
        return None
    return Rejection(
        Code.INSUFFICIENT_FUNDS,
        f"{formatted(case, asset, amount)} is more than the {formatted(case, asset, available)} that can be taken",
        {"available": available},
    )
