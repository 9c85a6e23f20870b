"""The settings: ``STAKELOG_…`` in the environment, each with a default, all checked before a file is opened."""

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from api.composition.network import (
    Address,
    TlsFiles,
    is_loopback,
    is_of_all_interfaces,
    parse_address,
    parse_origins,
    parse_secret,
)
from api.identity.identity import SECRET_MAX, SECRET_MIN, is_secret
from api.limits.addresses import AnyNetwork, read_networks
from api.limits.limits import Rates
from ledger.core.games.rules import Games, RulesFile, built_in_games, read_rules
from ledger.core.money import AMOUNT_MAX, Assets, parse_assets
from ledger.core.money_rules import NO_MONEY, Money
from ledger.core.position import PARTITIONS_MAX
from ledger.core.rules_file import WrongRules

ADJUST_MAX_UNITS: Final = 10_000
"""Chosen: corrections of a player's complaint are smaller. It bounds one command, so a stolen operator's token can
repeat it until the rate limit; each is an event of that operator."""
SEAL_S_MAX: Final = 31 * 86_400
RATE_MAX: Final = 1_000_000
FEEDS_MAX: Final = 3_000
"""Chosen: a quarter of the connections that a node accepts stays for requests."""
FEEDS_OF_USER: Final = 20
"""Chosen: some devices and windows, and those that are not known to be gone yet."""
SLOW_REQUEST_MS: Final = 1_000
SLOW_QUERY_MS: Final = 200
"""Chosen: far above what is usual at full load, and below what a user would call broken."""
_SLOW_MS_MAX: Final = 3_600_000
TRACE_RATIO: Final = 0.01
"""Chosen: at 500 commands a second five traces a second, which cost nothing that can be measured."""
DEFAULT_ASSETS: Final = "INR:2,USDT:6,GOLD:0"

KNOWN: Final = frozenset(
    f"STAKELOG_{name}"
    for name in (
        "DATA",
        "LOG",
        "READ_MODEL",
        "READ_MODEL_REPLICA",
        "CACHE",
        "CREATE",
        "PARTITIONS",
        "HOST",
        "PORT",
        "INTERNAL",
        "CLUSTER_SECRET",
        "TLS_CERT",
        "TLS_KEY",
        "CORS",
        "ADVERTISE",
        "AUTH",
        "IDENTITY",
        "ADMIN_SECRET",
        "MASTER_KEY",
        "MASTER_KEY_FILE",
        "ISSUER",
        "ADJUST_MAX",
        "RATE_CLIENT",
        "RATE_USER",
        "RATE_ADDRESS",
        "RATE_LOGIN_PER_MIN",
        "FEEDS",
        "FEEDS_PER_USER",
        "TRUSTED_PROXIES",
        "WEBHOOK_NETWORKS",
        "ASSETS",
        "RULES",
        "SEAL_S",
        "SEALS",
        "SUSPECT_READS",
        "LOG_FORMAT",
        "ACCESS_LOG",
        "SLOW_REQUEST_MS",
        "SLOW_QUERY_MS",
        "TRACES",
        "TRACE_RATIO",
    )
)
_PLACEHOLDER: Final = "REPLACE-ME"
SQLITE: Final = "sqlite"
"""The log and the read model without a server: files in the data folder."""
KAFKA: Final = "kafka://"
_DATABASES: Final = ("postgresql", "mysql")
MEMORY: Final = "memory"
"""No cache of aggregates besides the read model, whose file the machine keeps in memory."""
_REDIS: Final = ("redis", "rediss")
_REDIS_DATABASES: Final = 1_024

V = TypeVar("V")


class SettingsError(Exception):
    """A setting that cannot be used: which, why, and what to write instead."""


