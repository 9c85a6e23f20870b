"""Commissions: what the referrers of a member are paid for the member's stakes."""

from ledger.core.case import Case, Decision, event_of
from ledger.core.commands import SetAgentLevel
from ledger.core.events import AgentLevelSet


def set_agent_level(case: Case, command: SetAgentLevel) -> Decision:
    return event_of(case, AgentLevelSet(level=command.level, metadata=command.metadata))
