"""A witness of a running node: reads its log and its responses, and compares both with the reference model.

Only the log shows the order of the requests that many clients post to many partitions at once. So the witness reads
the new records of every partition and posts the same commands to the model, in the order of each wallet's records (a
follow-up after its cause). Then it looks in that order for a moment at which the model gives the same response to
each request that wrote nothing: a refusal, a hit, a dry run. Invariants:

(1) each partition's records are one chain; ``time_us`` is the latest of the clock, the record before and the cause;
(2) each record is of a posted command, with its hash and its actor, or of an expiry or follow-up that the model makes
    at that time; the model's fact has the same type, data, postings and balances;
(3) an acceptance names the record at its position, byte for byte by its head; a command has one record at most;
(4) a response that wrote nothing is the model's response at some moment between the request and the end of all work
    after it, and in the order in which the wallet's commands were posted;
(5) when nothing is under way the model has no follow-up under way and nothing due.
"""

import copy
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from ledger.core.bet_events import (
    BetCancelled,
    BetSettled,
    PeriodCancelled,
    ResultRecorded,
)
from ledger.core.bonus_events import BonusExpired, BonusGranted
from ledger.core.commands import AnyCommand, Command
from ledger.core.commission_events import CommissionDue
from ledger.core.events import (
    LEDGER,
    Event,
    LimitsSet,
)
from ledger.core.hold_events import HoldExpired
from ledger.core.position import Position, partition_of
from ledger.core.record import EMPTY_SHA256, decode
from ledger.writer.requests import Accepted, AnyResponse, DryRunAccepted, Failed, IdReused, Refused
from properties import naive_ledger
from properties.naive_ledger import NaiveLedger
from properties.scenarios import assert_same_event

OnTime = HoldExpired | BonusExpired | CommissionDue
"""What happens to a wallet when its time has come."""


@dataclass(eq=False)
class Asked:
    """A command as a client posts it, and the response that the client received; None if it received none."""

    fields: dict[str, Any]
    actor: str
    dry_run: bool = False
    response: AnyResponse = None

    @property
    def user_id(self) -> str:
        user_id: str = self.fields["user_id"]
        return user_id

    @property
    def command(self) -> Command:
        command: Command = msgspec.convert(self.fields, AnyCommand)
        return command

    @property
    def request_sha256(self) -> str:
        """As the contract has it, for itself: sorted keys, no spaces, no nulls but in ``set_limits``, no private."""
        kept = naive_ledger.LIMITS if self.fields["type"] == "set_limits" else ()
        members = {name: value for name, value in self.fields.items() if value is not None or name in kept}
        members.pop("private", None)
        text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return sha256(text.encode()).hexdigest()

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.user_id, self.fields["command_id"], self.request_sha256

    @property
    def needs_a_retry(self) -> bool:
        """Whether the client must repeat the request."""
        return self.response is None or isinstance(self.response, Failed)

    @property
    def may_have_been_written(self) -> bool:
        """Whether only the log shows if it was written."""
        unknown = isinstance(self.response, Failed) and self.response.reason == "outcome_unknown"
        return not self.dry_run and (self.response is None or unknown)


@dataclass(frozen=True)
class Written:
    """A command's or follow-up's record."""

    position: Position
    head: str
    event: Event


