"""The assets' exponents, the games, their pay tables, and the rules of money flows: the Kafka topic
``stakelog.declarations``, one partition.

The key is the asset, or ``table:`` and the digest of the table, ``money:`` and the digest of the rules, or
``game:`` and the name of the game.

Invariants:
(1) an asset's exponent is the one in the first record that names the asset;
(2) a node writes no event before it has read the whole topic, compared it, added the missing assets, and read it
    again: of two nodes that declare at once both see which record is first, so at most one exponent is accepted;
(3) events without a declared asset are refused: every node declares before it writes, so the topic was lost, and new
    declarations could give the events' amounts another exponent.

A node that is refused may have declared its other assets before; those declarations are valid. Tables and rules
are named by their digests, and games by their names, so all declarations of one agree.
"""

import logging
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from ledger.core.games.tables import PayTable, canonical, read_table
from ledger.core.money import Assets, lacking
from ledger.core.money_rules import Money, read_kept
from ledger.core.money_rules import canonical as canonical_money
from ledger.errors import LogMisconfigured, LogUnavailable, OutcomeUnknown, WrongAssets, WrongPartitions
from ledger.kafka.address import KafkaAddress
from ledger.kafka.client import KafkaClient
from ledger.kafka.topic import exists, prepare_topic

DECLARATIONS: Final = "stakelog.declarations"

_PARTITION: Final = 0
_PAGE_BYTES: Final = 1 << 20
_TRIES: Final = 3  # chosen: an append whose outcome is unknown is found by reading, or repeated

_log = logging.getLogger(__name__)


_TABLE: Final = b"table:"
_MONEY: Final = b"money:"
_GAME: Final = b"game:"


class _Declaration(Struct, frozen=True):
    asset: str
    exponent: int


class Declared(NamedTuple):
    """The assets' exponents, the pay tables and rules of money flows by their digests, and the names of games."""

    assets: dict[str, int]
    tables: dict[str, PayTable]
    money: dict[str, Money]
    games: set[str]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Declaration).decode


async def declare(
    address: KafkaAddress, wanted: Declared, *, topic: str, events_topic: str | None, timeout_s: float
) -> None:
    """Declare what is ``wanted`` and not declared yet. ``events_topic``: the topic of the events, if it was seen to
    have records before this call.

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
            if events_topic is not None and not declared.assets:
                raise LogMisconfigured(_lost(topic, events_topic, address))
            _check(wanted.assets, declared.assets, topic)
            records = _missing(wanted, declared)
            if not records:
                return
            try:
                await client.append_keyed(_PARTITION, records)
            except OutcomeUnknown as error:
                _log.warning("the assets and rules are declared again: %s", error)
        declared = await _declared(client)
        _check(wanted.assets, declared.assets, topic)
        if _missing(wanted, declared):
            raise LogUnavailable(
                f"{address} does not accept the declaration of assets and rules to {topic}; nothing was written"
            )
    finally:
        await client.close()


def _missing(wanted: Declared, declared: Declared) -> list[tuple[bytes, bytes]]:
    """The keys and values of the records to write."""
    return [
        *(
            (asset.encode(), _encode(_Declaration(asset, exponent)))
            for asset, exponent in wanted.assets.items()
            if asset not in declared.assets
        ),
        *(
            (_TABLE + digest.encode(), canonical(table))
            for digest, table in wanted.tables.items()
            if digest not in declared.tables
        ),
        *(
            (_MONEY + digest.encode(), canonical_money(money))
            for digest, money in wanted.money.items()
            if digest not in declared.money
        ),
        *((_GAME + name.encode(), b"{}") for name in sorted(wanted.games - declared.games)),
    ]


async def read_declared(address: KafkaAddress, *, topic: str, timeout_s: float) -> Declared:
    """What any node has declared. Raises LogUnavailable."""
    if not await exists(address, topic, timeout_s=timeout_s):  # its reads would only time out
        raise LogUnavailable(
            f"the topic {topic} is missing at {address}: it has the assets and the rules that the events were "
            "written with. Restore it from a copy of the cluster, then start this program again"
        )
    client = KafkaClient(address, topic, timeout_s=timeout_s)
    await client.start()
    try:
        return await _declared(client)
    finally:
        await client.close()


async def _declared(client: KafkaClient) -> Declared:
    """Return each asset's first exponent, every table and set of rules, and every game. Raises LogUnavailable."""
    declared: dict[str, int] = {}
    tables: dict[str, PayTable] = {}
    money: dict[str, Money] = {}
    games: set[str] = set()
    end = await client.end_offset(_PARTITION)
    async for page in client.pages(_PARTITION, 0, end, _PAGE_BYTES):
        for stored in page.records:
            try:
                if stored.key is not None and stored.key.startswith(_TABLE):
                    digest = stored.key.removeprefix(_TABLE).decode()
                    tables[digest] = read_table(digest, stored.value)
                    continue
                if stored.key is not None and stored.key.startswith(_MONEY):
                    digest = stored.key.removeprefix(_MONEY).decode()
                    money[digest] = read_kept(digest, stored.value)
                    continue
                if stored.key is not None and stored.key.startswith(_GAME):
                    games.add(stored.key.removeprefix(_GAME).decode())
                    continue
                found = _decode(stored.value)
            except (ValueError, msgspec.MsgspecError, UnicodeDecodeError):
                _log.warning("offset %d of the declarations is no declaration", stored.offset)
                continue
            declared.setdefault(found.asset, found.exponent)
    return Declared(declared, tables, money, games)


def _lost(topic: str, events_topic: str, address: KafkaAddress) -> str:
    return (
        f"the topic {topic} at {address} declares no asset, but {events_topic} has records: it was deleted, or "
        "created again. Nothing was written. Restore it from a copy of the cluster. Without a copy, declare each "
        "asset again with the exponent that the events were written with, by kafka-console-producer.sh "
        f'--property parse.key=true --topic {topic} and lines such as \'INR<tab>{{"asset":"INR","exponent":2}}\'; '
        "then start a node once with each rules file that was in use"
    )


def _check(assets: Assets, declared: dict[str, int], topic: str) -> None:
    for asset, exponent in assets.items():
        if declared.get(asset, exponent) != exponent:
            raise WrongAssets(
                f"the log was written with {asset}:{declared[asset]} (topic {topic}), not with {asset}:{exponent}: "
                "set STAKELOG_ASSETS to the first, or use another cluster"
            )
    if (why := lacking(assets, declared)) is not None:
        raise WrongAssets(f"the log (topic {topic}) {why}")
