"""Shared by the parsers of the rules file: every value is checked, and an error names its path in the file.

The file is JSON with the members ``games`` (``games.rules``) and ``money`` (``money_rules``). Every key is optional;
null means absent. A key that is unknown or repeated is refused, and a value out of its range.
"""

import json
from collections.abc import Mapping
from typing import Any

from ledger.core.money import AMOUNT_MAX, Assets


class WrongRules(ValueError):
    """The rules file cannot be used. The text, for the operator, names the key and says why."""


def parsed(text: str) -> dict[str, Any]:
    """The file's members. Raises WrongRules."""
    try:
        rules = object_at("the file", json.loads(text, object_pairs_hook=_without_repeats))
    except WrongRules:
        raise
    except ValueError as error:
        raise WrongRules(f"it is not JSON: {error}") from None
    known_keys("", rules, ("games", "money"))
    return rules


def known_keys(at: str, value: Any, known: tuple[str, ...]) -> None:
    unknown = [key for key in object_at(at or "the file", value) if key not in known]
    if unknown:
        name = f"{at}.{unknown[0]}" if at else unknown[0]
        raise WrongRules(f"{name} is not a key; the keys are {', '.join(known)}")


def object_at(at: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WrongRules(f"{at}: it must be a JSON object")
    return value


def array_at(at: str, value: Any, most: int) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most:
        raise WrongRules(f"{at}: it must be a JSON array of at most {most} elements")
    return value


def integer_at(at: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise WrongRules(f"{at}: it must be an integer from {least} to {most}")
    return value


def integer_or_none(at: str, value: Any, least: int, most: int) -> int | None:
    return None if value is None else integer_at(at, value, least, most)


def declared_asset(at: str, asset: str, assets: Assets) -> None:
    if asset not in assets:
        raise WrongRules(f"{at}.{asset}: the asset is not declared in STAKELOG_ASSETS")


def amounts_at(at: str, value: Any, assets: Assets) -> Mapping[str, int]:
    amounts = object_at(at, value)
    for asset, amount in amounts.items():
        declared_asset(at, asset, assets)
        integer_at(f"{at}.{asset}", amount, 1, AMOUNT_MAX)
    return amounts


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)} occurs twice")
    return values
