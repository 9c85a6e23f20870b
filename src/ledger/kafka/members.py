"""Who is in a consumer group: asked of its coordinator, without joining it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code

from ledger.errors import LogUnavailable
from ledger.kafka.address import KafkaAddress

NODES_GROUP: Final = "stakelog-nodes"
"""The group of the nodes, which hands the partitions out: whoever is in it may write."""

_TRY_AGAIN_S: Final = 0.1


class Member(NamedTuple):
    """One member: what it calls itself, and the host it comes from."""

    client_id: str
    host: str

    def __str__(self) -> str:
        return f"{self.client_id} at {self.host.lstrip('/')}"


async def members_of(address: KafkaAddress, group: str, *, timeout_s: float) -> list[Member]:
    """The group's members; [] where there is no such group. Raises LogUnavailable."""
    admin: Any = AIOKafkaAdminClient(**address.client_options(), request_timeout_ms=int(timeout_s * 1_000))
    last: BaseException | None = None
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            while True:
                try:
                    return await _described(admin, group)
                except KafkaError as error:  # the first question to a new cluster makes it look for a coordinator
                    if not error.retriable:
                        raise
                    last = error
                await asyncio.sleep(_TRY_AGAIN_S)
    except TimeoutError:
        reason = "no answer" if last is None else repr(last)
        raise LogUnavailable(
            f"{address} did not say within {timeout_s:g} s who is in the group {group}: {reason}"
        ) from last
    except (KafkaError, OSError) as error:
        raise LogUnavailable(f"{address} cannot be asked who is in the group {group}: {error!r}") from error
    finally:
        await admin.close()


async def _described(admin: Any, group: str) -> list[Member]:
    found: list[Member] = []
    for response in await admin.describe_consumer_groups([group]):
        for code, _, _, _, _, members, *_ in response.groups:
            error = for_code(code)
            if error.errno != 0:
                raise error(group)
            found += [_member(member) for member in members]
    return found


def _member(described: Sequence[Any]) -> Member:
    _, client_id, host, *_ = described
    return Member(str(client_id), str(host))
