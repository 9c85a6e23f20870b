"""A model of two writers on one partition: the fence, with each of its rules removable.

One run is one seed: a log, two writers that may both believe that they own it, and some clients. Each client posts a
deposit, a bet or a strong read of one small wallet, and retries under the same id until it has a final response.
`Simulation(seed, rules).run()` takes some hundred steps, which `random.Random(seed)` chooses. At the end `judge`
reads the whole log and every final response, and returns the violations. The model shares no code with the product:
it tests the design, and the product is compared with it.

The log behaves as a broker's. A record is `seq prev time_us command_id kind amount`, and its head is the SHA-256 of
exactly that, so two writers can write the same bytes. An append is one atomic batch at the log's end:
  - it may land at any later step, also after its writer gave up or after the other one wrote, or never;
  - an idempotent producer's retry is acknowledged without an offset. If the broker has forgotten the producer, the
    batch lands twice;
  - its acknowledgement has the first record's offset, or no offset, or does not come.
A writer is paused and resumed between any two of its steps. Ownership moves with a generation that grows. Writers
receive the notices of it late, one after the other, while clients send requests to either writer.

Invariants, which the judge checks in every run:
  1. A record is an event if and only if its `seq` and `prev` continue the last event before it in log order.
  2. A success names an event that was in the log before the response was sent, and that keeps its seq and head.
  3. A command takes effect at most once; a command with the response success takes effect exactly once.
  4. If a command got its response before another was first requested, it comes first in the log, too.
  5. No event overdraws the wallet: each was decided on exactly the events before it.
  6. A refusal is true of the events at some moment between request and response. A command whose final response is a
     refusal never takes effect.
  7. A strong read equals the balance at some moment between request and response.
  8. Once no writer is paused, no message is lost and ownership does not move, every client gets a final response.

What each rule prevents, and in how many of 10,000 seeds its removal alone broke an invariant (measured, seeds 0 …
9,999; with all rules none of 100,000 seeds did). One run may break several.

  chain_read          655 if the first, 6,161 if the last record of a seq wins: a fork is read in place of an event
                      (invariant 1). So commands are doubled, accepted ones are lost (the last wins), and the wallet
                      is overdrawn.
  expected_offset     2,653: success for a record that is a fork (2,628), whose command mostly never takes effect
                      (2,318). Later refusals and reads come from a state that is on no chain.
  open_alone          109: a bet is refused, and takes effect afterwards: by a late batch that was sent before the
                      refusal and still fits the head, or by an older owner that no `writer_opened` stopped.
  open_in_doubt       17: the same, but only by the writer's own late batch. To open after merely reading a record of
                      another writer was never needed (0 of 10,000 without that line of `read`): the Open at the gain
                      has made forks of the other's late batches. The line stays as a second protection.
  proven_responses    192: refusals (143) and strong reads (65) from the memory of a former owner.
  nothing_speculative 7,708: success (5,007), refusals (2,725) and reads (4,751) that depend on a batch that then
                      fails.
  generation_fence    81: an older owner opens again and accepts bets that waited in its mailbox, while the newer
                      owner has refused them (75); or the two interrupt each other without end (6 without a final
                      response).
  mailbox_after_open  136: the reverse case. A bet waits at the new owner, which has not opened. Its client gives up
                      and is correctly refused by the old owner. Then the new owner opens and accepts the bet.

No rule is redundant. Commands are lost or doubled only where readers or writers ignore the log itself (chain_read,
expected_offset, nothing_speculative). The chain alone prevents that; the other rules protect responses.

No rule replaces one assumption: a request that its client gave up reaches no mailbox afterwards. Suppose that a bet
waits in a socket while its client sends it to the other owner, is refused, and takes this response as final. When the
bytes arrive, a ledger without any fault may accept the bet: a refused command leaves its id free.
"""

import hashlib
import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

