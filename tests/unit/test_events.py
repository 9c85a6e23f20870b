"""The events: a record's bytes follow from their shapes, so order and names are part of the format."""

import msgspec
import pytest

from ledger.core.bet_events import BetPlaced, StakeSource
from ledger.core.event_base import Data
from ledger.core.events import (
    DATA_OF,
    DATA_TYPES,
    Deposited,
    LimitsSet,
    Posting,
    sums_to_zero,
)

SUBCLASSES = Data.__subclasses__()


@pytest.mark.parametrize("data_type", [*DATA_TYPES, StakeSource], ids=lambda data_type: data_type.__name__)
def test_data_members_are_declared_in_the_order_of_their_names(data_type: type[msgspec.Struct]) -> None:
    names = list(data_type.__struct_encode_fields__)
    assert names == sorted(names)


def test_all_types_are_distinct() -> None:
    assert len({data_type.type for data_type in DATA_TYPES}) == len(DATA_TYPES) == len(DATA_OF)


def test_every_kind_of_data_is_among_the_types() -> None:
    assert set(SUBCLASSES) == set(DATA_TYPES)


def test_null_members_are_left_out() -> None:
    data = Deposited(amount=5, asset="INR", first_deposit=False, order_id="o1")
    assert msgspec.json.encode(data) == b'{"amount":5,"asset":"INR","first_deposit":false,"order_id":"o1"}'


def test_a_zero_and_an_empty_map_that_were_given_stay() -> None:
    data = Deposited(amount=5, asset="INR", bonus=0, first_deposit=True, metadata={}, order_id="o1")
    assert msgspec.json.decode(msgspec.json.encode(data)) == {
        "amount": 5,
        "asset": "INR",
        "bonus": 0,
        "first_deposit": True,
        "metadata": {},
        "order_id": "o1",
    }


def test_in_limits_set_a_null_is_a_value_and_absence_is_not() -> None:
    assert msgspec.json.encode(LimitsSet(asset="INR", balance_max=None)) == b'{"asset":"INR","balance_max":null}'


def test_a_bet_says_where_its_stake_came_from() -> None:
    data = BetPlaced(
        asset="INR",
        bet_id="b1",
        source=StakeSource(bonus=3, cash=2, grants=(("g1", 3),)),
        game="external",
        period="p",
        selection="s",
        stake=5,
    )
    assert msgspec.json.encode(data) == (
        b'{"asset":"INR","bet_id":"b1","from":{"bonus":3,"cash":2,"grants":[["g1",3]]},'
        b'"game":"external","period":"p","selection":"s","stake":5}'
    )


def test_an_unknown_member_of_data_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `order`"):
        msgspec.convert({"payout": 1, "bet_id": "b1", "order": 1}, DATA_OF["bet_settled"])


def inr(account: str, amount: int) -> Posting:
    return (account, "INR", amount)


@pytest.mark.parametrize(
    "postings",
    [
        (),
        (inr("a", -5), inr("b", 5)),
        (inr("a", -5), inr("b", 3), inr("c", 2)),
        (inr("a", -5), inr("b", 5), ("a", "GOLD", 1), ("b", "GOLD", -1)),
    ],
)
def test_postings_sum_to_zero(postings: tuple[Posting, ...]) -> None:
    assert sums_to_zero(postings)


@pytest.mark.parametrize(
    "postings",
    [
        (inr("a", 5),),
        (inr("a", -5), inr("b", 4)),
        (inr("a", -5), inr("b", 3), inr("c", 1)),
        (inr("a", -5), ("b", "GOLD", 5)),
        (inr("a", -5), inr("b", 4), ("b", "GOLD", 1)),
    ],
)
def test_postings_that_do_not_balance_in_each_asset_are_found(postings: tuple[Posting, ...]) -> None:
    assert not sums_to_zero(postings)
