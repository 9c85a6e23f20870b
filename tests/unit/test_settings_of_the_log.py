"""Where the log is: a file, or Kafka, whose nodes need a read model that all of them can reach."""

import pytest

from api.settings import SettingsError, read_settings

KAFKA = "kafka://a:9092,b:9092?replication_factor=1"
PG = "postgresql://stakelog:secret@db:5432/stakelog"


def test_it_is_a_file_unless_told() -> None:
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
def test_what_cannot_be_meant_is_refused_without_telling_a_password(log: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_LOG") as refused:
        read_settings({"STAKELOG_LOG": log, "STAKELOG_READ_MODEL": PG})
    assert "secret" not in str(refused.value)
