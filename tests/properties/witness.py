"""A witness of a running node: reads its log, hears its answers, and holds both against the reference model.

What many clients ask of many partitions at once has no order but the one that the log shows. So the witness reads the
new records of every partition, lets the model do the same things in the order of each wallet's records (a follow-up
after its cause), and then looks for a place in that order for each answer that wrote nothing: a refusal, a hit, a dry
run. Its truths:

(1) each partition's records are one chain; ``time_us`` is the latest of the clock, the record before and the cause;
(2) each record is a command that was asked, with that hash and by that actor, or something that the model did by
    itself then; the model's fact says the same: type, data, postings, balances;
(3) an acceptance names the record at its position, byte for byte by its head; a command has one record at most;
(4) an answer that wrote nothing is the model's answer at some moment between the question and the quiet after it,
    and in the order in which the wallet's commands were asked;
(5) when all is quiet the model has no follow-up under way and nothing due.
"""

import copy
import json
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec

from ledger.core.commands import AnyCommand, Command
from ledger.core.events import LEDGER, BonusExpired, Event, HoldExpired, LimitsSet
from ledger.core.position import Position, partition_of
from ledger.core.record import EMPTY_SHA256, decode
from ledger.writer.requests import Accepted, AnyResponse, DryRunAccepted, Failed, IdReused, Refused
from properties import naive_ledger
from properties.naive_ledger import NaiveLedger
from properties.stories import assert_same_event


@dataclass(eq=False)
class Asked:
    """A command as a client posts it, and the answer that the client heard; None while it heard none."""

    fields: dict[str, Any]
    actor: str
    dry_run: bool = False
    answer: AnyResponse = None

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
        """As the contract has it, for itself: sorted keys, no spaces, no nulls but in ``set_limits``."""
        kept = naive_ledger.LIMITS if self.fields["type"] == "set_limits" else ()
        members = {name: value for name, value in self.fields.items() if value is not None or name in kept}
        text = json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return sha256(text.encode()).hexdigest()

    @property
    def identity(self) -> tuple[str, str, str]:
        return self.user_id, self.fields["command_id"], self.request_sha256

    @property
    def has_no_last_word(self) -> bool:
        """Whether the client has to ask again."""
        return self.answer is None or isinstance(self.answer, Failed)

    @property
    def may_have_been_written(self) -> bool:
        """Whether only the log can tell."""
        unknown = isinstance(self.answer, Failed) and self.answer.reason == "outcome_unknown"
        return not self.dry_run and (self.answer is None or unknown)


@dataclass(frozen=True)
class Written:
    """A command's or follow-up's record."""

    place: Position
    head: str
    event: Event


