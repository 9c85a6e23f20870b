"""The assets' exponents and the pay tables of games: the Kafka topic ``stakelog.declarations``, one partition.

The key is the asset, or ``table:`` and the digest of the table.

Invariants:
(1) an asset's exponent is the one in the first record that names the asset;
(2) a node writes no event before it has read the whole topic, compared it, added the missing assets, and read it
    again: of two nodes that declare at once both see which record is first, so at most one exponent is accepted.

A node that is refused may have declared its other assets before; those declarations are valid. A table is named by
its digest, so all declarations of one agree.
"""

import logging
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.games.tables import PayTable, canonical, read_table
from ledger.core.money import Assets, lacking
from ledger.errors import LogMisconfigured, LogUnavailable, OutcomeUnknown, WrongAssets, WrongPartitions
from ledger.kafka.address import KafkaAddress
from ledger.kafka.client import KafkaClient
from ledger.kafka.topic import prepare_topic

DECLARATIONS: Final = "stakelog.declarations"

_PARTITION: Final = 0
_PAGE_BYTES: Final = 1 << 20
_TRIES: Final = 3  # chosen: an append whose outcome is unknown is found by reading, or repeated

_log = logging.getLogger(__name__)


_TABLE: Final = b"table:"


class _Declaration(Struct, frozen=True):
    asset: str
    exponent: int


class _Declared(NamedTuple):
    assets: dict[str, int]
    tables: dict[str, PayTable]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Declaration).decode


async def declare(
    address: KafkaAddress, assets: Assets, tables: Mapping[str, PayTable], *, topic: str, timeout_s: float
) -> None:
    """Declare ``assets`` and ``tables``.

    Raises WrongAssets if an asset was declared with another exponent; LogMisconfigured, LogUnavailable.
    """
    try:
        await prepare_topic(address, topic, 1, timeout_s=timeout_s)
    except WrongPartitions as error:
        raise LogMisconfigured(
            f"the topic {topic} must have one partition: declarations in another are not read. Nothing was "
            "written; use another cluster, or, if no asset was declared in it yet, delete the topic"
        ) from error
    client = KafkaClient(address, topic, timeout_s=timeout_s)
    await client.start()
    try:
        for _ in range(_TRIES):
            declared = await _declared(client)
            _check(assets, declared.assets, topic)
            records = [
                (asset.encode(), _encode(_Declaration(asset, assets[asset])))
                for asset in assets
                if asset not in declared.assets
            ]
            records += [
                (_TABLE + digest.encode(), canonical(table))
                for digest, table in tables.items()
                if digest not in declared.tables
            ]
            if not records:
                return
            try:
                await client.append_keyed(_PARTITION, records)
            except OutcomeUnknown as error:
                _log.warning("the assets and pay tables are declared again: %s", error)
        declared = await _declared(client)
        _check(assets, declared.assets, topic)
        if not (assets.keys() <= declared.assets.keys() and tables.keys() <= declared.tables.keys()):
            raise LogUnavailable(
                f"{address} does not accept the declaration of assets and pay tables to {topic}; nothing was written"
            )
    finally:
        await client.close()


async def declared_tables(address: KafkaAddress, *, topic: str, timeout_s: float) -> dict[str, PayTable]:
    """The pay tables that any node has declared, by their digests. Raises LogUnavailable."""
    client = KafkaClient(address, topic, timeout_s=timeout_s)
    await client.start()
    try:
        return (await _declared(client)).tables
    finally:
        await client.close()


async def _declared(client: KafkaClient) -> _Declared:
    """Return each asset's first exponent, and every table. Raises LogUnavailable."""
    declared: dict[str, int] = {}
    tables: dict[str, PayTable] = {}
    end = await client.end_offset(_PARTITION)
    async for page in client.pages(_PARTITION, 0, end, _PAGE_BYTES):
        for stored in page.records:
            try:
                if stored.key is not None and stored.key.startswith(_TABLE):
                    digest = stored.key.removeprefix(_TABLE).decode()
                    tables[digest] = read_table(digest, stored.value)
                    continue
                found = _decode(stored.value)
            except (ValueError, msgspec.MsgspecError, UnicodeDecodeError):
                _log.warning("offset %d of the declarations is no declaration", stored.offset)
                continue
            declared.setdefault(found.asset, found.exponent)
    return _Declared(declared, tables)


def _check(assets: Assets, declared: dict[str, int], topic: str) -> None:
    for asset, exponent in assets.items():
        if declared.get(asset, exponent) != exponent:
            raise WrongAssets(
                f"the log was written with {asset}:{declared[asset]} (topic {topic}), not with {asset}:{exponent}: "
                "set STAKELOG_ASSETS to the first, or use another cluster"
            )
    if (why := lacking(assets, declared)) is not None:
        raise WrongAssets(f"the log (topic {topic}) {why}")
