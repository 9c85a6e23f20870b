"""Rows of a file: CSV with a header, a JSON array, or a JSON object a line. Numbers are never floats."""

import csv
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from api.cli.importing.plan import BadValue

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Row = tuple[int, dict[str, Any]]
"""The line, from 1 (of a JSON array the element), and the members."""


class BadFile(Exception):
    """The file cannot be read as one of the three forms: the text says where, and why."""


def rows_of(path: Path, delimiter: str = ",") -> Iterator[Row]:
    """Raises BadFile."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.read(1)
            while first and first.isspace():
                first = file.read(1)
            file.seek(0)
            if first == "[":
                yield from _array(path, file.read())
            elif first == "{":
                yield from _lines(path, file)
            else:
                yield from _csv(path, file, delimiter)
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8: {error}") from error


def _array(path: Path, text: str) -> Iterator[Row]:
    for number, row in enumerate(_decoded(path, 1, text.removeprefix("\ufeff")), 1):
        yield number, _object(path, number, row)


def _lines(path: Path, lines: Any) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if text := line.strip().removeprefix("\ufeff"):
            yield number, _object(path, number, _decoded(path, number, text))


def _csv(path: Path, file: Any, delimiter: str) -> Iterator[Row]:
    reader = csv.DictReader(file, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise BadFile(f"{path}, line {reader.line_num}: it does not have as many fields as the header")
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise BadFile(f"{path}, line {reader.line_num}: {error}") from error


def _decoded(path: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{path}, line {line}: it is not JSON: {error}") from None


def _object(path: Path, line: int, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BadFile(f"{path}, line {line}: it is not a JSON object")
    return row


def member(row: dict[str, Any], name: str) -> Any:
    """Raises BadValue."""
    value = row.get(name)
    if value is None or value == "":
        raise BadValue(f"it has no {name}")
    return value


def json_member(row: dict[str, Any], name: str) -> dict[str, Any]:
    """A JSON object, or its text, as a database's export to CSV has it. Raises BadValue."""
    value = member(row, name)
    if isinstance(value, str):
        try:
            value = json.loads(value, parse_float=Decimal)
        except (ValueError, RecursionError):
            raise BadValue(f"{name} is not JSON: {value!r}") from None
    if not isinstance(value, dict):
        raise BadValue(f"{name} is not a JSON object")
    return value


def integer(value: Any, name: str) -> int:
    """Raises BadValue."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.removeprefix("-").isascii() and value.removeprefix("-").isdigit():
        return int(value)
    raise BadValue(f"{name} is {value}, not an integer")


def time_us_of(text: Any) -> int:
    """Unix microseconds of ISO 8601, as PostgreSQL and JSON write it; without a time zone it is UTC. Raises
    BadValue."""
    try:
        # Go writes up to nanoseconds; Python reads up to microseconds and ignores the rest.
        time = datetime.fromisoformat(str(text))
    except ValueError:
        raise BadValue(f"{text!r} is not a time") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)
