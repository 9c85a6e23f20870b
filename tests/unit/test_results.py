"""The result of an accepted command is copied from its record, and is what encoding its event would give."""

from typing import Any

import msgspec
import pytest

from api.http.bodies import BatchAccepted, BatchHit, Result, encode_batch, encode_result, encode_results
from ledger.core.events import Balance, Deposited, Event
from ledger.core.position import Position
from ledger.core.record import decode, encode, members_of, sha256_hex
from ledger.writer.requests import Accepted
from schemas.generate.played import first_of_each_type, play

PLAYED = {name: example.record.encode() for name, example in first_of_each_type(play()).items()}

CONFUSING = Event(
    *(5, "u1", '","type":"x","data":{', "0" * 64, "local"),
    Deposited(
        amount=1,
        asset="INR",
        first_deposit=True,
        order_id='","balances":{',
        metadata={"type": ',"type":"', "postings": '","postings":[', "balances": ',"balances":{', "prev": "é"},
    ),
    (("house/deposits", "INR", -1), ("wallet/u1/cash", "INR", 1)),
    {"INR": Balance(1)},
)


def expected(record: bytes, head: str) -> Result:
    position, _, event = decode(record)
    place, data = (str(position), position.partition, position.seq), event.data
    return Result(*place, event.time_us, data.type, data, event.balances, head)


@pytest.mark.parametrize(
    "record", [*PLAYED.values(), encode(CONFUSING, Position(3, 7), "")], ids=[*PLAYED, "confusing"]
)
def test_a_result_is_the_encoded_event(record: bytes) -> None:
    head = sha256_hex(record)
    accepted = Accepted(record, decode(record).position, head)
    assert encode_result(accepted) == encode_results(expected(record, head))


def test_the_results_of_a_batch_are_the_encoded_events() -> None:
    new, hit = (Accepted(record, decode(record).position, "0" * 64) for record in list(PLAYED.values())[:2])
    hit = msgspec.structs.replace(hit, hit=True)
    assert encode_batch([new, hit]) == encode_results(
        [BatchAccepted(201, expected(new.record, new.head)), BatchHit(200, True, expected(hit.record, hit.head))]
    )


def test_a_record_of_another_version_is_read_first() -> None:
    record = PLAYED["deposit"]
    older = record.replace(b'{"v":1,', b'{"v":0,')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("ledger.core.record", fromlist=["UPCASTERS"]).UPCASTERS, 0, _as_of_this_version)
        assert members_of(older) == members_of(record)


def _as_of_this_version(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "v": 1}
