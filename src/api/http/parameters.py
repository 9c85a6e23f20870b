"""Reads the parameters of a path and of a query into Structs, whose ``msgspec.Meta`` has the constraints.

A query is taken only if each of its parameters is known, is given once, and is well-formed; anything else is a
``malformed_request`` that names the parameter and says what it must be. ``Meta(extra={"must": …})`` says it where the
constraints alone would not be understood. A parameter whose member is a list may be given several times.
"""

import re
from collections.abc import Mapping
from typing import Final, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct, inspect

from api.http.problems import Problem

S = TypeVar("S", bound=Struct)

_is_integer: Final = re.compile("-?[0-9]{1,19}").fullmatch
_is_flag: Final = re.compile("true|false").fullmatch
_AT: Final = re.compile(r" - at `\$\.([^\[]*?)(\[.*\])?`$")


class Nothing(Struct, frozen=True):
    """A path or a query without parameters."""


class _Parameter:
    """What one parameter must be. msgspec's lax mode takes more than we do: ``1`` and ``True`` as booleans, ``null``
    for an absent number."""

    def __init__(self, field: inspect.Field) -> None:
        kind, must = _plain(field.type)
        self.is_list = isinstance(kind, inspect.ListType)
        if isinstance(kind, inspect.ListType):
            kind, of_item = _plain(kind.item_type)
            must = must or of_item
        self.is_spelled = (
            _is_flag
            if isinstance(kind, inspect.BoolType)
            else _is_integer
            if isinstance(kind, inspect.IntType)
            else None
        )
        self.must = f"{field.name} must be {must or _words(kind)}"


def _plain(kind: inspect.Type) -> tuple[inspect.Type, str | None]:
    """The type without its metadata and without None, and what its metadata says it must be."""
    must: str | None = None
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.Metadata):
            must = (kind.extra or {}).get("must", must)
            kind = kind.type
        else:
            (kind,) = (one for one in kind.types if not isinstance(one, inspect.NoneType))
    return kind, must


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.IntType():
            return f"an integer from {kind.ge} to {kind.le}"
        case inspect.BoolType():
            return "false or true"
        case inspect.LiteralType():
            return " or ".join(map(str, kind.values))
        case _:
            return "spelled otherwise"


class QueryReader(Generic[S]):
    """Reads query strings into one kind of Struct."""

    def __init__(self, kind: type[S]) -> None:
        fields = inspect.type_info(kind).fields  # type: ignore[attr-defined]  # it is a Struct's
        self._kind = kind
        self._known = {field.encode_name: _Parameter(field) for field in fields}
        self._required = [field.encode_name for field in fields if field.required]
        self._empty = None if self._required else kind()

    def __call__(self, query_string: bytes) -> S:
        """Raises Problem ``malformed_request``."""
        if not query_string and self._empty is not None:
            return self._empty
        values: dict[str, str | list[str]] = {}
        for name, text in _split(query_string):
            parameter = self._known.get(name)
            if parameter is None:
                known = f"the known ones are {', '.join(self._known)}" if self._known else "this route has none"
                raise Problem("malformed_request", f"unknown query parameter {name}; {known}", field=name)
            if name in values and not parameter.is_list:
                raise Problem("malformed_request", f"the query parameter {name} is given twice", field=name)
            if parameter.is_spelled is not None and not parameter.is_spelled(text):
                raise Problem("malformed_request", parameter.must, field=name)
            if parameter.is_list:
                values.setdefault(name, []).append(text)  # type: ignore[union-attr]  # always a list
            else:
                values[name] = text
        for name in self._required:
            if name not in values:
                raise Problem("malformed_request", f"the query parameter {name} is missing", field=name)
        return _convert(values, self._kind, self._known)


class PathReader(Generic[S]):
    """Reads the parameters of a path into one kind of Struct."""

    def __init__(self, kind: type[S]) -> None:
        fields = inspect.type_info(kind).fields  # type: ignore[attr-defined]  # it is a Struct's
        self._kind = kind
        self._parameters = {field.encode_name: _Parameter(field) for field in fields}
        self._empty = None if fields else kind()

    def __call__(self, values: dict[str, str]) -> S:
        """``values``: a decoded text for each member. Raises Problem ``malformed_request``."""
        if self._empty is not None:
            return self._empty
        return _convert(values, self._kind, self._parameters)


def _split(query_string: bytes) -> list[tuple[str, str]]:
    """The names and values in a query, decoded. Raises Problem ``malformed_request``."""
    if b"%" not in query_string and b"+" not in query_string and query_string.isascii():
        # Most queries; twice as fast as the general way.
        pairs = []
        for part in query_string.decode().split("&"):
            if part:
                name, _, text = part.partition("=")
                pairs.append((name, text))
        return pairs
    try:
        return parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise Problem("malformed_request", "the query is not percent-encoded UTF-8") from None


def _convert(values: Mapping[str, str | list[str]], kind: type[S], parameters: dict[str, _Parameter]) -> S:
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        name = _name_in(str(error))
        raise Problem("malformed_request", parameters[name].must, field=name) from None


def _name_in(message: str) -> str:
    """The parameter that a decoder's message is about."""
    at = _AT.search(message)
    assert at is not None, message
    return at[1]
