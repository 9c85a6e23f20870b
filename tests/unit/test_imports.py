"""Arrows go one way. Read from the imports themselves, so that the structure cannot drift from its description."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"

CORE = sorted(path.stem for path in (SRC / "ledger" / "core").glob("*.py"))
STANDARD = set(sys.stdlib_module_names) | {"__future__"}


@cache
def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SRC.rglob("*.py")
    }


@cache
def imported(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where an arrow goes"
            assert node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


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


CLIENT_PROGRAMS = {"bench", "demo"}


def test_the_demo_is_a_client_and_imports_nothing_of_the_service() -> None:
    demo = {module: path for module, path in modules().items() if first(module) == "demo"}
    assert demo
    for module, path in demo.items():
        assert not {first(name) for name in imported(path)} & {"ledger", "projections", "api", "bench"}, module


BENCH_IN_PROCESS = {
    "bench.measures",  # measures a takeover and a worker without a service
    "bench.yardsticks",  # verifies and folds a log without a service
    "bench.load.grown_log",  # writes a log without a service
    "bench.lab.servers",  # checks the settings of a distributed run
}
PARTITION_OF_A_USER = "ledger.core.position.partition_of"  # the contract's hash: a client may compute it


def test_the_bench_uses_the_public_api_except_where_it_measures_parts_in_process() -> None:
    for module, path in modules().items():
        if first(module) == "bench" and not within(module, BENCH_IN_PROCESS):
            ours = {name for name in imported(path) if first(name) in {"ledger", "projections", "api"}}
            assert ours <= {PARTITION_OF_A_USER}, module


def test_the_http_client_knows_the_public_contract_only() -> None:
    for module, path in modules().items():
        if first(module) == "http_client":
            ours = {first(name) for name in imported(path)} & {first(other) for other in modules()}
            assert ours <= {"http_client"}, module


NEEDED_WITH_AN_EXTRA = {
    "stakelog_client.testing": {"api"},  # the core, in the distribution `stakelog`
    "stakelog_client.pytest_plugin": {"pytest"},
    "stakelog_client.receipts": {"cryptography"},
}


def test_the_client_library_is_installable_by_itself() -> None:
    for module, path in modules().items():
        if first(module) == "stakelog_client":
            outside = {first(name) for name in imported(path)} - STANDARD
            extra = NEEDED_WITH_AN_EXTRA.get(module, set())
            assert outside <= {"stakelog_client", "httpx", "msgspec"} | extra, module


def test_only_the_command_line_loads_the_demo_and_the_bench_and_only_by_name() -> None:
    for module, path in modules().items():
        named = {first(name) for name in imported(path)} & CLIENT_PROGRAMS
        assert named <= {first(module)}, f"{module} imports {named}"


def test_the_command_line_starts_without_the_demo_and_the_bench_and_lists_both() -> None:
    script = (
        "import sys, api.cli.main as main, click\n"
        "assert not {'bench', 'demo'} & {name.split('.')[0] for name in sys.modules}\n"
        "context = click.Context(main.stakelog)\n"
        "assert {'bench', 'demo'} <= set(main.stakelog.list_commands(context))\n"
        "assert all(main.stakelog.get_command(context, name) for name in ('bench', 'demo'))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.system
def test_a_service_starts_without_packages_that_take_long_to_import_and_are_seldom_needed() -> None:
    code = (
        "import sys, api.cli.serve\n"
        "seldom = {'litestar', 'aiohttp', 'sqlalchemy.ext.asyncio', 'redis', 'psycopg', 'aiokafka'}\n"
        "assert not seldom & set(sys.modules), seldom & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_core_imports_the_standard_library_and_msgspec_only() -> None:
    assert "decide" in CORE
    for name in CORE:
        path = SRC / "ledger" / "core" / f"{name}.py"
        outside = {first(found) for found in imported(path)} - STANDARD - {"msgspec"}
        assert outside <= {"ledger"}, f"{name} imports {outside}"
        inside = {found for found in imported(path) if first(found) == "ledger"}
        assert all(found.startswith("ledger.core.") for found in inside), f"{name} imports {inside}"


@pytest.mark.parametrize("module", ["time", "random", "asyncio", "os", "logging", "datetime", "uuid", "secrets"])
def test_the_core_has_no_clock_no_io_and_no_randomness(module: str) -> None:
    for name in CORE:
        assert module not in {first(found) for found in imported(SRC / "ledger" / "core" / f"{name}.py")}, name


ADAPTERS = {
    *("ledger.kafka", "ledger.memory", "ledger.sqlite"),
    *("projections.storage.sqlite", "projections.storage.sqlite_reader", "projections.storage.sqlite_memory"),
    *("projections.storage.server", "projections.storage.server_reader"),
    *("projections.storage.postgresql", "projections.storage.mysql"),
    *("projections.caching.redis", "projections.caching.redis_client", "projections.caching.redis_scripts"),
    *("projections.live.memory", "projections.live.redis"),
    *(
        "api.identity.database",
        "api.identity.store",
        "api.identity.database_keys",
        "api.identity.receipt_keys",
        "api.identity.memory_keys",
        "api.identity.copying",
    ),
    "api.webhooks.store",
    *("api.limits.memory", "api.limits.redis"),
    "api.tracing.otlp",
}
NAMES_ADAPTERS = {
    "api.composition.container",
    "api.composition.access",
    "api.composition.read_side",
    "api.composition.in_memory",  # a whole service in memory, for tests
    "api.composition.scratch",  # opens the store that the background check folds into
    "api.cli.audit.sources",  # the auditor reads a folder without a service
    "api.cli.audit.folder_reads",
    "api.cli.audit.verify",  # and the public keys in it
    "api.cli.keys",
    "api.composition.keys",  # locks the folder while its master key is replaced
    "api.cli.backup",  # … and so does the proof of a backup
    "api.cli.project",  # names the file of the log
    "api.cli.clients",  # works on the store of clients without a service
    "api.cli.serve",  # says whether a start creates the log
    "api.cli.what_if",  # reads a log without a service
    "api.cli.migrate",  # moves a log from one adapter to another
    "ledger.operations.backup",  # copies the files of the embedded mode
    "ledger.operations.upgrade",  # and turns an older format into the present one
    "api.cli.upgrade",
}


SHARED_BY_ADAPTERS = {"ledger.sqlite.wal"}
"""Keeps the WAL of any SQLite database small: the log's, the state's and the read model's. It knows none of them."""


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_only_the_composition_names_adapters_of_a_running_service() -> None:
    for module, path in modules().items():
        if not within(module, ADAPTERS | {"bench"}) and module not in NAMES_ADAPTERS:
            named = {name for name in imported(path) if within(name, ADAPTERS)}
            assert not named, f"{module} names {named}"


