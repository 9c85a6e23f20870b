"""The exports of other products as changes of wallets. Each function returns a plan; problems are in it.

- Nakama: the table ``wallet_ledger`` (id, user_id, changeset, metadata, create_time, update_time), and for opening
  balances the columns ``id`` and ``wallet`` of the table ``users``. Amounts are integers in the game's own unit.
- Formance: the export of a ledger's logs, a JSON object a line. Amounts are integers in the minor unit; an asset such
  as ``USD/2`` names its exponent.
- Blnk: the tables ``transactions`` and ``balances``. ``precise_amount`` is an integer in 1 ÷ ``precision`` of the
  currency's unit.
- CSV: any file with a header, and a mapping file that names the columns.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from api.cli.importing.files import BadFile, Row, integer, json_member, member, rows_of, time_us_of
from api.cli.importing.plan import BadValue, Change, Plan, Problem, make_plan, minor_units, scaled
from ledger.core.money import Assets

_SETTLED_IN_BLNK: Final = "APPLIED"
_NO_MONEY_IN_BLNK: Final = frozenset({"QUEUED", "SCHEDULED", "INFLIGHT", "VOID", "COMMIT", "REJECTED", "EXPIRED"})
"""A committed or queued transaction has a further one, ``APPLIED``, which moves the money."""


class _Reader:
    """Collects the changes and problems of a source."""

    def __init__(self, source: str, assets: Assets, renamed: Mapping[str, str]) -> None:
        self.source, self.assets, self.renamed = source, assets, renamed
        self.rows = 0
        self.changes: list[Change] = []
        self.found: dict[tuple[str, str], tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self.skipped: Counter[str] = Counter()
        self._first_line: dict[str, int] = {}

    def each(self, rows: Iterator[Row], take: Callable[[int, dict[str, Any]], None]) -> None:
        for line, row in rows:
            self.rows += 1
            try:
                take(line, row)
            except BadValue as error:
                self.problems.append(Problem(line, str(error)))

    def once(self, line: int, source_id: str) -> None:
        """Raises BadValue for an id that an earlier line has."""
        first = self._first_line.setdefault(source_id, line)
        if first != line:
            raise BadValue(f"the id {source_id} is that of line {first}")

    def asset(self, name: Any) -> str:
        """The ledger's name of an asset. Raises BadValue."""
        asset = self.renamed.get(str(name), str(name))
        if asset not in self.assets:
            known = ", ".join(sorted(self.assets))
            raise BadValue(f"the asset {name} is unknown: --asset {name}=<one of {known}>, or declare it in --assets")
        return asset

    def change(self, line: int, source_id: str, part: int, time: Any, user_id: str, asset: str, amount: int) -> None:
        if amount:
            time_us = 0 if time is None else time_us_of(time)
            text = "" if time is None else str(time)
            self.changes.append(Change(line, source_id, part, time_us, text, user_id, asset, amount))
        else:
            self.skipped["amount 0"] += 1

    def balance(self, line: int, user_id: str, asset: str, amount: int) -> None:
        before, _ = self.found.get((user_id, asset), (0, line))
        self.found[user_id, asset] = before + amount, line

    def plan(self) -> Plan:
        return make_plan(self.source, self.rows, self.changes, self.found, self.problems, self.skipped)


def from_nakama(path: Path, balances: Path | None, assets: Assets, renamed: Mapping[str, str]) -> Plan:
    """Raises BadFile."""
    reader = _Reader("nakama", assets, renamed)

    def entry(line: int, row: dict[str, Any]) -> None:
        source_id = str(member(row, "id"))
        reader.once(line, source_id)
        changeset = json_member(row, "changeset")
        for part, (name, value) in enumerate(sorted(changeset.items())):
            amount = integer(value, f"changeset.{name}")
            reader.change(
                line,
                source_id,
                part,
                member(row, "create_time"),
                str(member(row, "user_id")),
                reader.asset(name),
                amount,
            )
        if not changeset:
            reader.skipped["empty changeset"] += 1

    def wallet(line: int, row: dict[str, Any]) -> None:
        for name, value in json_member(row, "wallet").items():
            reader.balance(line, str(member(row, "id")), reader.asset(name), integer(value, f"wallet.{name}"))

    reader.each(rows_of(path), entry)
    if balances is not None:
        reader.each(rows_of(balances), wallet)
    return reader.plan()