class Witness:
    """All requests, records and responses so far; ``naive`` has received the same commands."""

    def __init__(self, partitions: int, assets: Sequence[str], money: dict[str, Any] | None = None) -> None:
        """``money``: the rules of money flows."""
        self.naive = NaiveLedger(assets, money)
        self.events: list[tuple[str, Event]] = []
        self.heads = [EMPTY_SHA256] * partitions
        self.seqs = [0] * partitions
        self.written: dict[tuple[str, str], Written] = {}
        self.sums: Counter[tuple[str, str]] = Counter()
        self._times_us = [0] * partitions
        self._head_of: dict[str, str] = {}
        self._facts_read: Counter[str] = Counter()  # how many of a wallet's facts are in the log
        self._asked: dict[tuple[str, str, str], list[Asked]] = {}
        self._credit_max: dict[tuple[str, str], int] = {}
        self._outcome_us = 0
        """The latest time of an outcome. It reaches every partition, also one that has no bet to settle: from then on
        that partition's clock is not before it."""

    # --- input ---------------------------------------------------------------------------------------------------

    def hear(self, asked: Sequence[Asked], records: Sequence[Sequence[bytes]], now_us: int) -> None:
        """Add the requests since the last call, in the order of posting, and each partition's new records."""
        for one in asked:
            if not one.dry_run:
                self._asked.setdefault(one.identity, []).append(one)
        unread = [deque(of_partition) for of_partition in records]
        new = [decode(record).event for of_partition in records for record in of_partition]
        outcomes_us = [event.time_us for event in new if isinstance(event.data, ResultRecorded | PeriodCancelled)]
        self._outcome_us = max([self._outcome_us, *outcomes_us])
        waiting = _Unmatched(asked, new)
        self._match_responses(waiting, now_us)
        while any(unread):
            before = sum(map(len, unread))
            for partition, of_partition in enumerate(unread):
                while of_partition and self._knows_the_cause(decode(of_partition[0]).event):
                    self._read(partition, of_partition.popleft(), waiting, now_us)
                    self._match_responses(waiting, now_us)
            assert sum(map(len, unread)) < before, f"follow-ups whose causes are not in the log: {unread}"
        assert not waiting.left(), f"no moment in the log's order explains {waiting.left()}"

    def assert_quiet(self, now_us: int) -> None:
        """Nothing is under way, nothing is due, and every fact of the model is in the log."""
        assert self.naive.pending == []
        assert dict(self._facts_read) == {user_id: len(facts) for user_id, facts in self.naive.facts.items()}
        assert self._fork().fire_due(now_us) == [], "something is due and was not written"
        for fact in self.naive.facts.get(f"game:{naive_ledger.GAME}", []):
            assert self.naive.open_bets_of(fact) == [], "a bet is open although its period has an outcome"
        for asset in {asset for _, asset in self.sums}:
            in_asset = {account: amount for (account, of), amount in self.sums.items() if of == asset}
            assert sum(in_asset.values()) == 0
            assert in_asset.get("transit/transfers", 0) == 0

    # --- the log -------------------------------------------------------------------------------------------------

    @staticmethod
    def _cause(event: Event) -> str | None:
        cause: str | None = getattr(event.data, "cause", None)
        return cause

    def _knows_the_cause(self, event: Event) -> bool:
        cause = self._cause(event)
        return cause is None or cause in self._head_of

    def _read(self, partition: int, record: bytes, waiting: "_Unmatched", now_us: int) -> None:
        position, prev, event = decode(record)
        assert position == (partition, self.seqs[partition] + 1), position
        assert prev == self.heads[partition], position
        head = sha256(record).hexdigest()
        self.seqs[partition], self.heads[partition], self._head_of[str(position)] = position.seq, head, head
        assert (event.user_id, event.command_id) not in self.written, f"{event} took effect twice"
        self.written[event.user_id, event.command_id] = Written(position, head, event)
        self._check_time(partition, event, now_us)
        if event.actor == LEDGER:
            self._follow_in_the_model(event)
        else:
            self._post_to_the_model(event)
            waiting.take_acceptance(event, position, head)
        index = self._facts_read[event.user_id]
        facts = self.naive.facts[event.user_id]
        assert index < len(facts), f"the model does not do {event}"
        assert_same_event(event, facts[index])
        self.naive.position_of[str(position)] = (event.user_id, index)
        self._facts_read[event.user_id] += 1
        self.events.append((str(position), event))
        self._add_up(event)

    def _check_time(self, partition: int, event: Event, now_us: int) -> None:
        caused_us = 0
        if event.actor == LEDGER and not isinstance(event.data, OnTime):
            user_id, index = self.naive.position_of[self._cause(event) or ""]
            caused_us = self.naive.facts[user_id][index].time_us
        latest = max(now_us, self._times_us[partition], caused_us)
        if isinstance(event.data, OnTime):
            # It may come before a follow-up whose cause is later than this partition's clock.
            assert event.time_us >= latest, event
        else:
            times_us = (latest, max(latest, self._outcome_us))
            assert event.time_us in times_us, (event, now_us, self._times_us[partition], caused_us)
        self._times_us[partition] = event.time_us

    def _post_to_the_model(self, event: Event) -> None:
        identity = event.user_id, event.command_id, event.request_sha256
        private = getattr(event.data, "private", None) or None
        # The same command with other private texts has the same identity.
        posted = [
            one
            for one in self._asked.get(identity, ())
            if (one.actor, one.fields.get("private")) == (event.actor, private)
        ]
        assert posted, f"no client posted {event}"
        modelled = self.naive.post(posted[0].fields, now_us=event.time_us, actor=event.actor)
        assert isinstance(modelled, naive_ledger.Accepted), f"the model returns {modelled} for {event}"

    def _follow_in_the_model(self, event: Event) -> None:
        user_id, naive = event.user_id, self.naive
        if isinstance(event.data, OnTime):
            if self._facts_read[user_id] == len(naive.facts.get(user_id, [])):
                naive._fire(user_id, event.time_us)
            return
        cause = self._cause(event) or ""
        if isinstance(event.data, BonusGranted):
            return  # the model has granted it with its cause
        if isinstance(event.data, BetSettled | BetCancelled):
            outcome_user, outcome_index = naive.position_of[cause]
            outcome = naive.facts[outcome_user][outcome_index]
            naive.end_bet(user_id, event.data.bet_id, outcome, now_us=event.time_us)
            return
        assert event.command_id == f"~{self._head_of[cause]}:0", event
        causes = [follow_up.cause for follow_up in naive.pending]
        assert naive.position_of[cause] in causes, f"{event} follows from nothing"
        naive.deliver(causes.index(naive.position_of[cause]), now_us=event.time_us)

    def _add_up(self, event: Event) -> None:
        for account, asset, amount in event.postings:
            self.sums[account, asset] += amount
        if isinstance(event.data, LimitsSet) and isinstance(event.data.credit_limit, int):
            key = event.user_id, event.data.asset
            self._credit_max[key] = max(self._credit_max.get(key, 0), event.data.credit_limit)
        for asset, balance in event.balances.items():
            for bucket in naive_ledger.BUCKETS:
                assert getattr(balance, bucket) == self.sums[f"wallet/{event.user_id}/{bucket}", asset], event
            assert balance.bonus >= 0, event
            assert balance.held >= 0, event
            assert balance.cash >= -self._credit_max.get((event.user_id, asset), 0), event

    # --- responses that wrote nothing ------------------------------------------------------------------------------

    def _match_responses(self, waiting: "_Unmatched", now_us: int) -> None:
        """Let go every response, in each wallet's order, that is the model's own response at this moment."""
        for queue in waiting.queues.values():
            while queue and not waiting.writes(queue[0]) and self._agrees(queue[0], now_us):
                queue.popleft()

    def _agrees(self, asked: Asked, now_us: int) -> bool:
        response = asked.response
        if response is None or isinstance(response, Failed):
            return True  # other checks find a missing record, or one that no client posted
        first = self.written.get((asked.user_id, asked.fields["command_id"]))
        time_us = max(now_us, self._times_us[partition_of(asked.user_id, len(self._times_us))])
        times_us = {time_us, max(time_us, self._outcome_us)}
        return any(self._agrees_at(asked, at_us, first) for at_us in times_us)

    def _agrees_at(self, asked: Asked, time_us: int, first: Written | None) -> bool:
        response = asked.response
        modelled = self._fork().post(asked.fields, now_us=time_us, actor=asked.actor)
        match response:
            case Refused(rejection):
                return modelled == naive_ledger.Refused(rejection.code, _available(response))
            case IdReused(fields, first_position):
                expected = naive_ledger.Refused("command_id_reused", differs=fields)
                return modelled == expected and first is not None and first_position == str(first.position)
            case Accepted(_, position, head):
                written = Written(position, head, response.event)
                return isinstance(modelled, naive_ledger.Duplicate) and first == written
            case DryRunAccepted(event):
                return isinstance(modelled, naive_ledger.Accepted) and _is_same(event, modelled.fact)
            case _:
                raise AssertionError(asked)

    def _fork(self) -> NaiveLedger:
        """A copy of the model for one question; facts and follow-ups are never changed."""
        fork = copy.copy(self.naive)
        fork.facts = {user_id: list(facts) for user_id, facts in self.naive.facts.items()}
        fork.pending = list(self.naive.pending)
        fork._seen = dict(self.naive._seen)
        return fork


