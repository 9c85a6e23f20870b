"""``docs/games/<rules>.md``: a page for each kind of game, with its odds and exact returns, from the rules."""

from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import Final, NamedTuple

from ledger.core.games.catalog import KINDS
from ledger.core.games.payout import fee_of, pay_legs
from ledger.core.games.periods import RESULT_AFTER_US, SECOND_US, issue_of, length_s_of_game, name_of, start_of
from ledger.core.games.rules import BUILT_IN_LENGTHS
from ledger.core.games.tables import PayTable


class _Row(NamedTuple):
    """Legs that are alike: how they are spelled, when they win, and one of them."""

    legs: str
    wins_on: str
    leg: str


class _Page(NamedTuple):
    title: str
    about: str
    rows: tuple[_Row, ...]
    drawn: str


_HALVES: Final = (
    _Row("`big` · `small`", "5–9 · 0–4", "big"),
    _Row("`odd` · `even`", "1 3 5 7 9 · 0 2 4 6 8", "odd"),
)
_WINGO: Final = (
    _Row("`number:0` … `number:9`", "that digit", "number:7"),
    _Row("`green`", "1 3 7 9; on 5 at other odds", "green"),
    _Row("`red`", "2 4 6 8; on 0 at other odds", "red"),
    _Row("`violet`", "0 5", "violet"),
    *_HALVES,
)
_K3: Final = (
    *(_Row(f"`sum:{n}` · `sum:{21 - n}`", "the dice add up to it", f"sum:{n}") for n in range(3, 11)),
    _Row("`big` · `small`", "a sum of 11–18 · 3–10", "big"),
    _Row("`odd` · `even`", "an odd · even sum", "odd"),
    _Row("`pair:11` … `pair:66`", "exactly two of that face; a triple is no pair", "pair:11"),
    _Row("`pair:11,6` …", "two of the first face and one of the other, in any order", "pair:11,6"),
    _Row("`triple:111` … `triple:666`", "three of that face", "triple:111"),
    _Row("`triple`", "three of any face", "triple"),
    _Row("`set:123` … (ascending)", "these three faces, in any order", "set:123"),
    _Row("`consecutive`", "1 2 3, 2 3 4, 3 4 5 or 4 5 6, in any order", "consecutive"),
    _Row("`two:12` … (ascending)", "both faces appear", "two:12"),
)
_5D: Final = (
    _Row("`A:0` … `E:9`", "that digit at that place", "A:7"),
    _Row("`A:big` · `A:small` … `E:small`", "5–9 · 0–4 at that place", "A:big"),
    _Row("`A:odd` · `A:even` … `E:even`", "an odd · even digit at that place", "A:odd"),
    _Row("`sum:big` · `sum:small`", "a sum of 23–45 · 0–22", "sum:big"),
    _Row("`sum:odd` · `sum:even`", "an odd · even sum", "sum:odd"),
)
_OF_TRX_WIX: Final = """\
The digit is the last decimal digit of
the hash of a TRON block; letters after it are skipped, so all ten digits are equally likely. `record_result` has a
`proof`, `{"height", "hash", "time_us"}`. The ledger refuses another digit, and a block from before the period's end,
with `invalid_result`; `audit verify` checks both again. The game is fair if the block is fixed in advance: the first
block at or after the period's end. To check a result, look the height up in a TRON explorer, compare hash and time
with the `proof` of the event, and compute the digit:

```sh
printf %s 0000000003f1c6b1a3a2b7c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7fb | tr -cd 0-9 | tail -c 1   # 7
```
"""
_OF_THE_SERVER: Final = """\
The game server draws the result and posts it once with
`record_result`; the ledger proves what it pays, not how it was drawn. A server that commits to its draw in advance
may keep the commitment in `metadata` of the event.
"""
_PAGES: Final = {
    "wingo": _Page("Wingo", "One digit from 0 to 9.", _WINGO, _OF_THE_SERVER),
    "trx_wix": _Page("TrxWix", "Wingo, with the digit from a block of TRON.", _WINGO, _OF_TRX_WIX),
    "k3": _Page("K3", "Three dice.", _K3, _OF_THE_SERVER),
    "5d": _Page("5D", "Five digits, at the places A to E.", _5D, _OF_THE_SERVER),
}
GAME_PAGES: Final = tuple(f"{rules}.md" for rules in KINDS)
_STAKE: Final = 1_001
_SHOWN: Final = 5
_START: Final = "20261201T120000Z"


def game_pages() -> dict[str, str]:
    """The name of each page → the page, as Markdown."""
    return {f"{rules}.md": _page(rules, _PAGES.get(rules) or _plain(rules)) for rules in KINDS}


def _plain(rules: str) -> _Page:
    """The page of a game without an entry in ``_PAGES``: one row for the legs that win alike."""
    alike: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for leg in sorted(KINDS[rules].legs):
        alike.setdefault(tuple(_won(rules, leg).items()), []).append(leg)
    rows = (
        _Row(" · ".join(f"`{leg}`" for leg in legs[:_SHOWN]) + " …" * (len(legs) > _SHOWN), "by its rules", legs[0])
        for legs in alike.values()
    )
    return _Page(rules, f"Its rules: `{KINDS[rules].wins.__module__}`.", tuple(rows), _OF_THE_SERVER)


