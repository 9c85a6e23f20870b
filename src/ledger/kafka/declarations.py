"""The assets' exponents: the Kafka topic ``stakelog.declarations``, one partition, key = asset.

Truths:
(1) an asset's exponent is what the first record that names it says, for ever;
(2) a node writes nothing before it has read the topic whole, compared, added what is missing, and read again: of two
    that declare at once each sees the record that came first, so that at most one exponent goes on.

A node that is refused may have declared its other assets before; they are as good as anybody's.
"""

import asyncio
import logging
from typing import Final

import msgspec
from msgspec import Struct

from ledger.core.money import Assets
from ledger.errors import LogMisconfigured, LogUnavailable, OutcomeUnknown, WrongAssets, WrongPartitions
from ledger.kafka.address import KafkaAddress
from ledger.kafka.client import KafkaClient
from ledger.kafka.topic import prepare_topic

DECLARATIONS: Final = "stakelog.declarations"

_PARTITION: Final = 0
_PAGE_BYTES: Final = 1 << 20
_TRIES: Final = 3  # chosen: an append whose outcome is unknown is found by reading, or made again

_log = logging.getLogger(__name__)


class _Declaration(Struct, frozen=True):
    asset: str
    exponent: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Declaration).decode


async def declare(address: KafkaAddress, assets: Assets, *, topic: str, timeout_s: float) -> None:
    """Raises WrongAssets where an asset was declared with another exponent; LogMisconfigured, LogUnavailable."""
    try:
        await prepare_topic(address, topic, 1, timeout_s=timeout_s)
    except WrongPartitions as error:
        raise LogMisconfigured(
            f"the topic {topic} must have one partition: what was declared in another would not be seen. Nothing was "
            "written; use another cluster, or, where no asset was declared in it yet, delete the topic"
        ) from error
    client = KafkaClient(address, topic, timeout_s=timeout_s)
    await client.start()
    try:
        for _ in range(_TRIES):
            declared = await _declared(client, timeout_s)
            _check(assets, declared, topic)
            missing = [asset for asset in assets if asset not in declared]
            if not missing:
                return
            records = [(asset.encode(), _encode(_Declaration(asset, assets[asset]))) for asset in missing]
            try:
                await client.append_keyed(_PARTITION, records)
            except OutcomeUnknown as error:
                _log.warning("the assets are declared again: %s", error)
        declared = await _declared(client, timeout_s)
        _check(assets, declared, topic)
        if not assets.keys() <= declared.keys():
            raise LogUnavailable(f"{address} does not take the declaration of assets to {topic}; nothing was written")
    finally:
        await client.close()


async def _declared(client: KafkaClient, timeout_s: float) -> dict[str, int]:
    """Each asset's first exponent. Raises LogUnavailable."""
    declared: dict[str, int] = {}
    end, offset = await client.end_offset(_PARTITION), 0
    try:
        async with asyncio.timeout(timeout_s):
            while offset < end:
                page = await client.fetch(_PARTITION, offset, _PAGE_BYTES)
                for stored in page.records:
                    try:
                        found = _decode(stored.value)
                    except (msgspec.MsgspecError, UnicodeDecodeError):
                        _log.warning("offset %d of the declarations is no declaration", stored.offset)
                        continue
                    declared.setdefault(found.asset, found.exponent)
                if page.next_offset == offset:
                    await asyncio.sleep(0.002)  # a new leader shows what it has a moment after it was elected
                offset = page.next_offset
    except TimeoutError:
        raise LogUnavailable(f"the declarations of assets do not show their offset {offset}") from None
    return declared


def _check(assets: Assets, declared: dict[str, int], topic: str) -> None:
    for asset, exponent in assets.items():
        if declared.get(asset, exponent) != exponent:
            raise WrongAssets(
                f"the log was written with {asset}:{declared[asset]} (topic {topic}), not with {asset}:{exponent}: "
                "set STAKELOG_ASSETS to what it was, or use another cluster"
            )
