"""The docstring of a package names each of its modules and packages: a stranger finds a behaviour in one guess."""

import ast
from pathlib import Path
from re import findall

import pytest

SRC = Path(__file__).parents[2] / "src"
PACKAGES = sorted(path.parent for path in SRC.rglob("__init__.py"))
ENTRIES = {"__init__", "__main__"}
LISTED_IN_CODE = {SRC / "projections" / "models"}
"""Its ``MODELS`` names each file."""


def parts_of(package: Path) -> set[str]:
    modules = {path.stem for path in package.glob("*.py")}
    return (modules | {path.parent.name for path in package.glob("*/__init__.py")}) - ENTRIES


def test_every_package_is_found() -> None:
    assert set(PACKAGES) == {path.parent for path in SRC.rglob("*.py")}


@pytest.mark.parametrize("package", [path for path in PACKAGES if path not in LISTED_IN_CODE], ids=str)
def test_the_docstring_of_a_package_names_its_parts(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    named = set(findall(r"`([a-z_0-9]+)`", docstring))
    assert parts_of(package) - named == set()
