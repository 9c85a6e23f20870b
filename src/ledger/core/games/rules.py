"""The rules that a process uses: the built-in games, changed by the operator's rules file, and the money flows of
that file (``money_rules``).

The games of the file: ``{"games": {"wingo_2s": {"close_ms": 500, "odds": {"number": 900}}}}``. A game's name gives
its rules and its length.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from ledger.core.games.catalog import KINDS
from ledger.core.games.periods import SECOND_US, is_on_grid, length_of, length_s_of_game, start_of
from ledger.core.games.tables import ODDS_MAX, PayTable, digest_of
from ledger.core.money import AMOUNT_MAX, Assets
from ledger.core.money_rules import NO_MONEY, Money, money_of
from ledger.core.money_rules import digest_of as digest_of_money
from ledger.core.rules_file import (
    WrongRules,
    amounts_at,
    integer_at,
    integer_or_none,
    known_keys,
    object_at,
    parsed,
)

BUILT_IN_LENGTHS: Final = ("30s", "1m", "3m", "5m", "10m")
EXTERNAL_GAME: Final = "external"
"""The game whose rules the game server keeps."""

_BETS_MAX: Final = 1_000_000


class Game(Struct, frozen=True):
    """A game with rules: the length of its periods, and the table that bets are taken under."""

    name: str
    length_s: int
    table: PayTable
    digest: str


class Span(Struct, frozen=True):
    """When a period begins, stops taking bets, and ends, in Unix microseconds."""

    starts_at_us: int
    closes_at_us: int
    ends_at_us: int


Games = Mapping[str, Game]
"""A game's name → the game. ``external`` is not in it."""


class RulesFile(Struct, frozen=True):
    """What a rules file says: the built-in games with its changes, and the rules of money flows by asset."""

    games: Games
    money: Money


class RuleBook(Struct, frozen=True):
    """The games that take bets, and, by digest, every pay table that an open bet may have been taken under; the rules
    of money flows, their digest ("" if there are none), and, by digest, every set of rules that the log keeps."""

    games: Games
    tables: dict[str, PayTable]
    money: Money = NO_MONEY
    money_digest: str = ""
    money_kept: dict[str, Money] = {}
    names: set[str] = set()
    """The games whose periods may get an outcome: those that take bets, and those that the log keeps, because rules
    of earlier starts or of other nodes had them."""

    def with_outcomes(self, name: str) -> Game | None:
        """The game of that name if its periods may get an outcome. One that takes no bets any more has built-in odds,
        because each of its bets is paid by the table that it was taken under. None for any other name."""
        game = self.games.get(name)
        return game_no_longer_played(name) if game is None and name in self.names else game


def book_of(
    games: Games,
    kept: Mapping[str, PayTable] | None = None,
    money: Money = NO_MONEY,
    money_kept: Mapping[str, Money] | None = None,
    names: Iterable[str] = (),
) -> RuleBook:
    """The book of ``games`` and ``money``, with the pay tables, rules and names of games that the log keeps."""
    digest = digest_of_money(money)
    return RuleBook(
        games,
        {**(kept or {}), **{game.digest: game.table for game in games.values()}},
        money,
        digest,
        {**(money_kept or {}), **({digest: money} if digest else {})},
        {*names, *games},
    )


def span_of(game: Game, period: str) -> Span | None:
    """The span of a period; None if the text is not the name of a period of this game."""
    start_us = start_of(period)
    if start_us is None or not is_on_grid(start_us, game.length_s):
        return None
    ends_at_us = start_us + game.length_s * SECOND_US
    return Span(start_us, ends_at_us - game.table.close_ms * 1_000, ends_at_us)


def built_in_games() -> dict[str, Game]:
    return {
        name: _game(name, PayTable(rules=rules, odds=dict(KINDS[rules].odds)))
        for rules in KINDS
        for name in (f"{rules}_{length}" for length in BUILT_IN_LENGTHS)
    }


@lru_cache(maxsize=256)
def game_no_longer_played(name: str) -> Game | None:
    """The game that a name describes, with built-in odds. None if the name has no rules or no length."""
    rules = name.rpartition("_")[0]
    if rules not in KINDS or length_s_of_game(name) is None:
        return None
    return _game(name, PayTable(rules=rules, odds=dict(KINDS[rules].odds)))


def read_rules(text: str, assets: Assets) -> RulesFile:
    """What a rules file says. Raises WrongRules."""
    rules = parsed(text)
    games = built_in_games()
    of_games = object_at("games", rules.get("games"))
    for name, changes in of_games.items():
        games[name] = _laid_over(f"games.{name}", name, changes, games.get(name), assets)
    return RulesFile(games, money_of(rules.get("money"), assets))


def _game(name: str, table: PayTable) -> Game:
    length_s = length_s_of_game(name)
    assert length_s is not None, name
    return Game(name, length_s, table, digest_of(table))


def _laid_over(at: str, name: str, changes: Any, before: Game | None, assets: Assets) -> Game:
    rules, _, length = name.rpartition("_")
    if rules not in KINDS:
        raise WrongRules(f"{at}: a game's name is its rules and its length, as wingo_30s; rules: {', '.join(KINDS)}")
    length_s = length_of(length)
    if length_s is None:
        raise WrongRules(f"{at}: {length} is not a length that divides a day, as 30s, 5m or 1h")
    table = before.table if before is not None else PayTable(rules=rules, odds=dict(KINDS[rules].odds))
    known_keys(at, changes, ("close_ms", "fee_bp", "odds", "stake_min", "stake_max", "bets_per_period"))
    odds = object_at(f"{at}.odds", changes.get("odds"))
    for kind, value in odds.items():
        if kind not in table.odds:
            raise WrongRules(f"{at}.odds.{kind}: {rules} has no such leg kind; it has {', '.join(table.odds)}")
        integer_at(f"{at}.odds.{kind}", value, 0, ODDS_MAX)
    stake_min = amounts_at(f"{at}.stake_min", changes.get("stake_min"), assets)
    stake_max = amounts_at(f"{at}.stake_max", changes.get("stake_max"), assets)
    table = PayTable(
        rules=rules,
        odds={**table.odds, **odds},
        fee_bp=integer_at(f"{at}.fee_bp", changes.get("fee_bp", table.fee_bp), 0, 10_000),
        close_ms=integer_at(f"{at}.close_ms", changes.get("close_ms", table.close_ms), 0, length_s * 1_000 - 1),
        stake_min={**table.stake_min, **stake_min},
        stake_max={**table.stake_max, **stake_max},
        bets_per_period=_bets(f"{at}.bets_per_period", changes.get("bets_per_period", table.bets_per_period)),
    )
    for asset, least in table.stake_min.items():
        if least > table.stake_max.get(asset, AMOUNT_MAX):
            raise WrongRules(f"{at}.stake_min.{asset}: it is above stake_max")
    return _game(name, table)


def _bets(at: str, value: Any) -> int | None:
    return integer_or_none(at, value, 1, _BETS_MAX)


BUILT_IN: Final = book_of(built_in_games())
"""The built-in games: what a process plays without a rules file."""
