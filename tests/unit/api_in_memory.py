"""The application over a node and a read model, called as an ASGI server calls it: no socket, no second process.

async with InMemoryApi(tmp_path) as api_client:
    await api_client.world.given(open_wallet(), deposit(500))
    await api_client.fold()                             # before this the read model is empty
    response = await api_client.get("/v1/wallets/u1/history?limit=1")

A target is sent unchanged: percent-encoded, as in an HTTP request.
"""

import sqlite3
from collections.abc import Collection
from contextlib import closing
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote

import msgspec

from api.composition.application import Listening, build_applications
from api.composition.child_process import Child
from api.http.application import Rim
from api.http.consistency import body_of
from api.http.limiter import Limiter
from api.http.metrics import ReadModelGauges
from api.identity.keys import Keys
from api.limits.limits import Limits, Rates
from api.limits.memory import NoncesInMemory
from api.limits.signatures import SignedRequests
from ledger.core.record import EMPTY
from ledger.histogram import SECONDS, Histogram
from ledger.operations.seals import SEALS, SealFile
from ledger.peers.log_view import LogView
from projections.live.hub import Hub
from projections.live.tail import LogTail
from projections.models import VERSION
from projections.projecting.partition import PartitionProjector
from projections.reads.queries import Reads
from projections.storage.port import Checkpoint, Difference
from projections.storage.slow import TimedReads
from projections.storage.sqlite import SqliteReadModelStore
from projections.storage.sqlite_reader import SqliteReadModel
from unit.node_in_memory import World

UNLIMITED: Final = Rates(client=0, user=0, address=0, login_per_min=0)


class ApiResponse(NamedTuple):
    status: int
    headers: dict[str, str]
    """Names in lower case; a header that is given twice fails the request."""
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def limiter(rates: Rates = UNLIMITED, **options: Any) -> Limiter:
    """Limits of one process. ``options``: of ``Limits``."""
    return Limiter(Limits(rates, **options), SignedRequests(NoncesInMemory()))


class InMemoryApi:
    """One node in memory, its read model in a folder, and the application on top."""

    def __init__(
        self,
        folder: Path,
        partitions: int = 4,
        *,
        started: World | None = None,
        whole: LogView | None = None,
        keys: Keys | None = None,
        **listeners: Any,
    ) -> None:
        """``started``: a node that runs already, with as many partitions; ``whole``: its log among other nodes;
        ``listeners``: settings of the applications; with ``login``, and without a ``limiter``, nothing is limited."""
        if listeners.get("login") is not None:
            listeners.setdefault("limiter", limiter())
        self._listeners, self._keys = listeners, keys
        self._whole = whole
        self.world = World(partitions) if started is None else started
        self._runs = started is not None
        self._path = folder / "read-model.sqlite3"
        self._partitions = partitions
        self.seals = SealFile(folder / SEALS)
        self.app: Rim
        self.inside: Rim
        """What the internal listener serves."""

    async def __aenter__(self) -> Self:
        if not self._runs:
            await self.world.start()
        self.store = SqliteReadModelStore(self._path)
        self._generation = (await self.store.make_generation(VERSION, self._partitions, live=True)).number
        self._folders = [
            PartitionProjector(self.store, self._generation, partition, Checkpoint(EMPTY), [])
            for partition in range(self._partitions)
        ]
        self.model = SqliteReadModel(self._path)
        node = self.world.node
        durations_s = Histogram(SECONDS)
        children = {"follower": Child("follower", ()), "check": Child("check", ())}
        gauges = ReadModelGauges(node, self.model, children, durations_s)
        self.seals.open()
        log_view = LogView(node, self.world.owners, self.world.others) if self._whole is None else self._whole
        self.reads = Reads(TimedReads(self.model, inf, durations_s), node, self.world.clock)
        address = "http://127.0.0.1:8080"
        tail = LogTail(self.model, self._partitions, node.end, node.records)
        self.hub = Hub(self.model, self.reads, body_of, tail.run, feeds_max=10, feeds_of_user_max=3)
        self.app, inside = build_applications(
            node,
            self.reads,
            gauges,
            address,
            log_view,
            self.seals,
            Listening(**self._listeners),
            self.hub,
            self._keys,
        )
        if inside is not None:
            self.inside = inside
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hub.stop()
        await self.model.close()
        await self.store.close()
        await self.world.stop()

    async def fold(self, only: Collection[int] | None = None) -> None:
        """Bring the read model, or only these partitions of it, to the end of the log."""
        await self.world.quiet()
        for folder, records in zip(self._folders, self.world.appended.records, strict=True):
            if only is not None and folder.partition not in only:
                continue
            if run := await folder.fold(records[folder.head.seq :]):
                await self.store.commit(self._generation, [run])
                folder.mark_stored(run)

    async def empty(self, table: str) -> None:
        """Delete every row of a table of the read model, by hand."""
        with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            connection.execute(f"DELETE FROM {table}_g{self._generation}")

    async def differ(self, partition: int, *found: Difference) -> None:
        """Store what a background check found in the partition, and let the service look at it."""
        await self.store.report(self._generation, partition, 1, 1, found)
        await self.reads.suspects.look()

    async def get(self, target: str, *headers: tuple[str, str]) -> ApiResponse:
        return await self.ask("GET", target, *headers)

    async def ask(
        self, method: str, target: str, *headers: tuple[str, str], app: Rim | None = None, body: bytes = b""
    ) -> ApiResponse:
        """``app``: the one that is asked; None: the one for clients. The request's id is always the same, unless
        ``headers`` choose another: so equal requests get equal responses."""
        if "x-request-id" not in dict(headers):
            headers = (*headers, ("x-request-id", "the-test"))
        raw_path, _, query = target.partition("?")
        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"stakelog"), *((name.encode(), text.encode()) for name, text in headers)],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
            "state": {},
        }
        sent: list[Any] = []

        parts: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            # Then the client is gone, so that a response that lasts ends.
            return parts.pop() if parts else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await (app or self.app)(scope, receive, send)
        start, *parts = sent
        found: dict[str, str] = {}
        for name, text in start["headers"]:
            key = name.decode().lower()
            assert key not in found, f"{key} is given twice"
            found[key] = text.decode()
        return ApiResponse(start["status"], found, b"".join(part["body"] for part in parts))
