"""Where a process listens, who may call it there, and what it refuses to serve unsafely."""

import pytest

from api.composition.network import Address
from api.composition.settings import Settings, SettingsError, read_settings, refuse_unsafe

KAFKA = {"STAKELOG_LOG": "kafka://a:9092", "STAKELOG_READ_MODEL": "postgresql://stakelog:secret@db:5432/stakelog"}
SECRET = {"STAKELOG_CLUSTER_SECRET": "5ec2e7" * 8}


def served(*settings: dict[str, str]) -> Settings:
    """The settings of a service that may start. Raises SettingsError."""
    environment = {"STAKELOG_AUTH": "off"}
    for some in settings:
        environment |= some
    found = read_settings(environment)
    refuse_unsafe(found)
    return found


def internal(address: str) -> dict[str, str]:
    return {"STAKELOG_INTERNAL": address}


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9090", "127.0.0.1", 9090),
        ("localhost:9090", "localhost", 9090),
        ("[::1]:9090", "::1", 9090),
    ],
)
def test_the_internal_listener_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    found = served(internal(text))
    assert found.internal == Address(host, port)
    assert str(found.internal) == text


@pytest.mark.parametrize(
    "text",
    ["9090", ":9090", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "::1:9090", "http://127.0.0.1:9090", "a:²"],
)
def test_an_internal_listener_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_INTERNAL: "):
        read_settings(internal(text))


def test_many_nodes_need_an_internal_listener() -> None:
    with pytest.raises(SettingsError, match="set STAKELOG_INTERNAL"):
        served(KAFKA)
    assert served(KAFKA, internal("127.0.0.1:9090")).internal is not None


@pytest.mark.parametrize("host", ["10.0.0.7", "0.0.0.0", "[::]", "node-1"])  # noqa: S104 - refused
def test_beyond_loopback_the_internal_listener_needs_the_secret_of_the_cluster(host: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_CLUSTER_SECRET"):
        served(internal(f"{host}:9090"))
    assert served(internal(f"{host}:9090"), SECRET).cluster_secret == SECRET["STAKELOG_CLUSTER_SECRET"]


@pytest.mark.parametrize("secret", ["two words", "line\n", "ключ", "x" * 1_025])
def test_a_secret_that_no_header_can_carry_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_CLUSTER_SECRET: ") as refused:
        read_settings({"STAKELOG_CLUSTER_SECRET": secret})
    assert secret not in str(refused.value)


def test_both_listeners_on_one_port_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"STAKELOG_INTERNAL=127\.0\.0\.1:8080"):
        served(internal("127.0.0.1:8080"))


def test_by_default_a_node_advertises_its_internal_listener() -> None:
    assert served(internal("[::1]:9090")).advertise == "http://[::1]:9090"
    assert served(KAFKA, internal("127.0.0.1:9090")).advertise == "http://127.0.0.1:9090"
    assert served().advertise == "http://127.0.0.1:8080", "one process: it names itself as the owner"


def test_a_node_on_all_interfaces_must_say_where_others_reach_it() -> None:
    everywhere = (KAFKA, SECRET, internal("0.0.0.0:9090"))
    with pytest.raises(SettingsError, match="set STAKELOG_ADVERTISE"):
        served(*everywhere)
    assert served(*everywhere, {"STAKELOG_ADVERTISE": "http://10.0.0.7:9090"}).advertise == "http://10.0.0.7:9090"
