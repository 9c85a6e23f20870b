"""A user's partition is the one that Kafka's Java clients choose for the same key, and never changes."""

import pytest

from ledger.core.position import Position, murmur2, partition_of

# org.apache.kafka.common.utils.UtilsTest.testMurmur2, as signed 32-bit integers.
KAFKA_VECTORS = {
    b"21": -973_932_308,
    b"foobar": -790_332_482,
    b"a-little-bit-long-string": -985_981_536,
    b"a-little-bit-longer-string": -1_486_304_829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58_897_971,
    b"abc": 479_470_107,
}


@pytest.mark.parametrize(("key", "signed"), KAFKA_VECTORS.items())
def test_murmur2_is_kafkas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@pytest.mark.parametrize(("key", "signed"), KAFKA_VECTORS.items())
@pytest.mark.parametrize("partitions", [1, 3, 16, 1024])
def test_the_sign_bit_is_dropped_before_the_remainder_is_taken(key: bytes, signed: int, partitions: int) -> None:
    assert partition_of(key.decode(), partitions) == (signed & 0x7FFFFFFF) % partitions


def test_users_keep_their_partition_of_the_default_sixteen() -> None:
    assert partition_of("21", 16) == 12
    assert partition_of("foobar", 16) == 14
    assert partition_of("abc", 16) == 11


def test_users_that_differ_in_case_may_have_different_partitions() -> None:
    assert partition_of("Bob", 1024) != partition_of("bob", 1024)


def test_a_game_is_placed_by_the_hash_of_its_whole_name() -> None:
    assert partition_of("game:wingo_30s", 16) == (murmur2(b"game:wingo_30s") & 0x7FFFFFFF) % 16


@pytest.mark.parametrize("partition", [0, 7, 1023])
def test_a_partitions_own_stream_is_in_that_partition(partition: int) -> None:
    assert partition_of(f"partition:{partition}", 1024) == partition


def test_a_thousand_users_fill_every_partition() -> None:
    assert {partition_of(f"user-{n}", 16) for n in range(1000)} == set(range(16))


def test_a_position_is_read_as_it_is_written() -> None:
    assert Position.parse(str(Position(3, 42))) == Position(3, 42)


@pytest.mark.parametrize("text", ["", "3", "3:", ":42", "3:42:1", "three:42"])
def test_other_texts_are_no_position(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|int\(\)"):
        Position.parse(text)
