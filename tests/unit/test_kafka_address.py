"""The address of Kafka: valid parameters, and the message that names a wrong one."""

from urllib.parse import quote

import pytest

from ledger.errors import LogMisconfigured
from ledger.kafka.address import parse_address


def test_servers_are_listed_and_have_kafkas_port_by_default() -> None:
    address = parse_address("kafka://a:1,b.example.com,10.0.0.1:65535/")
    assert address.servers == ("a:1", "b.example.com:9092", "10.0.0.1:65535")
    assert address.client_options() == {
        "bootstrap_servers": ["a:1", "b.example.com:9092", "10.0.0.1:65535"],
        "security_protocol": "PLAINTEXT",
    }


def test_sasl_and_tls_reach_the_client() -> None:
    address = parse_address(
        "kafka://a?security_protocol=SASL_SSL&sasl_mechanism=SCRAM-SHA-512&sasl_username=u&sasl_password=a%26b%25%2B"
    )
    options = address.client_options()
    assert options["ssl_context"].check_hostname
    del options["ssl_context"]
    assert options == {
        "bootstrap_servers": ["a:9092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": "a&b%+",
    }


@pytest.mark.parametrize("password", ["pässwörd", "пароль-密码-🔑", "a@b/c:d%e?f#g&h=i+j k%40"])
def test_a_percent_encoded_password_of_any_characters_reaches_the_client(password: str) -> None:
    url = f"kafka://a?security_protocol=SASL_PLAINTEXT&sasl_username=u&sasl_password={quote(password, safe='')}"
    assert parse_address(url).client_options()["sasl_plain_password"] == password


@pytest.mark.parametrize(
    ("asked", "copies", "acknowledged"),
    [
        ("", 3, 2),
        ("replication_factor=1", 1, 1),
        ("replication_factor=2", 2, 2),
        ("replication_factor=5", 5, 4),
        ("replication_factor=5&min_insync_replicas=3", 5, 3),
    ],
)
def test_one_broker_may_be_lost_and_no_record_with_it(asked: str, copies: int, acknowledged: int) -> None:
    address = parse_address(f"kafka://a?{asked}")
    assert (address.replication_factor, address.min_insync_replicas) == (copies, acknowledged)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("localhost:9092", "kafka://"),
        ("http://localhost:9092", "kafka://"),
        ("kafka://", "''"),
        ("kafka://a,,b", "''"),
        ("kafka://a:x", "'a:x'"),
        ("kafka://a:0", "'a:0'"),
        ("kafka://a:65536", "'a:65536'"),
        ("kafka://:9092", "':9092'"),
        ("kafka://a?sasl=yes", "'sasl'"),
        ("kafka://a?servers=b", "'servers'"),
        ("kafka://a?security_protocol=TLS", "security_protocol='TLS'"),
        ("kafka://a?security_protocol=SASL_SSL", "sasl_username and sasl_password"),
        ("kafka://a?security_protocol=SASL_SSL&sasl_username=u", "sasl_username and sasl_password"),
        ("kafka://a?security_protocol=SASL_SSL&sasl_mechanism=GSSAPI", "sasl_mechanism='GSSAPI'"),
        ("kafka://a?sasl_username=u&sasl_password=p", "sasl_password has no effect"),
        ("kafka://a?ssl_cafile=x", "ssl_cafile has no effect"),
        ("kafka://a?security_protocol=SSL&security_protocol=SSL", "security_protocol twice"),
        ("kafka://a?replication_factor=0", "replication_factor='0'"),
        ("kafka://a?replication_factor=many", "replication_factor='many'"),
        ("kafka://a?replication_factor=3&min_insync_replicas=1", "min_insync_replicas=1"),
        ("kafka://a?replication_factor=3&min_insync_replicas=4", "min_insync_replicas=4"),
        ("kafka://a?replication_factor=1&min_insync_replicas=2", "min_insync_replicas=1 only"),
        ("kafka://a?session_timeout_ms=999", "session_timeout_ms='999'"),
        ("kafka://a?session_timeout_ms=300001", "session_timeout_ms='300001'"),
        ("kafka://a?session_timeout_ms=6s", "session_timeout_ms='6s'"),
    ],
)
def test_the_wrong_part_is_named(url: str, named: str) -> None:
    with pytest.raises(LogMisconfigured) as refused:
        parse_address(url)
    assert named in str(refused.value)


def test_the_session_timeout_is_six_seconds_by_default() -> None:
    assert parse_address("kafka://a").session_timeout_ms == 6_000
    assert parse_address("kafka://a?session_timeout_ms=30000").session_timeout_ms == 30_000


def test_no_text_of_the_address_shows_the_password() -> None:
    address = parse_address("kafka://a?security_protocol=SASL_SSL&sasl_username=u&sasl_password=secret")
    assert "secret" not in f"{address} {address!r}"