def from_formance(path: Path, wallets: str, assets: Assets, renamed: Mapping[str, str]) -> Plan:
    """``wallets``: a pattern of the accounts that are wallets; its first group is the user_id. Raises BadFile."""
    reader = _Reader("formance", assets, renamed)
    is_wallet = re.compile(wallets).fullmatch
    last_id: int | None = None

    def entry(line: int, row: dict[str, Any]) -> None:
        nonlocal last_id
        log_id = integer(member(row, "id"), "id")
        before, last_id = last_id, log_id if last_id is None else max(log_id, last_id)
        if before is not None and log_id != before + 1:
            problem = "twice or out of order" if log_id <= before else f"after {before}: logs are missing"
            raise BadValue(f"the log id {log_id} comes {problem}")
        kind = member(row, "type")
        if kind not in ("NEW_TRANSACTION", "REVERTED_TRANSACTION"):
            reader.skipped[str(kind)] += 1
            return
        transaction = json_member(json_member(row, "data"), "transaction")
        postings = member(transaction, "postings")
        time = transaction.get("timestamp") or member(row, "date")
        part = 0
        for posting in postings if isinstance(postings, list) else []:
            amount = integer(member(posting, "amount"), "amount")
            for account, sign in ((member(posting, "source"), -1), (member(posting, "destination"), 1)):
                if (found := is_wallet(str(account))) is None:
                    continue
                user_id = found[1] if found.re.groups else found[0]
                asset = _of_formance(reader, str(member(posting, "asset")))
                reader.change(line, str(log_id), part, time, user_id, asset, sign * amount)
                part += 1
        if not part:
            reader.skipped["no wallet's account"] += 1

    reader.each(rows_of(path), entry)
    return reader.plan()


def _of_formance(reader: _Reader, name: str) -> str:
    """``USD/2`` is the asset USD with the exponent 2; without a slash the exponent is 0."""
    code, _, exponent = name.partition("/")
    asset = reader.asset(name if name in reader.renamed else code)
    if int(exponent or 0) != reader.assets[asset]:
        raise BadValue(f"{name} counts in 1 ÷ 10^{exponent or 0}, but {asset} in 1 ÷ 10^{reader.assets[asset]}")
    return asset


def from_blnk(path: Path, balances: Path, assets: Assets, renamed: Mapping[str, str]) -> Plan:
    """Balances with an identity are wallets of that identity; the others are outside. Raises BadFile."""
    reader = _Reader("blnk", assets, renamed)
    owner: dict[str, str] = {}

    def balance(line: int, row: dict[str, Any]) -> None:
        reader.once(line, f"balance {member(row, 'balance_id')}")
        if not row.get("identity_id"):
            reader.skipped["balance without an identity"] += 1
            return
        user_id = owner[str(row["balance_id"])] = str(row["identity_id"])
        asset = reader.asset(member(row, "currency"))
        reader.balance(
            line, user_id, asset, _exact(member(row, "balance"), row.get("currency_multiplier"), asset, assets)
        )

    def entry(line: int, row: dict[str, Any]) -> None:
        source_id = str(member(row, "transaction_id"))
        reader.once(line, source_id)
        status = str(member(row, "status"))
        if status != _SETTLED_IN_BLNK:
            if status not in _NO_MONEY_IN_BLNK:
                raise BadValue(f"the status {status} is unknown")
            reader.skipped[f"status {status}"] += 1
            return
        sides = [(owner.get(str(member(row, side))), sign) for side, sign in (("source", -1), ("destination", 1))]
        if sides[0][0] is None and sides[1][0] is None:
            reader.skipped["no balance of an identity"] += 1
            return
        asset = reader.asset(member(row, "currency"))
        if row.get("precise_amount") not in (None, ""):
            amount = _exact(row["precise_amount"], row.get("precision"), asset, assets)
        else:
            amount = minor_units(member(row, "amount"), asset, assets)
        for part, (user_id, sign) in enumerate(sides):
            if user_id is not None:
                reader.change(line, source_id, part, member(row, "created_at"), user_id, asset, sign * amount)

    reader.each(rows_of(balances), balance)
    reader.each(rows_of(path), entry)
    return reader.plan()