class Settings(Struct, frozen=True):
    """The checked settings."""

    data: Path
    partitions: int
    host: str
    port: int
    advertise: str
    """Where the other nodes reach this one."""
    auth: bool
    assets: Assets
    games: Games
    money: Money = NO_MONEY
    """The rules of money flows."""
    internal: Address | None = None
    """Where metrics and the routes of nodes are; None: metrics are on the main listener, and there are no nodes."""
    cluster_secret: str | None = None
    """What the calls of other nodes must carry."""
    tls: TlsFiles | None = None
    """Of the listener for clients."""
    origins: frozenset[str] = frozenset()
    """Whose web pages may read responses; ``*``: all."""
    create: bool = True
    """Whether a folder without a ledger gets a new one."""
    log: str = SQLITE
    """Or the address of Kafka, checked when it is opened."""
    read_model: str = SQLITE
    """Or the URL of a database."""
    read_model_replica: str | None = None
    """The URL for reads, if it differs."""
    cache: str = MEMORY
    """Or the URL of a Redis."""
    seal_s: int = 3_600
    seals: str | None = None
    """The folder or the URL that each seal is copied to."""
    refuse_suspect: bool = False
    """Whether reads of rows that differ from the log are refused, not only marked."""
    identity: str = SQLITE
    """Where clients and tokens are: or the URL of a database."""
    admin_secret: str | None = None
    """The first secret of the client ``admin``; None: it is made and printed."""
    master_key: str | None = None
    """Wraps the keys in the identity store; None: it is in a file."""
    master_key_file: Path | None = None
    """The file; None: ``master.key`` in the data folder, which an embedded service makes."""
    issuer: str | None = None
    """The public address of the service, which its tokens name."""
    adjust_max: Mapping[str, int] = {}
    """Asset → what an operator may adjust or grant alone by one command, in minor units; an asset without one has no
    bound."""
    rates: Rates = Rates()
    feeds_max: int = FEEDS_MAX
    """Live feeds of this node at once."""
    feeds_of_user_max: int = FEEDS_OF_USER
    """The same of one user."""
    trusted_proxies: tuple[AnyNetwork, ...] = ()
    """Only these may name a client's address in ``X-Forwarded-For``."""
    webhook_networks: tuple[AnyNetwork, ...] = ()
    """Networks that webhooks may go to, besides public addresses."""
    access_log: bool = False
    """Whether each request gets a line in the log."""
    slow_request_ms: int = SLOW_REQUEST_MS
    """A request whose response begins later than this gets a line in the log; 0: none does."""
    slow_query_ms: int = SLOW_QUERY_MS
    """The same for reads of the read model."""
    traces: str | None = None
    """The address of a collector that takes OTLP over HTTP; None: nothing is traced."""
    trace_ratio: float = TRACE_RATIO
    """The fraction of the requests that are traced, of those whose caller has not decided it."""

    @property
    def address(self) -> str:
        """Where clients reach the service, as far as the settings say it."""
        return self.issuer or f"{'http' if self.tls is None else 'https'}://{Address(self.host, self.port)}"

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers are told to send cookies over TLS only. They are not where only this machine reaches the
        service, and without TLS: some browsers would refuse such a cookie there."""
        return self.tls is not None or self.address.startswith("https:") or not is_loopback(self.host)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError for the first setting that cannot be used."""
    unknown = sorted(name for name in environment if name.startswith("STAKELOG_") and name not in KNOWN)
    if unknown:
        raise SettingsError(f"{unknown[0]} is not a setting; the settings are {', '.join(sorted(KNOWN))}")
    _refuse_placeholders(environment)
    host = environment.get("STAKELOG_HOST", "127.0.0.1")
    port = _integer(environment, "STAKELOG_PORT", 8080, 1, 65_535)
    try:
        assets = parse_assets(environment.get("STAKELOG_ASSETS", DEFAULT_ASSETS))
    except ValueError as error:
        raise SettingsError(f"STAKELOG_ASSETS: {error}") from None
    auth = _one_of(environment, "STAKELOG_AUTH", ("on", "off"), "on")
    create = _one_of(environment, "STAKELOG_CREATE", ("if-missing", "never"), "if-missing")
    suspect_reads = _one_of(environment, "STAKELOG_SUSPECT_READS", ("mark", "refuse"), "mark")
    _one_of(environment, "STAKELOG_LOG_FORMAT", ("text", "json"), "text")  # read before the settings, by ``cli.logs``
    access_log = _one_of(environment, "STAKELOG_ACCESS_LOG", ("on", "off"), "off")
    rules = _rules(environment, assets)
    internal, tls = _parsed(environment, "STAKELOG_INTERNAL", parse_address), _tls(environment)
    scheme = "http" if tls is None or internal is not None else "https"
    return Settings(
        data=Path(environment.get("STAKELOG_DATA", "./data")),
        partitions=_integer(environment, "STAKELOG_PARTITIONS", 16, 1, PARTITIONS_MAX),
        host=host,
        port=port,
        advertise=_advertise(environment, f"{scheme}://{internal or Address(host, port)}"),
        auth=auth == "on",
        assets=assets,
        games=rules.games,
        money=rules.money,
        internal=internal,
        cluster_secret=_parsed(environment, "STAKELOG_CLUSTER_SECRET", parse_secret),
        tls=tls,
        origins=_parsed(environment, "STAKELOG_CORS", parse_origins) or frozenset(),
        create=create == "if-missing",
        log=_log(environment),
        read_model=_read_model(environment),
        read_model_replica=_replica(environment),
        cache=_cache(environment),
        seal_s=_integer(environment, "STAKELOG_SEAL_S", 3_600, 1, SEAL_S_MAX),
        seals=_seals(environment),
        refuse_suspect=suspect_reads == "refuse",
        identity=_identity(environment),
        admin_secret=_admin_secret(environment),
        issuer=_issuer(environment),
        adjust_max=_adjust_max(environment, assets),
        **_master_key(environment),
        rates=_rates(environment),
        feeds_max=_integer(environment, "STAKELOG_FEEDS", FEEDS_MAX, 0, FEEDS_MAX),
        feeds_of_user_max=_integer(environment, "STAKELOG_FEEDS_PER_USER", FEEDS_OF_USER, 1, FEEDS_MAX),
        trusted_proxies=_networks(environment, "STAKELOG_TRUSTED_PROXIES"),
        webhook_networks=_networks(environment, "STAKELOG_WEBHOOK_NETWORKS"),
        access_log=access_log == "on",
        slow_request_ms=_integer(environment, "STAKELOG_SLOW_REQUEST_MS", SLOW_REQUEST_MS, 0, _SLOW_MS_MAX),
        slow_query_ms=_integer(environment, "STAKELOG_SLOW_QUERY_MS", SLOW_QUERY_MS, 0, _SLOW_MS_MAX),
        traces=_traces(environment),
        trace_ratio=_trace_ratio(environment),
    )