def test_an_adapter_of_the_read_side_imports_no_adapter_of_the_ledger() -> None:
    of_the_ledger = {name for name in ADAPTERS if first(name) == "ledger"}
    for module, path in modules().items():
        if first(module) == "projections":
            named = {name for name in imported(path) if within(name, of_the_ledger)}
            assert all(within(name, SHARED_BY_ADAPTERS) for name in named), f"{module} imports {named}"


LAYERS_OF_THE_API = (
    {"nodes", "sealing", "identity", "tracing"},
    {"limits", "webhooks"},
    {"http"},
    {"openapi", "page"},
    {"routes"},
    {"composition"},
    {"cli"},
    {"__main__"},
)
"""The lowest first. A part imports only itself and the layers below it."""


def test_inside_the_api_arrows_go_down_the_layers_only() -> None:
    layer_of = {part: number for number, parts in enumerate(LAYERS_OF_THE_API) for part in parts}
    ours = {module: path for module, path in modules().items() if module.startswith("api.")}
    assert {part_of(module) for module in ours} == layer_of.keys(), "a part of the API has no layer"
    for module, path in ours.items():
        part = part_of(module)
        for other in {part_of(name) for name in imported(path) if first(name) == "api"} - {part}:
            assert layer_of[other] < layer_of[part], f"{module} imports api.{other}"