GENESIS = "0" * 64
# Chosen by trial: a run takes about a millisecond, and without any one rule some of a few hundred seeds fail.
CLIENTS_MIN, CLIENTS_MAX = 12, 20
STORM_STEPS_MIN, STORM_STEPS_MAX = 300, 600
CALM_STEPS_MAX = 3_000
STEPS_PER_TICK = 24  # so coarse that records of two writers often have the same time_us


@dataclass(frozen=True)
class Rules:
    """The rules of the fence. The product needs all of them; the model can remove each one."""

    chain_read: bool = True
    """Readers follow prev and seq. Removed: readers index by seq, and the first or the last record of a seq wins."""
    expected_offset: bool = True
    """An append counts only if it landed at the offset that its writer expected. Removed: all acknowledged count."""
    open_alone: bool = True
    """After a gain of the partition, an append of unknown outcome, or a record of another writer, a writer decides
    nothing until its `writer_opened`, appended alone, has landed at the expected offset. Removed: it only reads to
    the end before it decides."""
    open_in_doubt: bool = True
    """The part of `open_alone` that does not concern a gain. Removed: a writer opens once in a generation; after an
    unknown outcome it reads to the end and decides."""
    proven_responses: bool = True
    """A request that writes nothing gets its response only after a proof: a batch that was sent after the request has
    landed at the expected offset; or the log's end, read after the request, is the writer's next offset. Removed: the
    response comes from memory."""
    nothing_speculative: bool = True
    """A decision that depends on a command of the same batch waits for the batch, and is made again if the batch
    fails. Removed: it needs only the proof that every response without an event needs, before the batch is sent."""
    generation_fence: bool = True
    """A writer that reads a `writer_opened` of a higher generation stops. Removed: it opens again and continues."""
    mailbox_after_open: bool = True
    """A writer accepts only requests that came after the first Open of its generation landed; others get not_owner.
    Removed: it accepts them as soon as it has the notice, and keeps those of an earlier generation."""

    def without(self, *names: str) -> "Rules":
        return replace(self, **dict.fromkeys(names, False))


class Kind(StrEnum):
    DEPOSIT = "deposit"
    BET = "bet"
    READ = "read"
    OPENED = "opened"


class Command(NamedTuple):
    command_id: str
    kind: Kind
    amount: int


class Record(NamedTuple):
    """`amount` is the generation in a `writer_opened`. `head` is the SHA-256 of all other fields."""

    seq: int
    prev: str
    time_us: int
    command: Command
    head: str


def record_on(seq: int, prev: str, time_us: int, command: Command) -> Record:
    content = f"{seq} {prev} {time_us} {command.command_id} {command.kind} {command.amount}"
    return Record(seq, prev, time_us, command, hashlib.sha256(content.encode()).hexdigest())


def opened(generation: int, seq: int) -> Command:
    return Command(f"~open:{seq}", Kind.OPENED, generation)


class NaiveReading(StrEnum):
    """Which record a reader without `chain_read` takes where a seq has two."""

    FIRST_WINS = "first record of a seq wins"
    LAST_WINS = "last record of a seq wins"


def events_by_chain(log: Sequence[Record]) -> list[int]:
    """The offsets of the events: invariant 1."""
    offsets: list[int] = []
    seq, head = 0, GENESIS
    for offset, record in enumerate(log):
        if record.seq == seq + 1 and record.prev == head:
            offsets.append(offset)
            seq, head = record.seq, record.head
    return offsets


def events_by_seq(log: Sequence[Record], reading: NaiveReading) -> list[int]:
    """The offsets that an index by seq returns. It is wrong: the tests show how it fails."""
    index: dict[int, int] = {}
    for offset, record in enumerate(log):
        if reading is NaiveReading.LAST_WINS or record.seq not in index:
            index[record.seq] = offset
    return [index[seq] for seq in sorted(index)]


