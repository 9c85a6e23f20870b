"""``may_have`` is never False for an added key, and False for most other keys."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.writer.key_filter import KeyFilter


def test_an_incomplete_filter_may_have_every_key() -> None:
    key_filter = KeyFilter(16)
    assert key_filter.may_have("u1 c:c-1")
    key_filter.complete = True
    assert not key_filter.may_have("u1 c:c-1")


@given(st.lists(st.text(), max_size=200), st.integers(1, 1024))
def test_the_filter_may_have_every_key_that_was_added(keys: list[str], partitions: int) -> None:
    key_filter = KeyFilter(partitions)
    key_filter.complete = True
    key_filter.add(keys)
    assert all(key_filter.may_have(key) for key in keys)


def test_the_filter_may_have_few_keys_that_were_not_added() -> None:
    key_filter = KeyFilter(1024)  # the smallest share: 2^18 bits
    key_filter.complete = True
    key_filter.add(f"u{number} c:c-{number}" for number in range(20_000))
    wrong = sum(key_filter.may_have(f"u{number} c:other") for number in range(10_000))
    assert wrong < 500, "2 in 100 are expected: the square of the share of bits that are set"