def _page(rules: str, page: _Page) -> str:
    table = _table(rules)
    won = {row.leg: _won(rules, row.leg) for row in page.rows}
    named = set().union(*won.values())
    rows = "".join(_row(rules, row, won[row.leg]) for row in page.rows)
    halves = {"small", "even", "sum_small", "sum_even", *(f"sum_{n}" for n in range(11, 19))}
    assert table.odds.keys() - named <= halves, f"no row of {rules} wins at {table.odds.keys() - named}"
    return f"""\
# {page.title}

{page.about} Written by `make schemas` from the rules in `src/ledger/core/games`.
Words: [glossary](../glossary.md). The other games: {_others(rules)}.

Built in as {_list(f"`{rules}_{length}`" for length in BUILT_IN_LENGTHS)}.
Any length that divides a day can be played: add it to the file that `STAKELOG_RULES` names, as
`{{"games": {{"{rules}_90s": {{}}}}}}`. The same file can change the odds, the fee, the closing time and the
smallest and largest stake.

## Periods

A period is named by its start in UTC: `{_START}` of `{rules}_1m` is issue {_issue(rules)}.
It takes bets from its start until {table.close_ms // 1000} s before its end, by the ledger's clock. One result or
one `cancel_period` is accepted, from {RESULT_AFTER_US // SECOND_US} s after the end. It ends every open bet of the
period. A result pays each bet by the pay table whose digest is on the bet's event, even if the rules have changed. A
cancelled period returns each stake with its fee.

## Bets

A selection is one leg, or several joined by `+`. The stake is split equally over the legs; the remainder goes to the
first legs, one unit each. Each leg is settled separately: its fee is floor(its stake × {table.fee_bp} ÷ 10,000), its
*contract amount* is its stake less the fee, and if it wins it pays floor(contract amount × odds). Odds include
the stake.

| legs | win on | odds | chance | return on the contract amount | return on the stake |
| --- | --- | --- | --- | --- | --- |
{rows}
Example: {_example(rules)}

## Result and proof

A result is written as `"{KINDS[rules].example[1]}"`. {page.drawn}
`GET /v1/events` has the bet, the result and the settlement, each chained to the record before it. The settlement has
`legs`, `[[leg, stake, payout]]`, and names its result in `cause`. [`audit verify`](../audit.md) recomputes from
the result and the pay table what each leg pays, with its own copy of the rules.
"""


def _row(rules: str, row: _Row, won: Counter[str]) -> str:
    table, results = _table(rules), KINDS[rules].results
    on_contract = Fraction(sum(number * table.odds[kind] for kind, number in won.items()), 100 * results)
    on_stake = on_contract * Fraction(10_000 - table.fee_bp, 10_000)
    odds = " · ".join(f"{table.odds[kind] / 100:g}" for kind in won)
    chances = " · ".join(f"{number:,} of {results:,}" for number in won.values())
    return f"| {row.legs} | {row.wins_on} | {odds} | {chances} | {_exact(on_contract)} | {_exact(on_stake)} |\n"


def _won(rules: str, leg: str) -> Counter[str]:
    """The kinds of odds at which the leg wins, with the number of results, the most frequent first."""
    return Counter(dict(Counter(KINDS[rules].wins_on(leg)).most_common()))


def _table(rules: str) -> PayTable:
    """The built-in table."""
    return PayTable(rules=rules, odds=dict(KINDS[rules].odds))


def _exact(share: Fraction) -> str:
    """In percent: all digits, or as a fraction where they do not end."""
    percent = share * 100
    digits = next((n for n in range(9) if (10**n % percent.denominator) == 0), None)
    if digits is not None:
        return f"{float(percent):.{digits}f} %"
    return f"{percent.numerator:,}/{percent.denominator:,} % ≈ {float(percent):.4f} %"


def _example(rules: str) -> str:
    table, (selection, result) = _table(rules), KINDS[rules].example
    legs = pay_legs(table, selection, _STAKE, result)
    paid = ", ".join(f"`{leg}` {stake} → {payout}" for leg, stake, payout in legs)
    return (
        f"a stake of {_STAKE:,} on `{selection}`, with a fee of {fee_of(table, _STAKE, len(legs))}, and the "
        f"result {result}:\n{paid}; together {sum(leg.payout for leg in legs):,}."
    )


def _issue(rules: str) -> str:
    start_us, length_s = start_of(_START), length_s_of_game(f"{rules}_1m")
    assert start_us is not None, _START
    assert length_s is not None, rules
    assert name_of(start_us) == _START
    return f"`{issue_of(KINDS[rules].number, length_s, start_us)}`"


def _others(rules: str) -> str:
    return _list(f"[{page.title}]({name}.md)" for name, page in _PAGES.items() if name != rules)


def _list(texts: Iterable[str]) -> str:
    *all_but_last, last = texts
    return f"{', '.join(all_but_last)} and {last}"