class Code(StrEnum):
    SUCCESS = "success"
    REFUSED = "insufficient_funds"
    BALANCE = "balance"
    NOT_OWNER = "not_owner"
    OUTCOME_UNKNOWN = "outcome_unknown"


FINAL = frozenset({Code.SUCCESS, Code.REFUSED, Code.BALANCE})


class Response(NamedTuple):
    code: Code
    record: Record | None = None
    balance: int = 0


@dataclass(slots=True)
class Client:
    """Sends one command until it has a final response. `request` is the current attempt, if any."""

    command: Command
    request: "Request | None" = None
    first_requested_step: int | None = None
    response: Response | None = None
    requested_step: int = 0
    """The step of the attempt that got `response`."""
    responded_step: int = 0


@dataclass(slots=True, eq=False)
class Request:
    """One attempt of a client. A writer may still decide it after the client gave it up; then no response arrives."""

    client: Client
    requested_step: int


@dataclass(slots=True)
class State:
    """The state of a writer: the fold of the events that it read or wrote."""

    seq: int = 0
    head: str = GENESIS
    balance: int = 0
    generation: int = 0
    taken: dict[str, Record] = field(default_factory=dict)

    def copy(self) -> "State":
        return State(self.seq, self.head, self.balance, self.generation, self.taken.copy())

    def evolve(self, record: Record) -> None:
        self.seq, self.head = record.seq, record.head
        match record.command.kind:
            case Kind.DEPOSIT:
                self.balance += record.command.amount
            case Kind.BET:
                self.balance -= record.command.amount
            case Kind.OPENED:
                self.generation = max(self.generation, record.command.amount)
            case Kind.READ:
                raise AssertionError("a read is never written")
        self.taken[record.command.command_id] = record

    def next_record(self, command: Command, time_us: int) -> Record:
        return record_on(self.seq + 1, self.head, time_us, command)


@dataclass(slots=True)
class Decision:
    request: Request
    response: Response
    writes: bool
    speculative: bool
    """The batch has a record before this decision."""


@dataclass(slots=True, eq=False)
class Append:
    """One atomic batch in flight. The broker knows `landed_offset`, the writer knows `acknowledged`."""

    records: list[Record]
    expected_offset: int
    landed_offset: int | None = None
    acknowledged: bool = False
    acknowledged_offset: int | None = None


@dataclass(slots=True, eq=False)
class EndRequest:
    """A read of the log's end. The broker responds at a later step."""

    end_offset: int | None = None


@dataclass(slots=True, eq=False)
class Writer:
    """`generation` is None unless the writer believes that it owns the partition."""

    generation: int | None = None
    paused: bool = False
    notices: deque[int | None] = field(default_factory=deque)
    """Assignments that it has not received yet: the generation of a gain, or None for a loss."""
    mailbox: deque[Request] = field(default_factory=deque)
    has_opened: bool = False
    must_read: bool = False
    must_open: bool = False
    next_offset: int = 0
    state: State = field(default_factory=State)
    draft: State = field(default_factory=State)
    """`state` and the batch in flight. Becomes `state` when the batch has landed; otherwise it is dropped."""
    decisions: list[Decision] = field(default_factory=list)
    batch: list[Record] = field(default_factory=list)
    append: Append | None = None
    end_request: EndRequest | None = None


class Violation(StrEnum):
    LOST = "a command got the response success and is no event"
    DOUBLED = "a command took effect twice"
    REORDERED = "a command comes before one that got its response before the first was requested"
    SUCCESS_WITHOUT_EVENT = "a success names a record that was no event at the time of the response"
    MISPLACED = "a record whose prev is not the event before it is read as an event"
    OVERDRAWN = "an event takes more than the balance before it"
    WRONG_REFUSAL = "a bet was refused although the wallet could pay it from request to response"
    REFUSED_BUT_TAKEN = "a command took effect although its final response was a refusal"
    STALE_READ = "a strong read shows a balance that did not exist from request to response"
    STUCK = "a client never got a final response"