LAYERS_OF_THE_LEDGER = (
    {"core"},
    {"errors", "files", "histogram", "pacing", "process_metrics", "process_settings", "tracing"},
    {"ports", "cluster_ports", "background"},
    {"writer"},
    {"node", "snapshots", "operations"},
    {"peers"},
)
"""The lowest first. A part imports only itself and the layers below it; adapters have a test of their own."""


def part_of(module: str) -> str:
    """The folder or the module right inside the package."""
    return module.split(".")[1]


def test_inside_the_ledger_arrows_go_down_the_layers_only() -> None:
    layer_of = {part: number for number, parts in enumerate(LAYERS_OF_THE_LEDGER) for part in parts}
    ours = {module: path for module, path in modules().items() if module.startswith("ledger.")}
    adapters = {"kafka", "memory", "sqlite"}
    assert {part_of(module) for module in ours} == layer_of.keys() | adapters, "a part of the ledger has no layer"
    for module, path in ours.items():
        part = part_of(module)
        others = {part_of(name) for name in imported(path) if first(name) == "ledger"} - {part}
        if part in adapters or (module in NAMES_ADAPTERS and others & adapters):
            others -= adapters
        for other in others:
            allowed = layer_of.get(part, layer_of["writer"])
            assert layer_of.get(other, len(LAYERS_OF_THE_LEDGER)) < allowed, f"{module} imports ledger.{other}"


@pytest.mark.parametrize("adapter", ["kafka", "memory", "sqlite"])
def test_an_adapter_imports_what_all_parts_share_and_the_core_only(adapter: str) -> None:
    ports = {"ledger.ports", "ledger.cluster_ports", "ledger.background"}
    allowed = {*ports, "ledger.errors", "ledger.files", "ledger.core", f"ledger.{adapter}"}
    for module, path in modules().items():
        if within(module, {f"ledger.{adapter}"}):
            ours = {name for name in imported(path) if first(name) == "ledger"}
            assert all(within(name, allowed) for name in ours), (module, ours)


def test_the_auditor_shares_no_rule_with_the_writer() -> None:
    operations = SRC / "ledger" / "operations"
    paths = [operations / "audit.py", *(operations / "verifying").glob("*.py")]
    names = {name for path in paths for name in imported(path) if first(name) == "ledger"}
    assert len(paths) > 5
    assert {name for name in names if not name.startswith("ledger.operations.verifying.")} == {
        "ledger.core.record.EMPTY_SHA256",
        "ledger.core.record.Head",
        "ledger.core.position.partition_of",
        "ledger.errors.LogDamaged",  # a row that is missing or broken
        "ledger.ports.StoredRecord",
    }


def test_the_recomputation_shares_no_code_with_the_folds_or_the_writer() -> None:
    outside = {
        name
        for name in imported(SRC / "projections" / "auditing" / "oracle.py")
        if first(name) not in STANDARD | {"msgspec"}
    }
    assert outside <= {"ledger.core.position.partition_of"}
    comparers = list((SRC / "projections" / "auditing" / "reconcile").glob("*.py"))
    comparer = {name.rsplit(".", 1)[0] for path in comparers for name in imported(path)}
    ours = {name for name in comparer if name.startswith(("ledger", "projections"))}
    ours -= {f"projections.auditing.reconcile.{path.stem}" for path in comparers}
    auditor = {f"ledger.operations.{name}" for name in ("audit", "verifying.pay_tables", "verifying.postings")}
    assert ours == {*auditor, "projections.auditing.oracle"}


def test_importing_a_module_reads_no_environment() -> None:
    for module, path in modules().items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign | ast.Expr):
                assert "os.environ" not in ast.unparse(node), module


PROJECTIONS = {
    "tables": set[str](),
    "models": {"tables"},
    "storage": {"models", "tables"},
    "reads": {"models", "storage", "tables"},
}


@pytest.mark.parametrize("package", PROJECTIONS)
def test_tables_models_storage_and_reads_are_layers_of_the_projections(package: str) -> None:
    for module, path in modules().items():
        if within(module, {f"projections.{package}"}):
            ours = {name.split(".")[1] for name in imported(path) if first(name) == "projections"}
            assert ours <= PROJECTIONS[package] | {package}, module
