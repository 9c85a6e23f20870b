"""What an import will post: one change of cash of one wallet each, checked as a whole before anything is posted.

Invariants:
(1) a plan with problems is never posted;
(2) the same files give the same commands under the same ids, so that a second run repeats nothing;
(3) within a wallet the changes are in the order of time, then of the file; none takes the cash below zero.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct

from ledger.core.money import AMOUNT_MAX, Assets

OPEN_ID: Final = "import:open"
_ID_MAX: Final = 128
_TEXT_MAX: Final = 512
_USER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,63}")
_RESERVED: Final = ("game:", "gift:", "code:", "partition:")


class Change(Struct, frozen=True, gc=False):
    """``amount_minor`` is what the cash of the wallet changes by. ``source_id`` is the id of the transaction in the
    source, ``part`` its number among the changes of that transaction, ``time`` what the source says, as text;
    ``time_us`` orders."""

    line: int
    source_id: str
    part: int
    time_us: int
    time: str
    user_id: str
    asset: str
    amount_minor: int


class Problem(Struct, frozen=True):
    """Why the files cannot be imported as they are. ``line`` counts from 1; of a JSON array it is the element."""

    line: int
    why: str


class BadValue(ValueError):
    """A value of a row cannot be used; the text says why."""


class Plan(Struct):
    """``wallets`` are in the order of their first change; ``totals`` is asset → (in, out), in minor units;
    ``skipped`` counts the rows that move no money of a wallet, by reason."""

    source: str
    rows: int
    wallets: dict[str, list[Change]]
    totals: dict[str, tuple[int, int]]
    balances: dict[tuple[str, str], int]
    problems: list[Problem]
    skipped: Counter[str]

    @property
    def commands(self) -> int:
        return len(self.wallets) + sum(map(len, self.wallets.values()))


def make_plan(
    source: str,
    rows: int,
    changes: Iterable[Change],
    found: Mapping[tuple[str, str], tuple[int, int]],
    problems: list[Problem],
    skipped: Counter[str],
) -> Plan:
    """``found``: (user, asset) → (the balance that the source says, its line). What the changes lack of it is the
    opening balance, which comes first."""
    of_wallet: dict[str, list[Change]] = {}
    for change in changes:
        of_wallet.setdefault(change.user_id, []).append(change)
    sums: Counter[tuple[str, str]] = Counter()
    for changed in of_wallet.values():
        for change in changed:
            sums[change.user_id, change.asset] += change.amount_minor
    for (user_id, asset), (balance, line) in found.items():
        opening = balance - sums[user_id, asset]
        if opening:
            first = Change(line, f"opening:{asset}", 0, -(2**62), "", user_id, asset, opening)
            of_wallet.setdefault(user_id, []).insert(0, first)
        elif user_id not in of_wallet:
            of_wallet[user_id] = []
    balances: dict[tuple[str, str], int] = {}
    totals: dict[str, tuple[int, int]] = {}
    for user_id, changed in of_wallet.items():
        if why := _wrong_user(user_id):
            problems.append(Problem(changed[0].line if changed else 0, why))
        changed.sort(key=lambda change: (change.time_us, change.line, change.part))
        negative = set()
        for change in changed:
            key = user_id, change.asset
            balances[key] = balances.get(key, 0) + change.amount_minor
            came, went = totals.get(change.asset, (0, 0))
            amount = change.amount_minor
            totals[change.asset] = (came + max(amount, 0), went + max(-amount, 0))
            if abs(amount) > AMOUNT_MAX or balances[key] > AMOUNT_MAX:
                problems.append(Problem(change.line, f"{user_id}, {change.asset}: the amount is above 2^53 - 1"))
            if balances[key] < 0 and change.asset not in negative:
                negative.add(change.asset)  # the first one of the wallet is enough
                why = f"the balance of {user_id} would be {balances[key]} minor units of {change.asset}, below 0"
                problems.append(Problem(change.line, why))
    problems.sort(key=lambda problem: problem.line)
    return Plan(source, rows, of_wallet, totals, balances, problems, skipped)


def _wrong_user(user_id: str) -> str | None:
    if _USER_ID.fullmatch(user_id) is None:
        return f"{user_id!r} is not a user_id: 1-64 of A-Z a-z 0-9 _ - . : @, beginning with a letter or digit"
    if user_id.startswith(_RESERVED):
        return f"{user_id!r} begins with a reserved word"
    return None


def commands_of(plan: Plan, user_id: str) -> list[tuple[int, dict[str, Any]]]:
    """The commands of a wallet in their order, each with the line that it comes from."""
    opening = {"type": "open_wallet", "command_id": OPEN_ID, "user_id": user_id, "metadata": {"import": plan.source}}
    commands: list[tuple[int, dict[str, Any]]] = [(0, opening)]
    for change in plan.wallets[user_id]:
        metadata = {"import": plan.source, "source_id": change.source_id[:_TEXT_MAX]}
        if change.time:
            metadata["source_time"] = change.time[:_TEXT_MAX]
        command = {
            "type": "adjust",
            "command_id": _command_id(plan.source, change),
            "user_id": user_id,
            "asset": change.asset,
            "amount": change.amount_minor,
            "reason": f"imported from {plan.source}",
            "metadata": metadata,
        }
        commands.append((change.line, command))
    return commands


def _command_id(source: str, change: Change) -> str:
    """Made of the source's ids alone. One that is too long, or has other characters, is hashed."""
    text = f"import:{source}:{change.source_id}:{change.part}"
    if len(text) <= _ID_MAX and all("!" <= character <= "~" for character in text):
        return text
    return f"import:{source}:sha256:{sha256(text.encode()).hexdigest()}"


def minor_units(value: Any, asset: str, assets: Assets) -> int:
    """A decimal number in the asset's own unit, exactly. Raises BadValue."""
    return scaled(value, assets[asset], f"{value} has more decimal places than {asset}, which has {assets[asset]}")


def scaled(value: Any, exponent: int, otherwise: str) -> int:
    """``value`` × 10^exponent if that is an integer. Raises BadValue with ``otherwise``."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise BadValue(f"{value!r} is not a number") from None
    if not number.is_finite() or abs(number.adjusted()) > 60:  # no ledger has such amounts, and they cost memory
        raise BadValue(f"{value!r} is not an amount")
    sign, digits, point = number.as_tuple()
    assert isinstance(point, int), number
    whole, power = int("".join(map(str, digits))), point + exponent
    zeros: int = 10 ** abs(power)
    if power < 0 and whole % zeros:
        raise BadValue(otherwise)
    whole = whole * zeros if power >= 0 else whole // zeros
    return -whole if sign else whole