def _refuse_placeholders(environment: Mapping[str, str]) -> None:
    """A secret that is in the repository is none. Its value is not quoted: it may have another secret too."""
    for name, value in environment.items():
        if name.startswith("STAKELOG_") and _PLACEHOLDER in value:
            raise SettingsError(f"{name} still has the placeholder {_PLACEHOLDER} of deploy/kubernetes: replace it")


def _parsed(environment: Mapping[str, str], name: str, parse: Callable[[str], V]) -> V | None:
    text = environment.get(name)
    if not text:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{name}: {error}") from None


def _tls(environment: Mapping[str, str]) -> TlsFiles | None:
    certificate, key = environment.get("STAKELOG_TLS_CERT"), environment.get("STAKELOG_TLS_KEY")
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise SettingsError(
            "STAKELOG_TLS_CERT and STAKELOG_TLS_KEY are needed together: a certificate and its key, PEM"
        )
    return TlsFiles(Path(certificate), Path(key))


def _identity(environment: Mapping[str, str]) -> str:
    name = "STAKELOG_IDENTITY"
    url = environment.get(name)
    if _log(environment) == SQLITE:
        return SQLITE if url in (None, "", SQLITE) else _database(name, url)
    if url == SQLITE:
        raise SettingsError(
            f"{name}=sqlite is a file of one node, and STAKELOG_LOG=kafka://… is shared by many: set it to "
            "postgresql://… or mysql://…, or leave it unset to use the database of STAKELOG_READ_MODEL"
        )
    return _database(name, url) if url else _read_model(environment)


