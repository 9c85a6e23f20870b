"""The error tree in the docstring of ``ledger.errors`` is complete and true."""

import re
from importlib import import_module
from pkgutil import walk_packages

import ledger
from ledger import errors
from ledger.errors import LedgerError

LINE = re.compile(r"^    (?P<lines>[│ ]*[├└]── )?(?P<name>\w+)(?: +(?:\((?P<module>[\w.]+)\) )?\S.*)?$", re.MULTILINE)


def declared() -> dict[str, tuple[int, str]]:
    """Name → its depth in the docstring's tree, and the module that defines it."""
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("::", 1)[1].split("\n\n", 2)[1]
    return {
        found["name"]: (len(found["lines"] or "") // 4, f"ledger.{found['module'] or 'errors'}")
        for found in LINE.finditer(tree)
    }


def defined(error: type[LedgerError], depth: int = 0) -> dict[str, tuple[int, str]]:
    found = {error.__name__: (depth, error.__module__)} if error.__module__.startswith("ledger.") else {}
    for child in error.__subclasses__():
        found |= defined(child, depth + 1)
    return found


def test_the_docstring_shows_every_error_of_the_ledger_with_its_parent() -> None:
    for module in walk_packages(ledger.__path__, "ledger."):
        import_module(module.name)
    assert declared() == defined(LedgerError)
