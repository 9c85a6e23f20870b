"""What the generated pages share: tables of members, and descriptions as sentences."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any


def sentence(text: str) -> str:
    """The text on one line, with an end."""
    found = " ".join(text.split()).replace("``", "`")
    return found if not found or found.endswith((".", ":", ")")) else f"{found}."


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table and an empty line; nothing without rows."""
    lines = [f"| {' | '.join(_cell(cell) for cell in cells)} |" for cells in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads), *lines]) + "\n\n"


def row(
    name: str,
    member: dict[str, Any],
    schema: dict[str, Any],
    resolved: Callable[[dict[str, Any]], dict[str, Any]] = lambda value: value,
) -> tuple[str, str]:
    """A member of an object: its name, with a star if it is always there, and its meaning."""
    described = member if "description" in member else resolved(member)
    if "description" not in described:
        kinds = map(resolved, described.get("anyOf", described.get("oneOf", ())))
        described = next((kind for kind in kinds if "description" in kind), {"description": ""})
    return starred(name, name in schema.get("required", ())), described["description"]


def starred(name: str, always: bool) -> str:
    """A name as code, with a star where it is required or always there."""
    return f"`{name}` \\*" if always else f"`{name}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")