def _master_key(environment: Mapping[str, str]) -> dict[str, Any]:
    """Checked when it is used, and never quoted in a message."""
    key, file = environment.get("STAKELOG_MASTER_KEY"), environment.get("STAKELOG_MASTER_KEY_FILE")
    if key and file:
        raise SettingsError("STAKELOG_MASTER_KEY and STAKELOG_MASTER_KEY_FILE name two master keys: set one of them")
    return {"master_key": key or None, "master_key_file": Path(file) if file else None}


def _admin_secret(environment: Mapping[str, str]) -> str | None:
    """Never quoted in a message."""
    secret = environment.get("STAKELOG_ADMIN_SECRET")
    if not secret:
        return None
    if not is_secret(secret):
        raise SettingsError(
            f"STAKELOG_ADMIN_SECRET must have {SECRET_MIN}–{SECRET_MAX} printable ASCII characters without spaces: "
            "leave it unset, and the first start makes one and prints it"
        )
    return secret


def _rates(environment: Mapping[str, str]) -> Rates:
    default = Rates()
    return Rates(
        **{
            name: _integer(environment, f"STAKELOG_RATE_{name.upper()}", getattr(default, name), 0, RATE_MAX)
            for name in Rates.__struct_fields__
        }
    )


def _networks(environment: Mapping[str, str], name: str) -> tuple[AnyNetwork, ...]:
    try:
        return read_networks(environment.get(name, ""))
    except ValueError as error:
        raise SettingsError(f"{name}: {error}; networks, such as 10.0.0.0/8,fd00::/8") from None


def _issuer(environment: Mapping[str, str]) -> str | None:
    url = environment.get("STAKELOG_ISSUER")
    if not url:
        return None
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        whole = False
    if not whole or url != f"{parts.scheme}://{parts.netloc}{parts.path}" or url.endswith("/") or "@" in parts.netloc:
        raise SettingsError(
            f"STAKELOG_ISSUER={url}: the address of the service for its clients, as https://ledger.example, without "
            "a slash at the end"
        )
    return url


def _traces(environment: Mapping[str, str]) -> str | None:
    name = "STAKELOG_TRACES"
    url = environment.get(name)
    if not url:
        return None
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        whole = False
    if not whole or "@" in url or url != f"{parts.scheme}://{parts.netloc}{parts.path}" or url.endswith("/"):
        raise SettingsError(
            f"{name} is the address of a collector that takes OTLP over HTTP, as http://collector:4318, without a "
            "slash at the end and without a password: headers go into OTEL_EXPORTER_OTLP_HEADERS"
        )
    try:
        installed = find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        installed = False
    if not installed:
        raise SettingsError(f"{name} needs OpenTelemetry, which is not installed: pip install 'stakelog[traces]'")
    return url


def _trace_ratio(environment: Mapping[str, str]) -> float:
    name = "STAKELOG_TRACE_RATIO"
    text = environment.get(name, str(TRACE_RATIO))
    if not re.fullmatch(r"[01]|0?\.[0-9]{1,9}|1\.0{1,9}", text):
        raise SettingsError(f"{name}={text}: the fraction of requests that are traced, from 0 to 1, as 0.01")
    return float(text)


