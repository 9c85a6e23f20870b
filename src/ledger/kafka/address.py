"""Where Kafka is and how to reach it: ``kafka://host:port,host:port?security_protocol=SASL_SSL&…``.

==========================  =============================================================================
``security_protocol``       ``PLAINTEXT`` (default), ``SSL``, ``SASL_PLAINTEXT``, ``SASL_SSL``
``ssl_cafile``              the CA of the brokers' certificates; default: the CAs that the system trusts
``ssl_certfile``            the client's certificate and, in ``ssl_keyfile``, its key, if brokers require one
``sasl_mechanism``          ``PLAIN``, ``SCRAM-SHA-256``, ``SCRAM-SHA-512``
``sasl_username``, ``sasl_password``
``replication_factor``      default 3
``min_insync_replicas``     default replication_factor − 1, but at least 2 if there are 2 copies
``session_timeout_ms``      how long a node may be silent before its partitions go to others, default 6000; a
                            broker accepts no less than its ``group.min.session.timeout.ms``
==========================  =============================================================================

Values that contain ``&``, ``%``, ``+`` or ``#`` are percent-encoded. A wrong parameter is refused by its name; no
message contains a password.
"""

from ssl import SSLError
from typing import Any, Final
from urllib.parse import parse_qsl

from aiokafka.helpers import create_ssl_context
from msgspec import Struct

from ledger.errors import LogMisconfigured

_PORT: Final = 9_092
SESSION_TIMEOUT_MS: Final = 6_000
"""Documented: the shortest time-out that a broker accepts by default."""
_SESSION_TIMEOUT_MS_MIN, _SESSION_TIMEOUT_MS_MAX = 1_000, 300_000
_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class KafkaAddress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The parsed address. Its repr contains no password."""

    servers: tuple[str, ...]
    security_protocol: str = "PLAINTEXT"
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    replication_factor: int = 3
    min_insync_replicas: int = 2
    session_timeout_ms: int = SESSION_TIMEOUT_MS

    def __repr__(self) -> str:
        return f"kafka://{','.join(self.servers)} ({self.security_protocol})"

    def unreachable(self, error: BaseException) -> str:
        """The message for an operator. aiokafka does not say whether the broker is down or refused the connection."""
        named = [name for name in ("sasl_username", "sasl_password", "ssl_cafile") if getattr(self, name) is not None]
        given = f" with this {', '.join(named)}" if named else ""
        return f"{self} cannot be reached: {error!r}. Is it up, and does it accept {self.security_protocol}{given}?"

    def client_options(self) -> dict[str, Any]:
        """Return the options of every aiokafka client. Raises LogMisconfigured if a certificate cannot be read."""
        options: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "security_protocol": self.security_protocol,
        }
        if "SSL" in self.security_protocol.split("_"):
            options["ssl_context"] = self._ssl_context()
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password,
            }
        return options

    def _ssl_context(self) -> Any:
        try:
            return create_ssl_context(cafile=self.ssl_cafile, certfile=self.ssl_certfile, keyfile=self.ssl_keyfile)
        except (OSError, SSLError) as error:
            files = [name for name in (self.ssl_cafile, self.ssl_certfile, self.ssl_keyfile) if name is not None]
            raise LogMisconfigured(
                f"the certificates for Kafka cannot be used ({', '.join(files)}): {error}. "
                "Set ssl_cafile, ssl_certfile and ssl_keyfile to readable PEM files"
            ) from error


def parse_address(url: str) -> KafkaAddress:
    """Raises LogMisconfigured, which names the wrong part and the valid values."""
    scheme, separator, rest = url.partition("://")
    if scheme != "kafka" or not separator:
        raise LogMisconfigured("the address of Kafka begins with kafka://, as in kafka://kafka-1:9092,kafka-2:9092")
    hosts, _, query = rest.partition("?")
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in given:
            raise LogMisconfigured(f"the address of Kafka has {name} twice")
        given[name] = value
    known = [name for name in KafkaAddress.__struct_fields__ if name != "servers"]
    for name in given:
        if name not in known:
            raise LogMisconfigured(f"the address of Kafka has {name!r}; there are {', '.join(known)}")
    replication_factor = _number(given, "replication_factor", 3)
    least = 1 if replication_factor == 1 else max(replication_factor - 1, 2)
    address = KafkaAddress(
        servers=tuple(_server(host) for host in hosts.rstrip("/").split(",")),
        security_protocol=_one_of(given, "security_protocol", _PROTOCOLS, "PLAINTEXT"),
        ssl_cafile=given.get("ssl_cafile"),
        ssl_certfile=given.get("ssl_certfile"),
        ssl_keyfile=given.get("ssl_keyfile"),
        sasl_mechanism=_one_of(given, "sasl_mechanism", _MECHANISMS, "PLAIN"),
        sasl_username=given.get("sasl_username"),
        sasl_password=given.get("sasl_password"),
        replication_factor=replication_factor,
        min_insync_replicas=_number(given, "min_insync_replicas", least),
        session_timeout_ms=_milliseconds(given, "session_timeout_ms", SESSION_TIMEOUT_MS),
    )
    _check(address, given)
    return address


def _check(address: KafkaAddress, given: dict[str, str]) -> None:
    sasl = address.security_protocol.startswith("SASL")
    if sasl and (address.sasl_username is None or address.sasl_password is None):
        raise LogMisconfigured(f"{address.security_protocol} needs sasl_username and sasl_password")
    for prefix, used in (("sasl_", sasl), ("ssl_", "SSL" in address.security_protocol.split("_"))):
        stray = sorted(name for name in given if name.startswith(prefix))
        if stray and not used:  # else an operator believes that the connection is encrypted
            raise LogMisconfigured(f"{stray[0]} has no effect with security_protocol={address.security_protocol}")
    if address.replication_factor > 1 and not 2 <= address.min_insync_replicas <= address.replication_factor:
        raise LogMisconfigured(
            f"min_insync_replicas={address.min_insync_replicas} must be between 2 and the replication_factor, "
            f"{address.replication_factor}: a record that one broker alone has is lost with it"
        )
    if address.replication_factor == 1 and address.min_insync_replicas != 1:
        raise LogMisconfigured("replication_factor=1 allows min_insync_replicas=1 only")


def _server(host: str) -> str:
    name, colon, port = host.rpartition(":")
    if not colon:
        name, port = host, str(_PORT)
    if not name or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise LogMisconfigured(f"{host!r} is no host:port of a Kafka broker")
    return f"{name}:{port}"


def _one_of(given: dict[str, str], name: str, values: tuple[str, ...], default: str) -> str:
    value = given.get(name, default)
    if value not in values:
        raise LogMisconfigured(f"{name}={value!r}: it is one of {', '.join(values)}")
    return value


def _number(given: dict[str, str], name: str, default: int) -> int:
    value = given.get(name, str(default))
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 99:
        raise LogMisconfigured(f"{name}={value!r}: it is a number of brokers, from 1")
    return int(value)


def _milliseconds(given: dict[str, str], name: str, default: int) -> int:
    value = given.get(name, str(default))
    least, most = _SESSION_TIMEOUT_MS_MIN, _SESSION_TIMEOUT_MS_MAX
    if not value.isascii() or not value.isdigit() or not least <= int(value[:9]) <= most:
        raise LogMisconfigured(f"{name}={value!r}: it is a number of milliseconds, from {least} to {most}")
    return int(value)
