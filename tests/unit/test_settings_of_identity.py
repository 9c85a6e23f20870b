"""Where clients and tokens are, and the first secret; what is refused never shows a secret."""

import pytest

from api.composition.settings import SettingsError, read_settings
from api.limits.limits import Rates

PG = "postgresql://stakelog:secret@db:5432/stakelog"
KAFKA = {"STAKELOG_LOG": "kafka://broker:9092", "STAKELOG_READ_MODEL": PG}


def test_clients_are_in_a_file_unless_the_log_is_shared() -> None:
    assert read_settings({}).identity == "sqlite"
    assert read_settings({"STAKELOG_READ_MODEL": PG}).identity == "sqlite"
    assert read_settings(KAFKA).identity == PG


def test_clients_can_be_in_a_database_of_their_own() -> None:
    other = "mysql://stakelog:secret@other/clients"
    assert read_settings({"STAKELOG_IDENTITY": other}).identity == other
    assert read_settings(KAFKA | {"STAKELOG_IDENTITY": other}).identity == other


@pytest.mark.parametrize("url", ["redis://:secret@db/0", "postgresql://u:secret@/a", "mysql://u:secret@db:x/a"])
def test_an_unusable_database_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^STAKELOG_IDENTITY") as refused:
        read_settings({"STAKELOG_IDENTITY": url})
    assert "secret" not in str(refused.value)


def test_many_nodes_cannot_have_their_clients_in_a_file() -> None:
    with pytest.raises(SettingsError, match=r"STAKELOG_IDENTITY=sqlite is a file of one node"):
        read_settings(KAFKA | {"STAKELOG_IDENTITY": "sqlite"})


@pytest.mark.parametrize("secret", ["short", "with a space in the middle", "é" * 20, "x" * 257])
def test_a_weak_first_secret_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(SettingsError, match=r"^STAKELOG_ADMIN_SECRET must have 8–256") as refused:
        read_settings({"STAKELOG_ADMIN_SECRET": secret})
    assert secret not in str(refused.value)


def test_a_first_secret_is_taken_as_it_is() -> None:
    given = "a-secret-of-the-test"
    assert read_settings({"STAKELOG_ADMIN_SECRET": given}).admin_secret == given
    assert read_settings({"STAKELOG_ADMIN_SECRET": ""}).admin_secret is None


def test_the_rates_have_generous_defaults_and_0_is_without_limit() -> None:
    assert read_settings({}).rates == Rates(client=50_000, user=200, address=200, login_per_min=10)
    rates = read_settings({"STAKELOG_RATE_CLIENT": "0", "STAKELOG_RATE_LOGIN_PER_MIN": "3"}).rates
    assert (rates.client, rates.login_per_min) == (0, 3)
    with pytest.raises(SettingsError, match=r"^STAKELOG_RATE_USER=-1: an integer"):
        read_settings({"STAKELOG_RATE_USER": "-1"})


def test_no_proxy_is_trusted_unless_it_is_named() -> None:
    assert read_settings({}).trusted_proxies == ()
    named = read_settings({"STAKELOG_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}).trusted_proxies
    assert [str(network) for network in named] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(SettingsError, match=r"^STAKELOG_TRUSTED_PROXIES: .*proxy"):
        read_settings({"STAKELOG_TRUSTED_PROXIES": "proxy"})


def test_webhooks_go_to_public_addresses_only_unless_networks_are_named() -> None:
    assert read_settings({}).webhook_networks == ()
    named = read_settings({"STAKELOG_WEBHOOK_NETWORKS": "10.20.0.0/16,fd00::/8"}).webhook_networks
    assert [str(network) for network in named] == ["10.20.0.0/16", "fd00::/8"]
    with pytest.raises(SettingsError, match=r"^STAKELOG_WEBHOOK_NETWORKS: .*10.20"):
        read_settings({"STAKELOG_WEBHOOK_NETWORKS": "10.20.0.1/16"})


def test_an_operator_adjusts_ten_thousand_units_of_each_asset_alone_unless_told_otherwise() -> None:
    assets = {"STAKELOG_ASSETS": "INR:2,GOLD:0,TINY:18"}
    assert read_settings(assets).adjust_max == {"INR": 1_000_000, "GOLD": 10_000, "TINY": 2**53 - 1}
    told = read_settings(assets | {"STAKELOG_ADJUST_MAX": "GOLD:0, INR:5"}).adjust_max
    assert told == {"INR": 5, "GOLD": 0, "TINY": 2**53 - 1}
    assert read_settings(assets | {"STAKELOG_ADJUST_MAX": "none"}).adjust_max == {}


@pytest.mark.parametrize("text", ["INR", "INR:", "INR:-1", "INR:1.5", "XYZ:1", "INR:1;GOLD:2", "INR:" + "9" * 17])
def test_a_malformed_bound_of_adjustments_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^STAKELOG_ADJUST_MAX=.*: what an operator may adjust alone"):
        read_settings({"STAKELOG_ADJUST_MAX": text})


def test_the_issuer_is_an_address_without_a_slash_at_its_end() -> None:
    assert read_settings({}).issuer is None
    assert read_settings({"STAKELOG_PORT": "81"}).address == "http://127.0.0.1:81"
    assert read_settings({"STAKELOG_ISSUER": "https://ledger.example"}).address == "https://ledger.example"
    for url in ("https://ledger.example", "http://127.0.0.1:8080", "https://example.com/ledger"):
        assert read_settings({"STAKELOG_ISSUER": url}).issuer == url
    for url in ("ledger.example", "https://ledger.example/", "https://u:p@x", "https://x?a=1", "https://", "ftp://x"):
        with pytest.raises(SettingsError, match=r"^STAKELOG_ISSUER="):
            read_settings({"STAKELOG_ISSUER": url})