def _adjust_max(environment: Mapping[str, str], assets: Assets) -> Mapping[str, int]:
    """By default ``ADJUST_MAX_UNITS`` of each asset's own unit."""
    name = "STAKELOG_ADJUST_MAX"
    text = environment.get(name)
    if text == "none":
        return {}
    found = {asset: min(ADJUST_MAX_UNITS * 10**exponent, AMOUNT_MAX) for asset, exponent in assets.items()}
    for item in text.split(",") if text else ():
        asset, colon, amount = item.strip().partition(":")
        if not (colon and asset in assets and amount.isascii() and amount.isdigit() and len(amount) <= 16):
            raise SettingsError(
                f"{name}={text}: what an operator may adjust alone by one command, as INR:1000000,GOLD:0 in minor "
                "units of declared assets; or none, for no bound"
            )
        found[asset] = int(amount)
    return found


def _rules(environment: Mapping[str, str], assets: Assets) -> RulesFile:
    """The built-in rules, with the rules file laid over them."""
    name = environment.get("STAKELOG_RULES")
    if not name:
        return RulesFile(built_in_games(), NO_MONEY)
    try:
        return read_rules(Path(name).read_text("utf-8"), assets)
    except WrongRules as error:
        raise SettingsError(f"STAKELOG_RULES={name}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"STAKELOG_RULES={name} cannot be read: {reason}") from None


def _seals(environment: Mapping[str, str]) -> str | None:
    target = environment.get("STAKELOG_SEALS")
    if not target:
        return None
    try:
        parts = urlsplit(target)
        parts.port  # noqa: B018 — raises if it is not a port
    except ValueError:
        raise SettingsError("STAKELOG_SEALS is neither a folder nor a URL: write http://host:port/path") from None
    if "://" not in target:
        return target
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            "STAKELOG_SEALS takes the path of a folder, or a URL that begins with http:// or https://"
        )
    return target


def _advertise(environment: Mapping[str, str], default: str) -> str:
    """The address at which other nodes reach this one. They append their paths to it."""
    url = environment.get("STAKELOG_ADVERTISE", default)
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        whole = False
    if not whole or url != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        raise SettingsError(
            f"STAKELOG_ADVERTISE={url}: the address at which other nodes reach this one, as http://host:port "
            "without a path"
        )
    return url


def _log(environment: Mapping[str, str]) -> str:
    log = environment.get("STAKELOG_LOG", SQLITE)
    if log == SQLITE:
        return log
    if not log.startswith(KAFKA):  # not quoted: it may hold a password
        raise SettingsError("STAKELOG_LOG names no known log: sqlite, or kafka://host:port,host:port")
    if _read_model(environment) == SQLITE:
        raise SettingsError(
            "STAKELOG_LOG=kafka://… is shared by many nodes, so their read model must be too: set "
            "STAKELOG_READ_MODEL to postgresql://… or mysql://…, and start `stakelog project` to fill it"
        )
    return log


def _read_model(environment: Mapping[str, str]) -> str:
    name = "STAKELOG_READ_MODEL"
    url = environment.get(name, SQLITE)
    return url if url == SQLITE else _database(name, url)


def _replica(environment: Mapping[str, str]) -> str | None:
    name = "STAKELOG_READ_MODEL_REPLICA"
    url = environment.get(name)
    if not url:
        return None
    model = _read_model(environment)
    if model == SQLITE:
        raise SettingsError(f"{name} needs a database: set STAKELOG_READ_MODEL to the one that it copies")
    if urlsplit(model).scheme != urlsplit(_database(name, url)).scheme:
        raise SettingsError(
            f"{name} is another kind of database than STAKELOG_READ_MODEL, so it cannot be a copy of it"
        )
    return url


