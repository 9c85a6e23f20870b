"""What the log on Kafka knows of a partition, compared with a simple form of the chain rule, over random topics."""

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from conformance.event_log import run_of
from ledger.core.record import EMPTY, Head, decode, sha256_hex
from ledger.kafka.client import Stored
from ledger.kafka.log import Known, OffsetRange, _Partition


def topic(seed: int, length: int) -> list[bytes]:
    """Values as several writers might have left them: most continue the chain, some an old head, some are garbage."""
    chance = random.Random(seed)
    heads, values = [EMPTY], []
    for number in range(length):
        after = heads[-1] if chance.random() < 0.7 else chance.choice(heads)
        run = run_of(0, after, [f"c{number}"])
        heads.append(run.head)
        values.append(run.stored[0] if chance.random() < 0.9 else chance.choice([b"", b"{}", b"no record"]))
        if chance.random() < 0.1:
            values.append(chance.choice(values))  # a batch that landed twice
    return values


def events_of(values: list[bytes]) -> list[int]:
    """The offsets of the events."""
    found: list[int] = []
    head = EMPTY
    for offset, value in enumerate(values):
        if not value.startswith(b'{"v"'):
            continue
        place, prev, _ = decode(value)
        if (place.seq, prev) == (head.seq + 1, head.sha256):
            found.append(offset)
            head = Head(place.seq, sha256_hex(value))
    return found


@given(st.integers(0, 10_000_000), st.integers(0, 60), st.integers(0, 60))
def test_it_knows_the_offset_of_every_event_and_which_records_are_forks(seed: int, length: int, begin: int) -> None:
    values = topic(seed, length)
    known = _Partition()
    for offset, value in enumerate(values):
        if offset == begin:  # continuing in another process
            before = known.known()
            known = _Partition()
            known.begin_at(before)
        known.take(Stored(offset, value))
    events = events_of(values)
    assert known.head.seq == len(events)
    assert known.forks == len(values) - len(events)
    assert known.next_offset == len(values)
    assert [known.offset_of(seq) for seq in range(1, len(events) + 1)] == events
    seqs = {offset: seq for seq, offset in enumerate(events, start=1)}
    assert [known.seq_at(offset) for offset in range(len(values) + 2)] == [
        seqs.get(offset) for offset in range(len(values) + 2)
    ]


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_the_place_of_a_head_is_what_was_known_directly_after_it(seed: int, length: int) -> None:
    values = topic(seed, length)
    known, heads = _Partition(), []
    then: list[Known] = []
    for offset, value in enumerate(values):
        if known.take(Stored(offset, value)) is not None:
            heads.append(known.head)
            then.append(known.known())
    for head, right_behind in zip(heads, then, strict=True):
        assert known.known_at(head) == right_behind
        late = _Partition()
        late.begin_at(known.known_at(head))
        for offset, value in enumerate(values[late.next_offset :], start=late.next_offset):
            late.take(Stored(offset, value))
        assert late.known() == known.known()


def test_a_place_has_the_members_that_stored_states_have() -> None:
    place = Known(7, "a", 9, 2, (OffsetRange(1, 0), OffsetRange(5, 6, 2)))
    members = {"seq": 7, "sha256": "a", "next_offset": 9, "forks": 2, "runs": [[1, 0, 0], [5, 6, 2]]}
    assert msgspec.msgpack.encode(place) == msgspec.msgpack.encode(members)