class _Unmatched:
    """The requests without a moment in the log's order yet, by wallet, in the order in which they were posted."""

    def __init__(self, asked: Sequence[Asked], events: Sequence[Event]) -> None:
        self.queues: dict[str, deque[Asked]] = {}
        landed = {(event.user_id, event.command_id, event.request_sha256) for event in events}
        self._writers: dict[tuple[str, str, str], Asked] = {}
        for one in asked:
            self.queues.setdefault(one.user_id, deque()).append(one)
            if _was_accepted(one):
                assert one.identity not in self._writers, f"two acceptances of {one}"
                self._writers[one.identity] = one
        for one in asked:
            if one.may_have_been_written and one.identity in landed:
                self._writers.setdefault(one.identity, one)

    def writes(self, asked: Asked) -> bool:
        """Whether its record is still unread."""
        return self._writers.get(asked.identity) is asked

    def take_acceptance(self, event: Event, position: Position, head: str) -> None:
        writer = self._writers.get((event.user_id, event.command_id, event.request_sha256))
        assert writer is not None, f"a command was written although every response to it refuses it: {event}"
        queue = self.queues[event.user_id]
        assert queue[0] is writer, f"before {event} come {list(queue)}"
        if isinstance(writer.response, Accepted):
            assert (writer.response.event, writer.response.position, writer.response.head) == (event, position, head)
        queue.popleft()

    def left(self) -> list[Asked]:
        return [asked for queue in self.queues.values() for asked in queue]


def _was_accepted(asked: Asked) -> bool:
    return isinstance(asked.response, Accepted) and not asked.response.hit


def _available(response: Refused) -> int | None:
    available = response.rejection.fields.get("available")
    assert available is None or isinstance(available, int)
    return available


def _is_same(event: Event, fact: naive_ledger.Fact) -> bool:
    try:
        assert_same_event(event, fact)
    except AssertionError:
        return False
    return True
