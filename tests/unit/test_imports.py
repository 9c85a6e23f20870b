"""Arrows go one way. Read from the imports themselves, so that the structure cannot drift from its description."""

import ast
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

CORE = {
    "money",
    "partitioning",
    "commands",
    "events",
    "entries",
    "rejections",
    "wallet",
    "decide",
    "record",
}
STANDARD = set(sys.stdlib_module_names) | {"__future__"}


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SRC.rglob("*.py")
    }


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where an arrow goes"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def first(name: str) -> str:
    return name.split(".")[0]


@pytest.mark.parametrize(
    ("package", "never"),
    [("ledger", {"api", "projections"}), ("projections", {"api"})],
)
def test_a_package_imports_nothing_above_it(package: str, never: set[str]) -> None:
    for module, path in modules().items():
        if first(module) == package:
            assert not {first(name) for name in imported(path)} & never, module


def test_the_core_imports_the_standard_library_and_msgspec_only() -> None:
    for name in CORE:
        path = SRC / "ledger" / f"{name}.py"
        outside = {first(found) for found in imported(path)} - STANDARD - {"msgspec"}
        assert outside <= {"ledger"}, f"{name} imports {outside}"
        inside = {found.split(".")[1] for found in imported(path) if first(found) == "ledger"}
        assert inside <= CORE, f"{name} imports {inside - CORE}"


@pytest.mark.parametrize("module", ["time", "random", "asyncio", "os", "logging", "datetime", "uuid", "secrets"])
def test_the_core_has_no_clock_no_io_and_no_randomness(module: str) -> None:
    for name in CORE:
        assert module not in {first(found) for found in imported(SRC / "ledger" / f"{name}.py")}, name


def test_only_the_providers_name_adapters_of_a_running_service() -> None:
    inside = (
        *("ledger.logs", "ledger.owners", "ledger.state_stores"),
        *("projections.stores", "projections.caches", "projections.feeds"),
    )
    adapters = tuple(f"{package}." for package in inside)
    allowed = {
        "api.providers",
        "api.audit.sources",  # the auditor reads a folder without a service
        "api.audit.folder_reads",
        "api.backup",  # … and so does whoever proves a copy of it
        "api.migrate",  # … and whoever moves a log from one adapter to another
        "api.schemas",  # the vectors are made by a node in memory
    }
    for module, path in modules().items():
        inside_adapters = module.startswith(inside)
        if not inside_adapters and module not in allowed and not module.startswith("api.bench"):
            named = {name for name in imported(path) if name.startswith(adapters)}
            assert not named, f"{module} names {named}"


def test_the_auditor_shares_no_rule_with_the_writer() -> None:
    shared = {name.split(".")[1] for name in imported(SRC / "ledger" / "audit.py") if first(name) == "ledger"}
    assert shared == {"record", "partitioning"}
    names = {name for name in imported(SRC / "ledger" / "audit.py") if first(name) == "ledger"}
    assert names == {"ledger.record.EMPTY_SHA256", "ledger.record.Head", "ledger.partitioning.partition_of"}


def test_the_recomputation_shares_no_code_with_the_folds_or_the_writer() -> None:
    outside = {
        name for name in imported(SRC / "projections" / "recomputed.py") if first(name) not in STANDARD | {"msgspec"}
    }
    assert outside <= {"ledger.partitioning.partition_of"}
    comparers = list((SRC / "projections").glob("reconcile*.py"))
    comparer = {name.rsplit(".", 1)[0] for path in comparers for name in imported(path)}
    ours = {name for name in comparer if name.startswith(("ledger", "projections"))}
    ours -= {f"projections.{path.stem}" for path in comparers}
    assert ours == {"ledger.audit", "projections.recomputed"}


def test_importing_a_module_reads_no_environment() -> None:
    for module, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr):
                assert "os.environ" not in ast.unparse(node), module
