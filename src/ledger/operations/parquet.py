"""Records as Parquet: typed columns for analysis, the exact bytes for verification. Only this module uses pyarrow.

``record`` has the bytes, and every other column is read from them; ``head`` is their SHA-256, so that
``prev`` of a row is ``head`` of the row before it in the partition. ``data`` stays JSON, because each event type has
other members. Amounts are int64 in the asset's minor unit.
"""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Struct

from ledger.operations.export import DamagedExport, UnfitRecord

_ROW_GROUP: Final = 10_000  # chosen: some megabytes in memory, and large enough to compress well

SCHEMA: Final = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("head", pa.string(), nullable=False),
        pa.field("prev", pa.string(), nullable=False),
        pa.field("v", pa.int32(), nullable=False),
        pa.field("time_us", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("command_id", pa.string(), nullable=False),
        pa.field("request_sha256", pa.string(), nullable=False),
        pa.field("actor", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("data", pa.string(), nullable=False),
        pa.field(
            "postings",
            pa.list_(pa.struct([("account", pa.string()), ("asset", pa.string()), ("amount", pa.int64())])),
            nullable=False,
        ),
        pa.field(
            "balances",
            pa.list_(
                pa.struct([("asset", pa.string()), ("cash", pa.int64()), ("bonus", pa.int64()), ("held", pa.int64())])
            ),
            nullable=False,
        ),
        pa.field("record", pa.binary(), nullable=False),
    ]
)


class _Record(Struct, gc=False):
    v: int
    partition: int
    seq: int
    prev: str
    time_us: int
    user_id: str
    command_id: str
    request_sha256: str
    actor: str
    type: str
    data: msgspec.Raw
    postings: list[tuple[str, str, int]]
    balances: dict[str, dict[str, int]]


class _Position(Struct, gc=False):
    partition: int
    seq: int


_decode: Final = msgspec.json.Decoder(_Record).decode
_decode_position: Final = msgspec.json.Decoder(_Position).decode


class Parquet:
    """``ledger.operations.export.Format``: zstd, row groups of 10,000."""

    name = "parquet"

    def write(self, path: Path, records: Iterable[bytes]) -> None:
        iterator = iter(records)
        with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
            while block := list(islice(iterator, _ROW_GROUP)):
                writer.write_batch(_batch(block))

    def read(self, path: Path) -> Iterator[bytes]:
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_ROW_GROUP, columns=["record"], use_threads=False):
                    yield from batch.column(0).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DamagedExport(f"{path} cannot be read as Parquet: {error}") from error


def _batch(records: list[bytes]) -> Any:
    try:
        return pa.RecordBatch.from_pylist([_row(record) for record in records], schema=SCHEMA)
    except (msgspec.MsgspecError, pa.ArrowException, OverflowError) as error:
        first = _decode_position(records[0])
        raise UnfitRecord(
            f"of the {len(records)} records from {first.partition}:{first.seq} on, one does not fit into the "
            f"columns: {error}"
        ) from error


def _row(record: bytes) -> dict[str, Any]:
    event = _decode(record)
    return {
        "partition": event.partition,
        "seq": event.seq,
        "head": sha256(record).hexdigest(),
        "prev": event.prev,
        "v": event.v,
        "time_us": event.time_us,
        "time": event.time_us,
        "user_id": event.user_id,
        "command_id": event.command_id,
        "request_sha256": event.request_sha256,
        "actor": event.actor,
        "type": event.type,
        "data": bytes(event.data).decode(),
        "postings": [
            {"account": account, "asset": asset, "amount": amount} for account, asset, amount in event.postings
        ],
        "balances": [{"asset": asset, **buckets} for asset, buckets in event.balances.items()],
        "record": record,
    }
