"""Where the read model is: a file, or a database that is named by its URL; what is refused never tells a password."""

import pickle

import pytest

from api.composition.settings import SettingsError, read_settings

PG = "postgresql://stakelog:secret@db:5432/stakelog"
MYSQL = "mysql://stakelog:secret@db/stakelog"


def test_the_default_is_a_file() -> None:
    settings = read_settings({})
    assert (settings.read_model, settings.read_model_replica) == ("sqlite", None)
    assert read_settings({"STAKELOG_READ_MODEL": "sqlite"}) == settings


def test_the_processes_of_a_rebuild_get_the_settings() -> None:
    settings = read_settings({})
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301 - our own bytes


@pytest.mark.parametrize("url", [PG, MYSQL, "postgresql://[::1]/a", "mysql://db:3307/a?ssl_ca=/etc/ca.pem"])
def test_a_database_is_named_by_its_url(url: str) -> None:
    assert read_settings({"STAKELOG_READ_MODEL": url}).read_model == url


def test_reads_may_go_to_a_copy() -> None:
    copy = PG.replace("@db:", "@copy:")
    settings = read_settings({"STAKELOG_READ_MODEL": PG, "STAKELOG_READ_MODEL_REPLICA": copy})
    assert (settings.read_model, settings.read_model_replica) == (PG, copy)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@db/0",
        "postgres:secret",
        "postgresql://u:secret@/a",
        "mysql://u:secret@db",
        "mysql://u:secret@db:x/a",
        "",
    ],
)
@pytest.mark.parametrize("name", ["STAKELOG_READ_MODEL", "STAKELOG_READ_MODEL_REPLICA"])
def test_an_unusable_url_is_refused_without_showing_its_password(name: str, url: str) -> None:
    if name.endswith("REPLICA") and not url:
        return
    with pytest.raises(SettingsError) as refused:
        read_settings({"STAKELOG_READ_MODEL": PG, name: url})
    assert str(refused.value).startswith(name)
    assert "secret" not in str(refused.value)
    assert "postgresql://user:password@host" in str(refused.value)


def test_pgbouncer_is_1_and_for_postgresql_only() -> None:
    assert read_settings({"STAKELOG_READ_MODEL": f"{PG}?pgbouncer=1"}).read_model == f"{PG}?pgbouncer=1"
    for url in (f"{PG}?pgbouncer=true", f"{PG}?pgbouncer=", f"{MYSQL}?pgbouncer=1"):
        with pytest.raises(SettingsError, match=r"pgbouncer only as postgresql://…\?pgbouncer=1"):
            read_settings({"STAKELOG_READ_MODEL": url})


@pytest.mark.parametrize("model", ["sqlite", MYSQL])
def test_a_copy_of_another_kind_is_refused(model: str) -> None:
    with pytest.raises(SettingsError, match="STAKELOG_READ_MODEL_REPLICA"):
        read_settings({"STAKELOG_READ_MODEL": model, "STAKELOG_READ_MODEL_REPLICA": PG})
