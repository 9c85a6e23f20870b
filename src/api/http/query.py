"""Query parameters: each known, each once, each well-formed, or ``malformed_request`` naming it."""

import re
from typing import Final
from urllib.parse import parse_qsl

from api.http.commands import has_control_character
from api.http.problems import Problem

_TEXT_MAX: Final = 128
"""From the contract: no asset, game or period is longer."""
_INTEGER: Final = re.compile("-?[0-9]{1,19}")


class Query:
    """The parameters of one request, taken one by one."""

    def __init__(self, query_string: bytes, known: tuple[str, ...]) -> None:
        """Raises Problem for a parameter that is not ``known``, stands twice, or is not UTF-8."""
        self._values: dict[str, str] = {}
        if not query_string:
            return
        try:
            items = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, errors="strict")
        except ValueError:
            raise Problem("malformed_request", "the query is not percent-encoded UTF-8") from None
        for name, value in items:
            if name not in known:
                there_are = f"; there is {', '.join(known)}" if known else "; there are none here"
                raise Problem("malformed_request", f"unknown query parameter {name}{there_are}", field=name)
            if name in self._values:
                raise Problem("malformed_request", f"the query parameter {name} stands twice", field=name)
            self._values[name] = value

    def text(self, name: str, default: str | None = None) -> str | None:
        return self._values.get(name, default)

    def required(self, name: str) -> str:
        """Raises Problem where it is absent."""
        value = self._values.get(name)
        if value is None:
            raise Problem("malformed_request", f"the query parameter {name} is missing", field=name)
        return value

    def flag(self, name: str) -> bool:
        return self.choice(name, ("false", "true")) == "true"

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """One of ``choices``; the first where it is absent."""
        value = self._values.get(name, choices[0])
        if value not in choices:
            raise Problem("malformed_request", f"{name} must be {' or '.join(choices)}", field=name)
        return value

    def given(self, *names: str) -> dict[str, str]:
        """Those of ``names`` that were given, with their texts. Raises Problem for a text that no event can have."""
        found = {name: self._values[name] for name in names if name in self._values}
        for name, text in found.items():
            if len(text) > _TEXT_MAX or has_control_character(text):
                detail = f"{name} must have at most {_TEXT_MAX} characters, none of them a control character"
                raise Problem("malformed_request", detail, field=name)
        return found

    def given_choice(self, name: str, choices: tuple[str, ...]) -> dict[str, str]:
        """``name`` with one of ``choices``, or nothing where it is absent. Raises Problem for anything else."""
        value = self._values.get(name)
        if value is None:
            return {}
        if value not in choices:
            raise Problem("malformed_request", f"{name} must be {' or '.join(choices)}", field=name)
        return {name: value}

    def optional_integer(self, name: str, least: int, most: int) -> int | None:
        """None where it is absent. Raises Problem where it is no integer, or out of range."""
        text = self._values.get(name)
        if text is None:
            return None
        if not (_INTEGER.fullmatch(text) and least <= int(text) <= most):
            raise Problem("malformed_request", f"{name} must be an integer from {least} to {most}", field=name)
        return int(text)

    def integer(self, name: str, default: int | None, least: int, most: int) -> int:
        """Raises Problem where it is absent and has no default, is no integer, or out of range."""
        text = self._values.get(name)
        if text is None:
            return int(self.required(name)) if default is None else default
        if not (text.isascii() and text.isdigit() and len(text) <= 19 and least <= int(text) <= most):
            raise Problem("malformed_request", f"{name} must be an integer from {least} to {most}", field=name)
        return int(text)
