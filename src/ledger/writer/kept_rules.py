"""Gets rules that a partition needs and its node did not start with: another node used them, and the log keeps them.

Each function adds the rules that the log keeps to ``rules``. It raises RulesMissing if the log lacks one that is
needed, LogUnavailable if the log cannot be read.
"""

from collections.abc import Sequence

from ledger.core.follow_up_commands import PayCommission
from ledger.core.games.rules import RuleBook
from ledger.errors import RulesMissing
from ledger.ports import EventLog
from ledger.writer.requests import FollowUpRequest

_RESTORE = (
    "is not kept with the log: restore the log's file or its topic of declarations, or start once with the rules "
    "file that had"
)


async def learn_tables(log: EventLog, rules: RuleBook, partition: int, digests: set[str]) -> None:
    """Get the pay tables of open bets, by their digests."""
    if digests - rules.tables.keys():
        rules.tables.update(await log.tables())
    if missing := sorted(digests - rules.tables.keys()):
        raise RulesMissing(
            f"partition {partition} has open bets that were taken under the pay table {missing[0]}, which {_RESTORE} "
            "this table"
        )


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
