"""Where the log is: a file, or Kafka, whose nodes need a read model that all of them can reach."""

import pytest

from api.composition.settings import SettingsError, read_settings

KAFKA = "kafka://a:9092,b:9092?replication_factor=1"
PG = "postgresql://stakelog:secret@db:5432/stakelog"


def test_the_default_is_a_file() -> None:
    assert read_settings({}).log == "sqlite"
    assert read_settings({"STAKELOG_LOG": "sqlite"}) == read_settings({})


@pytest.mark.parametrize("read_model", [PG, "mysql://u@db/stakelog"])
def test_kafka_is_named_by_its_address(read_model: str) -> None:
    assert read_settings({"STAKELOG_LOG": KAFKA, "STAKELOG_READ_MODEL": read_model}).log == KAFKA


def test_kafka_with_a_read_model_of_one_machine_is_refused() -> None:
    for environment in ({}, {"STAKELOG_READ_MODEL": "sqlite"}):
        with pytest.raises(SettingsError, match=r"STAKELOG_READ_MODEL to postgresql://… or mysql://…"):
            read_settings({"STAKELOG_LOG": KAFKA, **environment})


@pytest.mark.parametrize("log", ["", "redis://:secret@a", "kafka:secret", "KAFKA://secret", "events.sqlite3"])
def test_an_unusable_url_is_refused_without_showing_its_password(log: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_LOG") as refused:
        read_settings({"STAKELOG_LOG": log, "STAKELOG_READ_MODEL": PG})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://node-1:8080", "https://node-1", "http://[::1]:8080", "http://10.0.0.7:80"])
def test_the_advertised_address_must_be_an_address(url: str) -> None:
    assert read_settings({"STAKELOG_ADVERTISE": url}).advertise == url


def test_by_default_a_node_advertises_the_address_it_listens_on() -> None:
    assert read_settings({"STAKELOG_HOST": "::1", "STAKELOG_PORT": "81"}).advertise == "http://[::1]:81"


@pytest.mark.parametrize(
    "url",
    [
        *("", "banana", "node-1:8080", "ftp://node-1", "http://", "http://node-1:port", "http://node-1:70000"),
        *("http://node-1/", "http://node-1/api", "http://node-1?a=b", "http://u:p@node-1", "http://node-1:0"),
    ],
)
def test_an_address_that_no_node_can_reach_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_ADVERTISE"):
        read_settings({"STAKELOG_ADVERTISE": url})
