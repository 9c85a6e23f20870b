"""What no ledger on Kafka can undercut: one record sent by a bare producer, acknowledged by all replicas, no more.

The producer is as the ledger's own: idempotent, ``acks=all``, without waiting for more to send together.
"""

from __future__ import annotations

from array import array
from time import perf_counter

import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from bench.figures import BenchError, Slice, slice_of
from bench.yardsticks.sqlite import RECORD_BYTES
from ledger.errors import LedgerError
from ledger.kafka.address import parse_address
from ledger.kafka.log import TIMEOUT_S
from ledger.kafka.topic import prepare_topic

TOPIC = "stakelog.bench"


def bare_sends(url: str, limit_s: float) -> Slice:
    """Send records of ``RECORD_BYTES`` one by one for ``limit_s`` seconds; latencies are from send to acknowledged.

    The topic is made on the first call, as safe as the events'. Raises BenchError.
    """
    address = parse_address(url)
    value = b"x" * RECORD_BYTES

    async def run() -> Slice:
        await prepare_topic(address, TOPIC, 1, timeout_s=TIMEOUT_S)
        producer = AIOKafkaProducer(**address.client_options(), enable_idempotence=True, acks="all")
        await producer.start()
        took_s = array("d")
        try:
            await producer.send_and_wait(TOPIC, value, key=b"w-0000000")  # the first one asks where to
            began = at = perf_counter()
            while at < began + limit_s:
                await producer.send_and_wait(TOPIC, value, key=b"w-0000000")
                now = perf_counter()
                took_s.append(now - at)
                at = now
        finally:
            await producer.stop()
        return slice_of(len(took_s), at - began, took_s)

    try:
        return uvloop.run(run())
    except (KafkaError, LedgerError, OSError) as error:
        raise BenchError(f"the bare send failed: {error!r}") from error