def _database(name: str, url: str) -> str:
    """Its URL, checked without a connection. Never quoted in a message: it may contain a password."""
    what = "sqlite, or postgresql://user:password@host:port/database, or mysql://… in the same form"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 — raises if it is not a port
    except ValueError:
        raise SettingsError(f"{name} is not a URL: {what}") from None
    if parts.scheme not in _DATABASES:
        raise SettingsError(f"{name} names no known database: {what}")
    if not parts.hostname or not parts.path.strip("/"):
        raise SettingsError(f"{name} lacks the {'database' if parts.hostname else 'host'}: {what}")
    pgbouncer = parse_qs(parts.query, keep_blank_values=True).get("pgbouncer", ["1"])
    if pgbouncer != ["1"] or (parts.scheme != "postgresql" and "pgbouncer" in parts.query):
        raise SettingsError(f"{name} takes the parameter pgbouncer only as postgresql://…?pgbouncer=1")
    return url


def _cache(environment: Mapping[str, str]) -> str:
    """``memory`` or the URL of a Redis, checked without a connection. Never quoted in a message, as above."""
    name = "STAKELOG_CACHE"
    url = environment.get(name, MEMORY)
    if url == MEMORY:
        return url
    what = "memory, or redis://user:password@host:port/number (rediss:// with TLS)"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 — raises if it is not a port
    except ValueError:
        raise SettingsError(f"{name} is not a URL: {what}") from None
    if parts.scheme not in _REDIS:
        raise SettingsError(f"{name} names no known cache: {what}")
    if not parts.hostname:
        raise SettingsError(f"{name} lacks the host: {what}")
    if parts.query or parts.fragment:
        raise SettingsError(f"{name} takes nothing after the database's number: {what}")
    number = parts.path.removeprefix("/")
    if number and not (number.isascii() and number.isdigit() and int(number[:9]) < _REDIS_DATABASES):
        raise SettingsError(f"{name} names its database by a number, default 0: {what}")
    return url


def refuse_unsafe(settings: Settings) -> None:
    """Raise SettingsError if strangers could use the service, or if seals would be copied nowhere."""
    if not settings.auth and not is_loopback(settings.host):
        raise SettingsError(
            f"STAKELOG_AUTH=off has no login, so it serves on loopback only, not on {settings.host}: "
            "set STAKELOG_HOST=127.0.0.1, or STAKELOG_AUTH=on"
        )
    _refuse_unsafe_internal(settings)
    if settings.seals is not None and "://" not in settings.seals and not Path(settings.seals).is_dir():
        raise SettingsError(
            f"STAKELOG_SEALS={settings.seals} is not a folder: make or mount it, readable and writable for the "
            "service, or name a URL"
        )


def _refuse_unsafe_internal(settings: Settings) -> None:
    """Raise SettingsError if other nodes could not reach this one, or if others than nodes could post as nodes."""
    internal = settings.internal
    if internal is None:
        if settings.log != SQLITE:
            raise SettingsError(
                "STAKELOG_LOG=kafka://… is shared by many nodes, which call each other: set STAKELOG_INTERNAL to the "
                "host:port where this one listens for them, on a network that clients cannot reach"
            )
        return
    if internal.port == settings.port:
        raise SettingsError(f"STAKELOG_INTERNAL={internal}: clients are served on this port; name another one")
    if settings.cluster_secret is None and not is_loopback(internal.host):
        raise SettingsError(
            f"STAKELOG_INTERNAL={internal} is beyond loopback, and who reaches it could post as any client: set "
            "STAKELOG_CLUSTER_SECRET to the same secret on all nodes, as `openssl rand -hex 32` makes one"
        )
    if settings.log != SQLITE and is_of_all_interfaces(urlsplit(settings.advertise).hostname or ""):
        raise SettingsError(
            f"no other node can connect to {settings.advertise}: set STAKELOG_ADVERTISE to where they reach this "
            f"one, as http://10.0.0.7:{internal.port}"
        )


def _one_of(environment: Mapping[str, str], name: str, words: tuple[str, str], default: str) -> str:
    text = environment.get(name, default)
    if text not in words:
        raise SettingsError(f"{name}={text}: {' or '.join(words)}")
    return text


def _integer(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, str(default))
    if not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most):
        raise SettingsError(f"{name}={text}: an integer from {least} to {most}")
    return int(text)
