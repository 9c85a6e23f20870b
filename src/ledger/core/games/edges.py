"""Finds the games in which commissions and bonuses can cost more of a stake than the game wins of it. All figures are
exact fractions of a stake.

The *edge* of a leg is the part of its stake that the house keeps on average: 1 − (1 − fee) × average odds, where the
average is over all results, and a result on which the leg loses counts 0. It ignores that fees and payouts are
rounded down to minor units, which matters for small stakes only. The edge of a game is that of its worst leg, because
players choose the leg.

The most that a stake costs besides its payout:
(1) commissions: the sum, over the levels, of the largest rate of that level;
(2) bonuses: a bonus b costs the house at most b on average. If it must be staked w times, it comes with stakes of
w × b, so it costs at most 1 ÷ w of each stake. With the bonus of a first deposit D the deposit must be staked too, so
it costs at most b ÷ (D × ``wagering.deposit`` + b × ``wagering.bonus``) of each stake. Without wagering it need not
come with any stakes, so this part of a stake has no limit.

The figure for bonuses is an upper bound of what the house can lose, because it counts every bonus as lost to the
house in full. The ledger itself pays out less: bonus money cannot be withdrawn, held or transferred, and of a payout,
the share that was staked from bonus is bonus again, rounded down.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Final

from msgspec import Struct

from ledger.core.games.catalog import KINDS
from ledger.core.games.rules import Games
from ledger.core.games.tables import PayTable
from ledger.core.money_rules import E9, NO_MONEY_RULES, WAGERING_MAX, Commission, Money, MoneyRules

_PPM: Final = 1_000_000
_NAMED_MAX: Final = 3
"""Of a longer list of games, one line of the log names so many."""


class EdgeExceeded(Struct, frozen=True):
    """A game and an asset in which commissions and bonuses can cost more of a stake than the game wins of it.

    ``edge`` is that of ``leg``, the worst one. All three figures are parts of a stake; ``bonuses`` is None if their
    cost has no limit.
    """

    game: str
    asset: str
    leg: str
    edge: Fraction
    commissions: Fraction
    bonuses: Fraction | None

    @property
    def edge_ppm(self) -> int:
        """In parts per million, rounded down."""
        return self.edge * _PPM // 1

    @property
    def commissions_ppm(self) -> int:
        """In parts per million, rounded up."""
        return _rounded_up(self.commissions)

    @property
    def bonuses_ppm(self) -> int | None:
        """In parts per million, rounded up."""
        return None if self.bonuses is None else _rounded_up(self.bonuses)

    @property
    def message(self) -> str:
        """One line for the operator: the figures, and what to change."""
        return self.message_for([self.game])

    def message_for(self, games: Sequence[str]) -> str:
        """One line for the operator about all of these games, which have the same figures: the figures, and what to
        change. A long list of names is cut."""
        named = games if len(games) <= _NAMED_MAX + 1 else games[:_NAMED_MAX]
        more = f" and {len(games) - len(named)} more games" if len(named) < len(games) else ""
        names = ", ".join(named) + more
        bonuses_ppm = self.bonuses_ppm
        bonuses = (
            "up to their full amounts, whatever is staked"
            if bonuses_ppm is None
            else f"up to {_percent(bonuses_ppm)}"
        )
        return (
            f"{names}, {self.asset}: the house can lose. Of a stake on {self.leg}, its worst leg, it wins "
            f"{_percent(self.edge_ppm)} on average; commissions cost up to {_percent(self.commissions_ppm)}, bonuses "
            f"{bonuses}. In the rules file {', '.join(self._cures(games))}"
        )

    def _cures(self, games: Sequence[str]) -> Iterator[str]:
        if self.commissions:
            yield f"lower the rates of money.{self.asset}.commission"
        if self.bonuses != 0:
            left = self.edge - self.commissions
            enough = -(-1 // left) if left > 0 else WAGERING_MAX + 1
            to = f" to {enough}" if enough <= WAGERING_MAX else ""
            yield f"raise money.{self.asset}.wagering.bonus{to}"
        if len(games) == 1:
            yield f"raise games.{self.game}.fee_bp or lower its odds"
        else:
            yield "raise fee_bp of these games or lower their odds"


def exceeded_edges(games: Games, money: Money, assets: Collection[str]) -> list[EdgeExceeded]:
    """Every game and asset in which commissions and bonuses together can exceed the game's edge, ordered by game and
    asset. ``games`` and ``money`` are the rules, by name of the game and by asset.

    ``external`` is never returned: the ledger does not know its edge."""
    costs = [(asset, *_costs(money.get(asset, NO_MONEY_RULES))) for asset in sorted(assets)]
    found = []
    for name, game in sorted(games.items()):
        leg, edge = worst_leg(game.table)
        found += [
            EdgeExceeded(name, asset, leg, edge, commissions, bonuses)
            for asset, commissions, bonuses in costs
            if bonuses is None or commissions + bonuses > edge
        ]
    return found


def log_lines(found: Iterable[EdgeExceeded]) -> list[str]:
    """The messages for the log: one for all games that have the same figures in an asset.

    ``GET /v1/house`` has one for each game."""
    groups: dict[tuple[object, ...], list[EdgeExceeded]] = {}
    for one in found:
        groups.setdefault((one.asset, one.leg, one.edge, one.commissions, one.bonuses), []).append(one)
    return [group[0].message_for([one.game for one in group]) for group in groups.values()]


def worst_leg(table: PayTable) -> tuple[str, Fraction]:
    """The leg with the smallest edge, and this edge. Of several legs with this edge the first by name."""
    kind = KINDS[table.rules]

    def paid(leg: str) -> int:
        """What the leg pays on all results together, in hundredths of the stake after the fee."""
        return sum(table.odds[won] * results for won, results in kind.wins_on(leg).items())

    leg = max(sorted(kind.legs), key=paid)
    return leg, 1 - Fraction(10_000 - table.fee_bp, 10_000) * Fraction(paid(leg), 100 * kind.results)


def commission_cost(commission: Commission | None) -> Fraction:
    """The largest part of a stake that is paid as commissions, all levels together.

    Each referrer in the chain may have a different agent level, so every level counts with its largest rate."""
    if commission is None:
        return Fraction(0)
    schedules = (commission.rates_e9, *commission.agents.values())
    levels = max(map(len, schedules))
    return Fraction(
        sum(max(rates[level] for rates in schedules if level < len(rates)) for level in range(levels)), E9
    )


def bonus_cost(rules: MoneyRules) -> Fraction | None:
    """An upper bound of the part of a stake that the bonuses of these rules cost; None if that has no limit.

    It counts every bonus as lost to the house in full."""
    by_deposit, by_bonus = rules.wagering_deposit, rules.wagering_bonus
    turnovers = [(bonus, deposit * by_deposit + bonus * by_bonus) for deposit, bonus in rules.first_deposit]
    if rules.registration or rules.attendance or rules.invitation:
        turnovers.append((1, by_bonus))
    if any(turnover == 0 for _, turnover in turnovers):
        return None
    return max((Fraction(bonus, turnover) for bonus, turnover in turnovers), default=Fraction(0))


def _costs(rules: MoneyRules) -> tuple[Fraction, Fraction | None]:
    return commission_cost(rules.commission), bonus_cost(rules)


def _rounded_up(part: Fraction) -> int:
    return -(-part * _PPM // 1)


def _percent(ppm: int) -> str:
    whole, rest = divmod(abs(ppm), 10_000)
    digits = f"{whole}.{rest:04d}".rstrip("0").rstrip(".")
    return f"{'−' if ppm < 0 else ''}{digits} %"
