"""Gets rules that a partition needs and its node did not start with: another node used them, and the log keeps them.

Each function adds the rules that the log keeps to ``rules``. It raises RulesMissing if the log lacks one that is
needed, LogUnavailable if the log cannot be read.
"""

from collections.abc import Sequence

from ledger.core.follow_up_commands import PayCommission
from ledger.core.games.rules import RuleBook
from ledger.errors import RulesMissing
from ledger.ports import EventLog
from ledger.writer.open_bets import OpenBets
from ledger.writer.requests import FollowUpRequest

_RESTORE = (
    "is not kept with the log: restore the log's file or its topic of declarations, or start once with the rules "
    "file that had"
)


async def learn_rules_of_bets(log: EventLog, rules: RuleBook, partition: int, open_bets: OpenBets) -> None:
    """Get the pay tables and the games of open bets. If the log lacks the name of a game, the bets are from a version
    that kept no names: the log keeps it from now on."""
    digests, games = open_bets.digests, open_bets.games
    if digests - rules.tables.keys():
        rules.tables.update(await log.tables())
    if missing := sorted(digests - rules.tables.keys()):
        raise RulesMissing(
            f"partition {partition} has open bets that were taken under the pay table {missing[0]}, which {_RESTORE} "
            "this table"
        )
    if games - rules.names:
        rules.names.update(await log.games())
    if unknown := games - rules.names:
        await log.keep_games(unknown)
        rules.names.update(unknown)


async def learn_money_rules(
    log: EventLog, rules: RuleBook, partition: int, follow_ups: Sequence[FollowUpRequest]
) -> None:
    """Get the rules of money flows that these follow-ups name."""
    digests = {waiting.follow_up.rules for waiting in follow_ups if isinstance(waiting.follow_up, PayCommission)}
    if digests - rules.money_kept.keys():
        rules.money_kept.update(await log.money_rules())
    if missing := sorted(digests - rules.money_kept.keys()):
        raise RulesMissing(
            f"partition {partition} is to pay commissions by the rules {missing[0]}, which {_RESTORE} these rules"
        )