class Outcome(NamedTuple):
    violations: frozenset[Violation]
    happened: Counter[str]
    """How often each intended case occurred: forks, late appends, refusals …"""


class Simulation:
    """One run. Every choice comes from the seed, so the seed of a failed run reproduces it."""

    def __init__(
        self, seed: int, rules: Rules | None = None, naive_reading: NaiveReading = NaiveReading.LAST_WINS
    ) -> None:
        self.rules = Rules() if rules is None else rules
        self.naive_reading = naive_reading
        self.random = random.Random(seed)
        self.step = 0
        self.log: list[Record] = []
        self.landed_step: list[int] = []
        self.in_flight: list[Append] = []
        self.writers = (Writer(), Writer())
        self.owner = self.writers[0]
        self.generation = 1
        self.owner.notices.append(1)
        self.clients = [Client(self.new_command(n)) for n in range(self.random.randint(CLIENTS_MIN, CLIENTS_MAX))]
        self.happened: Counter[str] = Counter()

    def new_command(self, n: int) -> Command:
        kind = self.random.choices((Kind.DEPOSIT, Kind.BET, Kind.READ), (4, 8, 2))[0]
        return Command(f"c{n}", kind, 0 if kind is Kind.READ else self.random.randint(1, 2))

    # ── the run ──────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> Outcome:
        storm = (  # weights while ownership moves a lot, and while the broker is slow
            (self.client_posts, 10, 10),
            (self.client_gives_up, 4, 4),
            (self.writer_acts, 22, 30),
            (self.writer_receives_a_notice, 3, 3),
            (self.writer_reads_the_log, 1, 1),
            (self.writer_gives_up_waiting, 2, 6),
            (self.writer_is_paused_or_resumed, 3, 1),
            (self.broker_lands, 8, 2),
            (self.broker_responds, 10, 10),
            (self.broker_loses_or_doubles, 1, 0.3),
            (self.ownership_moves, 2, 0.3),
        )
        calm = (
            (self.client_posts, 8),
            (self.client_gives_up, 1),
            (self.writer_acts, 20),
            (self.writer_receives_a_notice, 4),
            (self.writer_gives_up_waiting, 1),
            (self.broker_lands, 4),
            (self.broker_responds, 8),
        )
        actions, *moods = zip(*storm, strict=True)
        weights = self.random.choice(moods)
        steps = self.random.randint(STORM_STEPS_MIN, STORM_STEPS_MAX)
        for action in self.random.choices(actions, weights, k=steps):
            self.step += 1
            action()
        for writer in self.writers:
            writer.paused = False
        actions, weights = zip(*calm, strict=True)
        calm_ends_step = self.step + CALM_STEPS_MAX
        while self.step < calm_ends_step and not all(client.response for client in self.clients):
            for action in self.random.choices(actions, weights, k=50):
                self.step += 1
                action()
        for append in self.in_flight:  # the last late appends
            self.land(append)
        return Outcome(judge(self), self.happened)

    # ── clients ──────────────────────────────────────────────────────────────────────────────────────────────

    def client_posts(self) -> None:
        idle = [client for client in self.clients if client.request is None and client.response is None]
        if not idle:
            return
        client = self.random.choice(idle)
        other = self.writers[1] if self.owner is self.writers[0] else self.writers[0]
        writer = self.owner if self.random.random() < 0.85 else other
        request = Request(client, self.step)
        if client.first_requested_step is None:
            client.first_requested_step = self.step
        client.request = request
        if writer.generation is not None and (writer.has_opened or not self.rules.mailbox_after_open):
            writer.mailbox.append(request)
        elif not writer.paused:
            self.respond(request, Response(Code.NOT_OWNER))

    def client_gives_up(self) -> None:
        waiting = [client for client in self.clients if client.request is not None]
        if waiting:
            self.random.choice(waiting).request = None

    def respond(self, request: Request, response: Response) -> None:
        client = request.client
        if client.request is not request:
            return  # the client has given up this attempt
        self.happened[response.code] += 1
        client.request = None
        if response.code in FINAL:
            client.response, client.requested_step, client.responded_step = (
                response,
                request.requested_step,
                self.step,
            )

    # ── the broker ───────────────────────────────────────────────────────────────────────────────────────────

    def broker_lands(self) -> None:
        if self.in_flight:
            self.land(self.in_flight.pop(self.random.randrange(len(self.in_flight))))

    def land(self, append: Append) -> None:
        append.landed_offset = len(self.log)
        if all(writer.append is not append for writer in self.writers):
            self.happened["landed after its writer gave up"] += 1
        self.log.extend(append.records)
        self.landed_step.extend([self.step] * len(append.records))

    def broker_loses_or_doubles(self) -> None:
        if self.in_flight and self.random.random() < 0.5:
            self.in_flight.pop(self.random.randrange(len(self.in_flight)))
        else:
            append = self.random.choice(self.writers).append
            if append is not None and append.landed_offset is not None:
                self.in_flight.append(append)

    def broker_responds(self) -> None:
        writer = self.random.choice(self.writers)
        append = writer.append
        if append is not None and append.landed_offset is not None:
            append.acknowledged = True
            append.acknowledged_offset = append.landed_offset if self.random.random() < 0.8 else None
        elif writer.end_request is not None:
            writer.end_request.end_offset = len(self.log)

    # ── ownership ────────────────────────────────────────────────────────────────────────────────────────────

    def ownership_moves(self) -> None:
        if self.random.random() < 0.5:  # otherwise it does not learn of the loss
            self.owner.notices.append(None)
        self.owner = self.random.choice(self.writers)
        self.generation += 1
        self.owner.notices.append(self.generation)

    def writer_is_paused_or_resumed(self) -> None:
        writer = self.random.choice(self.writers)
        writer.paused = not writer.paused

    def writer_receives_a_notice(self) -> None:
        writer = self.random.choice(self.writers)
        if writer.paused or not writer.notices:
            return
        generation = writer.notices.popleft()
        self.stop(writer)
        if generation is not None:
            writer.generation = generation
            writer.must_read = True
            writer.must_open = self.rules.open_alone
            if any(other.generation is not None for other in self.writers if other is not writer):
                self.happened["two writers believe to own it"] += 1

    def stop(self, writer: Writer) -> None:
        """Forget the partition. A batch in flight may still land; this writer will not know."""
        code = Code.OUTCOME_UNKNOWN if writer.append is not None else Code.NOT_OWNER
        for decision in writer.decisions:
            self.respond(decision.request, Response(code))
        if self.rules.mailbox_after_open:
            for request in writer.mailbox:
                self.respond(request, Response(Code.NOT_OWNER))
            writer.mailbox.clear()
        writer.generation = None
        writer.has_opened = False
        self.forget_batch(writer)

    # ── a writer ─────────────────────────────────────────────────────────────────────────────────────────────

    def writer_acts(self) -> None:
        """The next step of a writer that can take one. It waits for one thing at a time."""
        writer = self.random.choice(self.writers)
        if writer.paused or writer.generation is None:
            return
        if writer.append is not None:
            if writer.append.acknowledged:
                self.take_acknowledgement(writer, writer.append)
        elif writer.end_request is not None:
            if writer.end_request.end_offset is not None:
                self.take_end(writer, writer.end_request.end_offset)
        elif writer.must_read:
            self.read(writer, writer.generation)
        elif writer.must_open:
            self.open(writer, writer.generation)
        elif writer.mailbox:
            self.drain(writer)

    def writer_reads_the_log(self) -> None:
        writer = self.random.choice(self.writers)
        if writer.generation is not None and writer.append is None and writer.end_request is None:
            writer.must_read = True

    def read(self, writer: Writer, generation: int) -> None:
        writer.must_read = False
        if len(self.log) > writer.next_offset:  # not for its own acknowledged records: `next_offset` counts them
            writer.must_open |= self.rules.open_alone and self.rules.open_in_doubt
        writer.next_offset = len(self.log)
        writer.state = State()
        for offset in self.events():
            writer.state.evolve(self.log[offset])
        if self.rules.generation_fence and writer.state.generation > generation:
            self.happened["fenced by a generation"] += 1
            self.stop(writer)
        elif not self.rules.open_alone:
            writer.has_opened = True

    def open(self, writer: Writer, generation: int) -> None:
        command = opened(generation, writer.state.seq + 1)
        writer.draft = writer.state.copy()
        writer.batch = [writer.draft.next_record(command, self.time_us())]
        writer.draft.evolve(writer.batch[0])
        self.send(writer)

    def drain(self, writer: Writer) -> None:
        """Decide some waiting requests, in order. Then append their batch, or get the proof for the silent ones."""
        writer.draft = writer.state.copy()
        for _ in range(self.random.choice((1, len(writer.mailbox)))):
            self.decide(writer, writer.mailbox.popleft())
        silent = [decision for decision in writer.decisions if not decision.writes]  # those that write no event
        if not self.rules.proven_responses:
            self.leave(
                writer,
                [d for d in silent if not (d.speculative and self.rules.nothing_speculative)],
            )
            silent = []
        if writer.batch and (self.rules.nothing_speculative or not silent):
            self.send(writer)  # this append is also the proof for the silent decisions
        elif silent:
            writer.end_request = EndRequest()

    def decide(self, writer: Writer, request: Request) -> None:
        command = request.client.command
        draft, speculative = writer.draft, bool(writer.batch)
        if command.kind is Kind.READ:
            response, writes = Response(Code.BALANCE, balance=draft.balance), False
        elif (record := draft.taken.get(command.command_id)) is not None:
            self.happened["idempotency hit"] += 1
            response, writes = Response(Code.SUCCESS, record), False
        elif command.kind is Kind.BET and draft.balance < command.amount:
            response, writes = Response(Code.REFUSED), False
        else:
            record = draft.next_record(command, self.time_us())
            draft.evolve(record)
            writer.batch.append(record)
            response, writes = Response(Code.SUCCESS, record), True
        writer.decisions.append(Decision(request, response, writes, speculative))

    def send(self, writer: Writer) -> None:
        writer.append = Append(writer.batch, expected_offset=writer.next_offset)
        self.in_flight.append(writer.append)

    def leave(self, writer: Writer, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            writer.decisions.remove(decision)
            self.respond(decision.request, decision.response)

    def take_acknowledgement(self, writer: Writer, append: Append) -> None:
        if self.rules.expected_offset and append.acknowledged_offset != append.expected_offset:
            self.happened["acknowledged at another offset or at none"] += 1
            self.decide_again(writer)
            return
        first_offset = append.expected_offset if append.acknowledged_offset is None else append.acknowledged_offset
        writer.next_offset = first_offset + len(append.records)
        writer.state = writer.draft
        writer.must_open = False
        writer.has_opened = True
        self.leave(writer, list(writer.decisions))
        self.forget_batch(writer)

    def take_end(self, writer: Writer, end_offset: int) -> None:
        writer.end_request = None
        silent = [decision for decision in writer.decisions if not decision.writes]
        if end_offset == writer.next_offset:
            self.leave(writer, silent)
            if writer.batch:
                self.send(writer)
            return
        for decision in silent:
            writer.decisions.remove(decision)
            self.respond(decision.request, Response(Code.NOT_OWNER))
        self.decide_again(writer)

    def writer_gives_up_waiting(self) -> None:
        """The outcome is unknown: respond so, or do not respond and decide again from the true head."""
        writer = self.random.choice(self.writers)
        if writer.paused or (writer.append is None and writer.end_request is None):
            return
        if writer.append is not None:
            self.happened["outcome unknown to the writer"] += 1
        if self.random.random() < 0.5:
            code = Code.NOT_OWNER if writer.append is None else Code.OUTCOME_UNKNOWN
            for decision in writer.decisions:
                self.respond(decision.request, Response(code))
            writer.decisions.clear()
        self.decide_again(writer)

    def decide_again(self, writer: Writer) -> None:
        """Put the decided requests back into the mailbox, in their order, before the newer requests."""
        writer.mailbox.extendleft(decision.request for decision in reversed(writer.decisions))
        writer.must_read = True
        writer.must_open |= self.rules.open_alone and self.rules.open_in_doubt
        self.forget_batch(writer)

    def forget_batch(self, writer: Writer) -> None:
        writer.decisions = []
        writer.batch = []
        writer.append = None
        writer.end_request = None

    def time_us(self) -> int:
        return self.step // STEPS_PER_TICK

    def events(self) -> list[int]:
        """Offsets of the events, as every reader of this run sees them."""
        return events_by_chain(self.log) if self.rules.chain_read else events_by_seq(self.log, self.naive_reading)


# ── the judge ────────────────────────────────────────────────────────────────────────────────────────────────


def judge(run: Simulation) -> frozenset[Violation]:
    """Check the invariants of a finished run. Replays the log from its start, and uses no state of a writer."""
    offsets = run.events()
    events = [run.log[offset] for offset in offsets]
    run.happened["forks"] += len(run.log) - len(events)
    found: set[Violation] = set()

    balances = [0]  # balances[n] is the balance after n events
    for record in events:
        change = {Kind.DEPOSIT: record.command.amount, Kind.BET: -record.command.amount}
        balances.append(balances[-1] + change.get(record.command.kind, 0))
    if min(balances) < 0:
        found.add(Violation.OVERDRAWN)
    if any(after.prev != before.head for before, after in pairwise(events)):
        found.add(Violation.MISPLACED)

    places: dict[str, int] = {}
    for place, record in enumerate(events):
        if record.command.kind is not Kind.OPENED and record.command.command_id in places:
            found.add(Violation.DOUBLED)
        places.setdefault(record.command.command_id, place)

    def events_at(step: int) -> int:
        return sum(run.landed_step[offset] <= step for offset in offsets)

    for client in run.clients:
        response, command = client.response, client.command
        if response is None:
            found.add(Violation.STUCK)
            continue
        between = range(events_at(client.requested_step), events_at(client.responded_step) + 1)
        match response.code:
            case Code.SUCCESS:
                assert response.record is not None
                if command.command_id not in places:
                    found.add(Violation.LOST)
                if response.record not in events[: between.stop - 1]:
                    found.add(Violation.SUCCESS_WITHOUT_EVENT)
            case Code.REFUSED:
                if command.command_id in places:
                    found.add(Violation.REFUSED_BUT_TAKEN)
                if all(balances[n] >= command.amount for n in between):
                    found.add(Violation.WRONG_REFUSAL)
            case Code.BALANCE:
                if all(balances[n] != response.balance for n in between):
                    found.add(Violation.STALE_READ)
            case Code.NOT_OWNER | Code.OUTCOME_UNKNOWN:
                raise AssertionError("not a final response")

    if any(is_before_a_finished_command(places, first, then) for first in run.clients for then in run.clients):
        found.add(Violation.REORDERED)
    return frozenset(found)


def is_before_a_finished_command(places: dict[str, int], first: Client, then: Client) -> bool:
    if first.response is None or first.response.code is not Code.SUCCESS or then.first_requested_step is None:
        return False
    if first.responded_step >= then.first_requested_step:
        return False
    first_place, then_place = places.get(first.command.command_id), places.get(then.command.command_id)
    return first_place is not None and then_place is not None and then_place < first_place