def _exact(value: Any, precision: Any, asset: str, assets: Assets) -> int:
    """``value`` in 1 ÷ ``precision`` of the asset's unit, in minor units. Raises BadValue."""
    digits = re.fullmatch(r"1(0*)(?:\.0+)?", str(precision or 1))
    if digits is None:
        raise BadValue(f"the precision {precision} is not a power of ten")
    otherwise = f"{value} of 1 ÷ {precision} is not a whole number of minor units of {asset}"
    return scaled(value, assets[asset] - len(digits[1]), otherwise)


class Columns(Struct, frozen=True, forbid_unknown_fields=True):
    """Names of columns. ``asset`` or the mapping's ``asset`` is needed; ``sign`` names the column of ``signs``."""

    id: str
    user_id: str
    amount: str
    asset: str | None = None
    time: str | None = None
    sign: str | None = None


class CsvMapping(Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file. ``unit``: whether amounts are in the asset's own unit (``major``), or in minor units."""

    columns: Columns
    unit: str = "major"
    asset: str | None = None
    assets: dict[str, str] = {}
    signs: dict[str, int] = {}
    delimiter: str = ","


def from_csv(path: Path, mapping_file: Path, assets: Assets, renamed: Mapping[str, str]) -> Plan:
    """Raises BadFile."""
    mapping = _mapping(mapping_file)
    columns = mapping.columns
    reader = _Reader("csv", assets, {**mapping.assets, **renamed})

    def entry(line: int, row: dict[str, Any]) -> None:
        source_id = str(member(row, columns.id))
        reader.once(line, source_id)
        asset = reader.asset(mapping.asset if columns.asset is None else member(row, columns.asset))
        value = member(row, columns.amount)
        amount = integer(value, columns.amount) if mapping.unit == "minor" else minor_units(value, asset, assets)
        if columns.sign is not None:
            named = str(member(row, columns.sign))
            if named not in mapping.signs:
                raise BadValue(f"{columns.sign} is {named}, which the mapping's signs lack")
            if amount < 0:
                raise BadValue(
                    f"{columns.amount} is {value}, but {columns.sign} says which way the money went: no minus"
                )
            amount *= mapping.signs[named]
        time = None if columns.time is None else member(row, columns.time)
        reader.change(line, source_id, 0, time, str(member(row, columns.user_id)), asset, amount)

    reader.each(rows_of(path, mapping.delimiter), entry)
    return reader.plan()


def _mapping(path: Path) -> CsvMapping:
    try:
        mapping = msgspec.json.decode(path.read_bytes(), type=CsvMapping)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise BadFile(f"{path} is not a mapping file: {error}") from error
    if mapping.unit not in ("major", "minor"):
        raise BadFile(f"{path}: unit must be major or minor")
    if (mapping.columns.asset is None) == (mapping.asset is None):
        raise BadFile(f"{path}: name either columns.asset or asset")
    if set(mapping.signs.values()) - {1, -1} or bool(mapping.signs) != (mapping.columns.sign is not None):
        raise BadFile(f"{path}: signs are 1 or -1 for each value of the column columns.sign")
    if len(mapping.delimiter) != 1:
        raise BadFile(f"{path}: delimiter must be one character")
    return mapping
