"""The filter of seen keys never says "no" of a key that was added, and says "no" of most others."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.writer.key_filter import KeyFilter


def test_until_it_is_complete_every_key_may_be_held() -> None:
    seen = KeyFilter(16)
    assert seen.may_have("u1 c:c-1")
    seen.complete = True
    assert not seen.may_have("u1 c:c-1")


@given(st.lists(st.text(), max_size=200), st.integers(1, 1024))
def test_a_key_that_was_added_may_be_held_for_ever(keys: list[str], partitions: int) -> None:
    seen = KeyFilter(partitions)
    seen.complete = True
    seen.add(keys)
    assert all(seen.may_have(key) for key in keys)


def test_few_keys_that_were_not_added_may_be_held() -> None:
    seen = KeyFilter(1024)  # the smallest share: 2^18 bits
    seen.complete = True
    seen.add(f"u{number} c:c-{number}" for number in range(20_000))
    wrong = sum(seen.may_have(f"u{number} c:other") for number in range(10_000))
    assert wrong < 500, "2 in 100 are expected: the square of the share of bits that are set"
