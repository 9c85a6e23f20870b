"""Amounts are integers of an asset's minor unit, 1 … 2^53 − 1; assets are declared by code and exponent."""

import pytest

from ledger.core.money import AMOUNT_MAX, in_bounds, is_amount, parse_assets


def test_the_largest_amount_is_the_largest_integer_that_every_json_reader_keeps_exact() -> None:
    assert AMOUNT_MAX == 9_007_199_254_740_991
    assert float(AMOUNT_MAX) == AMOUNT_MAX
    assert int(float(AMOUNT_MAX + 2)) != AMOUNT_MAX + 2


@pytest.mark.parametrize("value", [1, 500, AMOUNT_MAX])
def test_an_amount_is_at_least_one_and_at_most_the_maximum(value: int) -> None:
    assert is_amount(value)


@pytest.mark.parametrize("value", [0, -1, AMOUNT_MAX + 1, 10**40])
def test_nothing_else_is_an_amount(value: int) -> None:
    assert not is_amount(value)


@pytest.mark.parametrize("total", [0, AMOUNT_MAX, -AMOUNT_MAX])
def test_what_a_wallet_owns_may_reach_both_bounds(total: int) -> None:
    assert in_bounds(total)


@pytest.mark.parametrize("total", [AMOUNT_MAX + 1, -AMOUNT_MAX - 1])
def test_what_a_wallet_owns_may_not_pass_a_bound(total: int) -> None:
    assert not in_bounds(total)


def test_assets_are_declared_with_their_exponents() -> None:
    assert parse_assets("INR:2,USDT:6,GOLD:0") == {"INR": 2, "USDT": 6, "GOLD": 0}


def test_spaces_around_an_asset_do_not_matter() -> None:
    assert parse_assets(" INR:2 , GOLD:0 ") == {"INR": 2, "GOLD": 0}


@pytest.mark.parametrize(
    "text", ["", "INR", "INR:", ":2", "INR:2,", "INR:-1", "INR:19", "INR:2:2", "I NR:2", "INR:²"]
)
def test_a_malformed_declaration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not an asset: write CODE:EXPONENT"):
        parse_assets(text)


def test_an_asset_declared_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="INR is declared twice"):
        parse_assets("INR:2,GOLD:0,INR:3")
