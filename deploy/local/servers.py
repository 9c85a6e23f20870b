"""The servers: how each makes its data folder, how it starts, and how readiness is checked."""

import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from deploy.local.install import kafka_jars, program
from deploy.local.server import Server, free_port

# A constant id, so that a broker accepts its folder again after a restart.
_CLUSTER_ID: Final = "c3Rha2Vsb2ctbG9jYWwtMQ"
SASL_USER, SASL_PASSWORD = "stakelog", "of-this-machine-only"


class Kafka(Server):
    """One broker that is its own controller (KRaft): replication factor 1.

    It has a plain listener, and one with TLS and SASL/PLAIN (``SASL_USER``, ``SASL_PASSWORD``), whose
    certificate is in ``certificate``.
    """

    name = "kafka"

    def __init__(
        self, folder: Path | None = None, port: int | None = None, *, max_heap: str = "512m", settings: str = ""
    ) -> None:
        """``settings``: lines of ``server.properties``, placed after ours so that they win. It uses two more
        ports: the next ones after ``port``, or free ones."""
        super().__init__(folder, port)
        self.controller_port = free_port() if port is None else port + 1
        self.secure_port = free_port() if port is None else port + 2
        self._max_heap, self._settings = max_heap, settings
        self._properties = self.folder / "server.properties"
        self.certificate = self.folder / "certificate.pem"

    def prepare(self) -> None:
        if not self.certificate.exists():
            self._make_certificate()
        self._properties.write_text(self._text())
        if not (self.folder / "data").exists():
            self.run([*self._java(), "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", self._properties])

    def _make_certificate(self) -> None:
        self.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "30",
                    "-subj",
                    "/CN=localhost",
                ),
                *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-keyout", "plain-key.pem", "-out", self.certificate.name),
            ]
        )
        self.run(["openssl", "pkcs8", "-topk8", "-nocrypt", "-in", "plain-key.pem", "-out", "key.pem"])
        key = (self.folder / "key.pem").read_text()
        (self.folder / "keystore.pem").write_text(key + self.certificate.read_text())

    def _text(self) -> str:
        login = "org.apache.kafka.common.security.plain.PlainLoginModule"
        return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{self.controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{self.port},SECURE://127.0.0.1:{self.secure_port},CONTROLLER://127.0.0.1:{self.controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port},SECURE://127.0.0.1:{self.secure_port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={self.folder / "keystore.pem"}
listener.name.secure.sasl.enabled.mechanisms=PLAIN
listener.name.secure.plain.sasl.jaas.config={login} required user_{SASL_USER}="{SASL_PASSWORD}";
log.dirs={self.folder / "data"}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
# After a crash a broker may return only when its old session has expired: by default 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
{self._settings}
"""

    def _java(self) -> list[str]:
        # Serial garbage collection: one broker shares few cores with the tests.
        return [str(program("java")), f"-Xmx{self._max_heap}", "-XX:+UseSerialGC", "-cp", f"{kafka_jars()}/*"]

    def command(self) -> Sequence[str | Path]:
        return [*self._java(), "kafka.Kafka", self._properties]

    def ready(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return b"Kafka Server started" in log.read()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"kafka://{self.address}"


class PostgreSql(Server):
    """The database ``stakelog`` of the user ``postgres``, which needs no password from this machine."""

    name = "postgresql"
    user = "postgres"
    stop_signal = signal.SIGINT  # "fast": SIGTERM would wait until every client disconnects
    careless = ("-c", "fsync=off", "-c", "full_page_writes=off")
    """Arguments for tests: a power cut would destroy its data, a kill does not."""

    def __init__(self, folder: Path | None = None, port: int | None = None, *, arguments: Sequence[str] = ()) -> None:
        super().__init__(folder, port)
        self._arguments = arguments

    def prepare(self) -> None:
        data = self.folder / "data"
        if (data / "PG_VERSION").exists():
            return
        self.own(data)
        initdb = program("postgres").with_name("initdb")
        self.run([initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N"])

    def command(self) -> Sequence[str | Path]:
        data = self.folder / "data"
        listen: list[str | Path] = ["-p", str(self.port), "-h", "127.0.0.1", "-k", data]
        return [program("postgres"), "-D", data, *listen, *self._arguments]

    def ready(self) -> bool:
        psql = program("postgres").with_name("psql")
        base: list[str | Path] = [psql, "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-qAt"]
        if not self.listens() or not self.succeeds([*base, "-c", "SELECT 1"]):
            return False
        found = [*base, "-d", "stakelog", "-c", "SELECT 1"]
        return self.succeeds(found) or self.succeeds([*base, "-c", "CREATE DATABASE stakelog"])

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/stakelog"


class PgBouncer(Server):
    """In transaction mode: each transaction may use another connection to the server. It runs as the user of
    ``PostgreSql``, because it refuses to run as root."""

    name = "pgbouncer"
    user = "postgres"

    def __init__(self, postgresql_port: int, *, connections: int = 8) -> None:
        """``connections``: how many it opens to the PostgreSQL server at ``postgresql_port`` for each database."""
        super().__init__()
        self._settings = f"""\
[databases]
* = host=127.0.0.1 port={postgresql_port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
"""

    def prepare(self) -> None:
        (self.folder / "pgbouncer.ini").write_text(self._settings)

    def command(self) -> Sequence[str | Path]:
        return [program("pgbouncer"), self.folder / "pgbouncer.ini"]

    def ready(self) -> bool:
        return self.listens()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/stakelog?pgbouncer=1"


class Prometheus(Server):
    """With a configuration that the caller wrote. Its data is in ``folder``."""

    name = "prometheus"

    def __init__(self, configuration: Path) -> None:
        super().__init__()
        self._configuration = configuration.absolute()

    def prepare(self) -> None:
        self.own(self.folder / "data")

    def command(self) -> Sequence[str | Path]:
        return [
            program("prometheus"),
            f"--config.file={self._configuration}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/-/ready", timeout=5) as response:  # noqa: S310 - our own address
                return bool(response.status == 200)
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class MariaDb(Server):
    """The database ``stakelog`` of the user ``stakelog``, which needs no password from this machine."""

    name = "mariadb"
    user = "mysql"
    careless = ("--debug-no-sync", "--innodb-file-per-table=0")
    """Arguments for tests: a power cut would destroy its data, a kill does not."""

    def __init__(self, folder: Path | None = None, port: int | None = None, *, arguments: Sequence[str] = ()) -> None:
        super().__init__(folder, port)
        self._arguments = arguments

    def prepare(self) -> None:
        data = self.folder / "data"
        if (data / "mysql").exists():
            return
        self.own(data)
        self.run(
            [
                *(
                    "mariadb-install-db",
                    "--no-defaults",
                    f"--datadir={data}",
                    "--skip-test-db",
                    "--skip-name-resolve",
                ),
                "--auth-root-authentication-method=normal",
            ]
        )
        # Written once, before the first start; the server runs it at its start.
        (self.folder / "first.sql").write_text(
            "CREATE DATABASE IF NOT EXISTS stakelog CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;\n"
            "CREATE USER IF NOT EXISTS stakelog@'127.0.0.1';\nGRANT ALL ON stakelog.* TO stakelog@'127.0.0.1';\n"
        )

    def command(self) -> Sequence[str | Path]:
        data = self.folder / "data"
        return [
            *(program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={self.port}"),
            *("--bind-address=127.0.0.1", f"--socket={data / 'sock'}", f"--pid-file={data / 'pid'}"),
            *("--skip-name-resolve", f"--init-file={self.folder / 'first.sql'}", "--innodb-buffer-pool-size=128M"),
            *self._arguments,
        ]

    def ready(self) -> bool:
        client = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", str(self.port), "-u", "stakelog"]
        return self.listens() and self.succeeds([*client, "-e", "SELECT 1", "stakelog"])

    @property
    def url(self) -> str:
        return f"mysql://stakelog@127.0.0.1:{self.port}/stakelog"


class Redis(Server):
    """Without persistence: its content can be rebuilt."""

    name = "redis"

    def prepare(self) -> None:
        """Nothing: it has no data."""

    def command(self) -> Sequence[str | Path]:
        return [program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


SERVERS: Final[dict[str, type[Server]]] = {server.name: server for server in (Kafka, PostgreSql, MariaDb, Redis)}
