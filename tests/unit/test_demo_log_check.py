"""The check of a day's records: a sound chain has no faults, and each kind of damage is named."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from demo.log_check import EMPTY_HEAD, Chain, End


def records(count: int, **last: Any) -> list[bytes]:
    """A sound chain of `count` records in partition 3; `last` changes the last one before it is hashed."""
    chain: list[bytes] = []
    head = EMPTY_HEAD
    for seq in range(1, count + 1):
        event = {
            "partition": 3,
            "seq": seq,
            "prev": head,
            "time_us": seq,
            "user_id": "u1",
            "command_id": f"c{seq}",
            "postings": [["wallet/u1/cash", "INR", 5], ["house/deposits", "INR", -5]],
        }
        chain.append(msgspec.json.encode(event | (last if seq == count else {})))
        head = head_of(chain[-1])
    return chain


def head_of(record: bytes) -> str:
    return hashlib.sha256(record).hexdigest()


def faults(
    chain: list[bytes], end: End | None = None, acknowledged: dict[int, tuple[str, str, str]] | None = None
) -> list[str]:
    checked = Chain(3, End(0, EMPTY_HEAD), acknowledged or {})
    for record in chain:
        checked.take(record)
    checked.finish(end or End(len(chain), head_of(chain[-1])))
    return checked.faults


def test_a_sound_chain_has_no_faults() -> None:
    chain = records(3)
    assert faults(chain, acknowledged={2: ("u1", "c2", head_of(chain[1]))}) == []


def test_a_changed_record_breaks_the_link_after_it() -> None:
    chain = records(3)
    chain[1] = chain[1].replace(b'"INR",5', b'"INR",6').replace(b'"INR",-5', b'"INR",-6')
    assert faults(chain) == ["3:3: its prev is not the head before it"]


def test_a_missing_record_is_named() -> None:
    chain = records(3)
    del chain[1]
    assert "3:3: does not follow 3:1" in faults(chain, end=End(3, head_of(chain[-1])))


def test_postings_that_do_not_sum_to_zero_are_named() -> None:
    assert faults(records(2, postings=[["wallet/u1/cash", "INR", 5]])) == ["3:2: its postings do not sum to zero"]


def test_time_that_goes_back_is_named() -> None:
    assert faults(records(2, time_us=0)) == ["3:2: time_us goes back"]


def test_a_log_with_another_end_than_the_published_one_is_named() -> None:
    assert faults(records(2), end=End(3, "f" * 64)) == ["3:2: the head is not the published one of seq 3"]


def test_an_acknowledged_command_that_is_missing_or_changed_is_named() -> None:
    chain = records(2)
    acknowledged = {1: ("u1", "c1", "f" * 64), 9: ("u2", "c9", "f" * 64)}
    assert faults(chain, acknowledged=acknowledged) == [
        "3:1: is not what was acknowledged to u1 for c1",
        "3:9: c9 of u2 was acknowledged and is missing",
    ]
