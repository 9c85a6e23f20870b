"""Payouts of any selection, stake and result, against the independent calculator."""

from hypothesis import given
from hypothesis import strategies as st

from ledger.core.games.payout import fee_of, legs_of, pay_legs, split
from ledger.core.games.rules import built_in_games
from ledger.core.money import AMOUNT_MAX
from naive_games import RESULTS, legs, paid_legs
from naive_games import fee_of as naive_fee

_GAMES = built_in_games()


@st.composite
def _bets(draw: st.DrawFn) -> tuple[str, str, int, str]:
    rules = draw(st.sampled_from(sorted(RESULTS)))
    chosen = draw(st.lists(st.sampled_from(legs(rules)), min_size=1, max_size=12, unique=True))
    while len("+".join(chosen)) > 128:
        chosen.pop()
    stake = draw(st.integers(1, AMOUNT_MAX) | st.integers(1, 300))
    return rules, "+".join(chosen), stake, draw(st.sampled_from(RESULTS[rules]))


@given(_bets())
def test_a_bet_pays_what_the_independent_calculator_says(bet: tuple[str, str, int, str]) -> None:
    rules, selection, stake, result = bet
    table = _GAMES[f"{rules}_1m"].table
    found = legs_of(rules, selection)
    assert found is not None
    assert fee_of(table, stake, len(found)) == naive_fee(stake, len(found))
    assert list(pay_legs(table, selection, stake, result)) == paid_legs(rules, selection, stake, result)


@given(st.integers(1, AMOUNT_MAX), st.integers(1, 40))
def test_a_stake_is_split_exactly(stake: int, legs_count: int) -> None:
    parts = split(stake, legs_count)
    assert sum(parts) == stake
    assert parts == sorted(parts, reverse=True)
    assert parts[0] - parts[-1] <= 1


@given(st.text(max_size=20))
def test_no_text_makes_a_selection_that_is_not_one_of_the_legs(text: str) -> None:
    for rules in RESULTS:
        found = legs_of(rules, text)
        assert (found is not None) == (
            set(text.split("+")) <= set(legs(rules)) and len(set(text.split("+"))) == text.count("+") + 1
        )
