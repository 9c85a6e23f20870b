"""Shared by all tests: the profiles of the property tests."""

import signal

import pytest
from hypothesis import settings

# `--hypothesis-profile=deep`: what `make test` runs. The other profile is for every commit.
settings.register_profile("deep", max_examples=200)
settings.register_profile("commit", max_examples=20)
settings.load_profile("commit")

# A shell starts a background job with SIGINT ignored, and child processes inherit that; tests send SIGINT to them.
signal.signal(signal.SIGINT, signal.default_int_handler)

SERVERS = ("kafka", "postgresql", "mariadb", "redis")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a real server is a system test, which `make check` leaves out."""
    for item in items:
        if isinstance(item, pytest.Function) and _needs_a_server(item):
            item.add_marker(pytest.mark.system)


def _needs_a_server(item: pytest.Function) -> bool:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return any(server in name for name in item.fixturenames for server in SERVERS) or any(
        parameter in SERVERS for parameter in parameters if isinstance(parameter, str)
    )


pytest_plugins = ["real_servers"]

pytest.register_assert_rewrite(
    "properties.naive_reads", "properties.scenarios", "properties.witness", "system.players"
)