class Witness:
    """All that was ever asked, written and answered, told to ``naive`` too."""

    def __init__(self, partitions: int, assets: Sequence[str]) -> None:
        self.naive = NaiveLedger(assets)
        self.events: list[tuple[str, Event]] = []
        self.heads = [EMPTY_SHA256] * partitions
        self.seqs = [0] * partitions
        self.written: dict[tuple[str, str], Written] = {}
        self.sums: Counter[tuple[str, str]] = Counter()
        self._times_us = [0] * partitions
        self._head_of: dict[str, str] = {}
        self._told: Counter[str] = Counter()  # how many of a wallet's facts stand in the log
        self._asked: dict[tuple[str, str, str], tuple[dict[str, Any], set[str]]] = {}
        self._credit_max: dict[tuple[str, str], int] = {}

    # --- hearing -------------------------------------------------------------------------------------------------

    def hear(self, asked: Sequence[Asked], records: Sequence[Sequence[bytes]], now_us: int) -> None:
        """Take in what was asked since the last time, in the order of asking, and each partition's new records."""
        for one in asked:
            if not one.dry_run:
                self._asked.setdefault(one.identity, (one.fields, set()))[1].add(one.actor)
        unread = [deque(of_partition) for of_partition in records]
        waiting = _Answers(asked, [decode(record).event for of_partition in records for record in of_partition])
        self._find_places(waiting, now_us)
        while any(unread):
            before = sum(map(len, unread))
            for partition, of_partition in enumerate(unread):
                while of_partition and self._knows_the_cause(decode(of_partition[0]).event):
                    self._read(partition, of_partition.popleft(), waiting, now_us)
                    self._find_places(waiting, now_us)
            assert sum(map(len, unread)) < before, f"follow-ups whose causes stand nowhere: {unread}"
        assert not waiting.left(), f"no place in the log's order explains {waiting.left()}"

    def assert_quiet(self, now_us: int) -> None:
        """Nothing is under way, nothing is due, and everything that the model did stands in the log."""
        assert self.naive.pending == []
        assert dict(self._told) == {user_id: len(facts) for user_id, facts in self.naive.facts.items()}
        assert self._fork().fire_due(now_us) == [], "something is due and was not written"
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

    def _read(self, partition: int, record: bytes, waiting: "_Answers", now_us: int) -> None:
        place, prev, event = decode(record)
        assert place == (partition, self.seqs[partition] + 1), place
        assert prev == self.heads[partition], place
        head = sha256(record).hexdigest()
        self.seqs[partition], self.heads[partition], self._head_of[str(place)] = place.seq, head, head
        assert (event.user_id, event.command_id) not in self.written, f"{event} took effect twice"
        self.written[event.user_id, event.command_id] = Written(place, head, event)
        self._check_time(partition, event, now_us)
        if event.actor == LEDGER:
            self._let_the_model_follow(event)
        else:
            self._tell_the_model(event)
            waiting.take_acceptance(event, place, head)
        index = self._told[event.user_id]
        facts = self.naive.facts[event.user_id]
        assert index < len(facts), f"the model does not do {event}"
        assert_same_event(event, facts[index])
        self.naive.position_of[str(place)] = (event.user_id, index)
        self._told[event.user_id] += 1
        self.events.append((str(place), event))
        self._add_up(event)

    def _check_time(self, partition: int, event: Event, now_us: int) -> None:
        caused_us = 0
        if event.actor == LEDGER and not isinstance(event.data, HoldExpired | BonusExpired):
            user_id, index = self.naive.position_of[self._cause(event) or ""]
            caused_us = self.naive.facts[user_id][index].time_us
        latest = max(now_us, self._times_us[partition], caused_us)
        if isinstance(event.data, HoldExpired | BonusExpired):
            # It may stand before a follow-up whose cause is later than this partition's clock.
            assert event.time_us >= latest, event
        else:
            assert event.time_us == latest, (event, now_us, self._times_us[partition], caused_us)
        self._times_us[partition] = event.time_us

    def _tell_the_model(self, event: Event) -> None:
        identity = event.user_id, event.command_id, event.request_sha256
        assert identity in self._asked, f"nobody asked for {event}"
        fields, actors = self._asked[identity]
        assert event.actor in actors, event
        told = self.naive.post(fields, now_us=event.time_us, actor=event.actor)
        assert isinstance(told, naive_ledger.Accepted), f"the model answers {told} to {event}"

    def _let_the_model_follow(self, event: Event) -> None:
        user_id, naive = event.user_id, self.naive
        if isinstance(event.data, HoldExpired | BonusExpired):
            if self._told[user_id] == len(naive.facts.get(user_id, [])):
                naive._fire(user_id, event.time_us)
            return
        cause = self._cause(event) or ""
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

    # --- answers that wrote nothing ------------------------------------------------------------------------------

    def _find_places(self, waiting: "_Answers", now_us: int) -> None:
        """Let go every answer, in each wallet's order, that is the model's own answer at this moment."""
        for queue in waiting.queues.values():
            while queue and not waiting.writes(queue[0]) and self._agrees(queue[0], now_us):
                queue.popleft()

    def _agrees(self, asked: Asked, now_us: int) -> bool:
        answer = asked.answer
        if answer is None or isinstance(answer, Failed):
            return True  # the record would have been missed, or found to be nobody's, elsewhere
        first = self.written.get((asked.user_id, asked.fields["command_id"]))
        time_us = max(now_us, self._times_us[partition_of(asked.user_id, len(self._times_us))])
        told = self._fork().post(asked.fields, now_us=time_us, actor=asked.actor)
        match answer:
            case Refused(rejection):
                return told == naive_ledger.Refused(rejection.code, _available(answer))
            case IdReused(fields, position):
                expected = naive_ledger.Refused("command_id_reused", differs=fields)
                return told == expected and first is not None and position == str(first.place)
            case Accepted(event, place, head):
                return isinstance(told, naive_ledger.Duplicate) and first == Written(place, head, event)
            case DryRunAccepted(event):
                return isinstance(told, naive_ledger.Accepted) and _is_same(event, told.fact)
            case _:
                raise AssertionError(asked)

    def _fork(self) -> NaiveLedger:
        """The model as it is now, to be asked without a trace; facts and follow-ups are never changed."""
        fork = copy.copy(self.naive)
        fork.facts = {user_id: list(facts) for user_id, facts in self.naive.facts.items()}
        fork.pending = list(self.naive.pending)
        fork._seen = dict(self.naive._seen)
        return fork


class _Answers:
    """What was asked and has no place in the log's order yet, by wallet, in the order of asking."""

    def __init__(self, asked: Sequence[Asked], events: Sequence[Event]) -> None:
        self.queues: dict[str, deque[Asked]] = {}
        landed = {(event.user_id, event.command_id, event.request_sha256) for event in events}
        self._writers: dict[tuple[str, str, str], Asked] = {}
        for one in asked:
            self.queues.setdefault(one.user_id, deque()).append(one)
            if _says_that_it_wrote(one):
                assert one.identity not in self._writers, f"two acceptances of {one}"
                self._writers[one.identity] = one
        for one in asked:
            if one.may_have_been_written and one.identity in landed:
                self._writers.setdefault(one.identity, one)

    def writes(self, asked: Asked) -> bool:
        """Whether the record of it is to come."""
        return self._writers.get(asked.identity) is asked

    def take_acceptance(self, event: Event, place: Position, head: str) -> None:
        writer = self._writers.get((event.user_id, event.command_id, event.request_sha256))
        assert writer is not None, f"a command was written although every answer to it says no: {event}"
        queue = self.queues[event.user_id]
        assert queue[0] is writer, f"before {event} stand {list(queue)}"
        if isinstance(writer.answer, Accepted):
            assert (writer.answer.event, writer.answer.position, writer.answer.head) == (event, place, head)
        queue.popleft()

    def left(self) -> list[Asked]:
        return [asked for queue in self.queues.values() for asked in queue]


def _says_that_it_wrote(asked: Asked) -> bool:
    return isinstance(asked.answer, Accepted) and not asked.answer.hit


def _available(answer: Refused) -> int | None:
    available = answer.rejection.fields.get("available")
    assert available is None or isinstance(available, int)
    return available


def _is_same(event: Event, fact: naive_ledger.Fact) -> bool:
    try:
        assert_same_event(event, fact)
    except AssertionError:
        return False
    return True
