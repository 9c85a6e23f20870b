"""Creates the topics that are missing, and checks the ones that exist.

Invariants:
(1) no setting lets the broker remove, change or un-acknowledge a record of events or declarations by itself: no
    retention, no compaction, no unclean leader, and the required number of copies before an append is acknowledged.
    Snapshots can be rebuilt, so their topic is compacted;
(2) a topic that breaks this is refused with every wrong setting, its value, and the command to type. This program
    never changes a setting: the operator may have had a reason for it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

from ledger.errors import LogMisconfigured, LogUnavailable, WrongPartitions
from ledger.kafka.address import KafkaAddress
from ledger.kafka.connection import new_admin_client

APPEND_BYTES_MAX: Final = 8 * 1024 * 1024
"""The largest batch that a topic must accept. Chosen: four times 4,096 commands of the usual half kilobyte."""

KEPT: Final = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "unclean.leader.election.enable": "false",
    "message.timestamp.type": "LogAppendTime",
}
"""A topic that keeps every record."""

COMPACTED: Final = {"cleanup.policy": "compact", "unclean.leader.election.enable": "false"}
"""A topic that keeps the last record of each key."""

_BATCH_OVERHEAD: Final = 1_024
_LOOK_AGAIN_S: Final = 0.1


def settings_of(address: KafkaAddress, safe: Mapping[str, str] = KEPT) -> dict[str, str]:
    """Return the settings of a new topic."""
    return dict(safe) | {
        "min.insync.replicas": str(address.min_insync_replicas),
        "max.message.bytes": str(APPEND_BYTES_MAX + _BATCH_OVERHEAD),
    }


async def prepare_topic(
    address: KafkaAddress,
    topic: str,
    partitions: int,
    *,
    timeout_s: float,
    safe: Mapping[str, str] = KEPT,
    chosen: Mapping[str, str] | None = None,
) -> None:
    """Create or check ``topic``: it must have the settings ``safe``; a new one also gets ``chosen``.

    Raises LogMisconfigured, WrongPartitions, LogUnavailable.
    """
    async with _admin_client(address, timeout_s) as admin:
        described = await _described(admin, topic)
        if described is None:
            await _create(admin, address, topic, partitions, settings_of(address, safe) | dict(chosen or {}))
        while described is None or not _complete(described):
            await asyncio.sleep(_LOOK_AGAIN_S)
            described = await _described(admin, topic)
        found = await _settings(admin, topic)
    _check_partitions(described, topic, partitions)
    _check_copies(described, address, topic)
    _check_settings(found, address, topic, safe)


async def partitions_of(address: KafkaAddress, topic: str, *, timeout_s: float) -> int:
    """Return the number of partitions of ``topic``. Raises LogUnavailable, also if there is no such topic yet."""
    async with _admin_client(address, timeout_s) as admin:
        described = await _described(admin, topic)
    if described is None or not _complete(described):
        raise LogUnavailable(f"there is no topic {topic} at {address} yet: the first node creates it")
    return len(described["partitions"])


async def exists(address: KafkaAddress, topic: str, *, timeout_s: float) -> bool:
    """Whether there is this topic. Raises LogUnavailable."""
    async with _admin_client(address, timeout_s) as admin:
        return await _described(admin, topic) is not None


@asynccontextmanager
async def _admin_client(address: KafkaAddress, timeout_s: float) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield a client for a block that may take ``timeout_s``. Raises LogUnavailable."""
    admin = new_admin_client(**address.client_options(), request_timeout_ms=int(timeout_s * 1_000))
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            yield admin
    except TimeoutError:
        raise LogUnavailable(
            f"{address} did not respond within {timeout_s:g} s: is it up, and the address right?"
        ) from None
    except KafkaConnectionError as error:
        raise LogUnavailable(address.unreachable(error)) from error
    except (KafkaError, OSError) as error:
        raise LogUnavailable(f"{address} cannot be used: {error!r}") from error
    finally:
        await admin.close()


async def _described(admin: AIOKafkaAdminClient, topic: str) -> Mapping[str, Any] | None:
    for described in await admin.describe_topics([topic]):
        error = for_code(described["error_code"])
        if error.errno == 0:
            return dict(described)
        if not error.retriable:
            raise error(topic)
    return None


def _complete(described: Mapping[str, Any]) -> bool:
    """Whether every partition has its leader: after a topic is created this takes a moment."""
    return bool(described["partitions"]) and all(partition["leader"] >= 0 for partition in described["partitions"])


async def _create(
    admin: AIOKafkaAdminClient, address: KafkaAddress, topic: str, partitions: int, settings: Mapping[str, str]
) -> None:
    new = NewTopic(topic, partitions, address.replication_factor, topic_configs=dict(settings))
    for _, code, message in (await admin.create_topics([new])).topic_errors:
        error = for_code(code)
        if error.errno == 0 or error is TopicAlreadyExistsError:  # another node was faster: its topic is checked
            continue
        raise LogMisconfigured(
            f"the topic {topic} cannot be created with {partitions} partitions and replication factor "
            f"{address.replication_factor}: {message or error.__name__}. Start that many brokers, or set "
            "replication_factor=1 in the address if the loss of one disk may lose the log"
        )


async def _settings(admin: AIOKafkaAdminClient, topic: str) -> dict[str, str]:
    responses = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    found: dict[str, str] = {}
    for response in responses:
        for code, message, _, _, entries in response.resources:
            if code != 0:
                raise LogUnavailable(f"the settings of the topic {topic} cannot be read: {message or for_code(code)}")
            found |= {entry[0]: entry[1] for entry in entries}
    return found


def _check_partitions(described: Mapping[str, Any], topic: str, partitions: int) -> None:
    found = len(described["partitions"])
    if found != partitions:
        raise WrongPartitions(
            f"the topic {topic} was created with {found} partitions, not {partitions}: set "
            f"STAKELOG_PARTITIONS={found}, or use another cluster. With another number of partitions users are "
            "looked for in other partitions than their events"
        )


def _check_copies(described: Mapping[str, Any], address: KafkaAddress, topic: str) -> None:
    copies = min(len(partition["replicas"]) for partition in described["partitions"])
    if copies < address.replication_factor:
        raise LogMisconfigured(
            f"the topic {topic} has {copies} copies of a partition, not {address.replication_factor}: add replicas "
            f"with kafka-reassign-partitions.sh, or set replication_factor={copies} in the address"
        )


def _check_settings(found: Mapping[str, str], address: KafkaAddress, topic: str, safe: Mapping[str, str]) -> None:
    wrong = {name: value for name, value in safe.items() if found.get(name) != value}
    for name, least in (
        ("min.insync.replicas", address.min_insync_replicas),
        ("max.message.bytes", APPEND_BYTES_MAX + _BATCH_OVERHEAD),
    ):
        if int(found.get(name) or 0) < least:
            wrong[name] = str(least)
    if wrong:
        listed = ", ".join(f"{name}={found.get(name)} (must be {value})" for name, value in sorted(wrong.items()))
        changes = ",".join(f"{name}={value}" for name, value in sorted(wrong.items()))
        raise LogMisconfigured(
            f"the topic {topic} has {listed}. Records could be lost or changed; nothing was written. Change it: "
            f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {changes}"
        )
