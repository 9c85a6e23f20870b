"""Two writers, one partition: a model of the fence, with each of its rules removable.

One run is one seed: a log, two writers that may both believe that they own it, and a handful of clients who post
deposits, bets and strong reads against one tiny wallet and try again under the same id until they have a last word.
`Simulation(seed, rules).run()` takes some hundred steps that `random.Random(seed)` chooses and returns what a judge,
who reads the whole log and knows every last word, finds wrong. It shares no code with the product on purpose: it is
the design that is tested here, and what the product must be compared with.

The log, as a broker keeps it. A record is `seq prev time_us command_id kind amount`; its head is the SHA-256 of just
that, so two writers can write the very same bytes. An append is one atomic batch, put at the log's end whole:
  - it may land at any later step: after its writer gave up, after the other one wrote, or never;
  - an idempotent producer's retry is answered without an offset; and once in a while the broker has forgotten the
    producer, and the batch lands twice;
  - its answer names the first record's offset, or none, or does not come.
A writer is paused and resumed between any two of its steps. Ownership moves with a generation that grows; writers
hear of it late, one notice after the other, while the clients ask whom they please.

The truths that the judge holds every run to:
  1. A record is an event if and only if its `seq` and `prev` continue the last event before it in log order.
  2. A success names an event that was in the log before the answer left, and stays there under that seq and head.
  3. A command takes effect at most once; one answered with success, exactly once.
  4. A command answered before another was first asked stands before it.
  5. No event overdraws the wallet: each was decided on the events before it, all of them and no others.
  6. A refusal is true of the events at some moment between question and answer, and the refused command, if that
     was its last word, never takes effect.
  7. A strong read equals the balance at some moment between question and answer.
  8. Once nothing is paused or lost and ownership rests, everybody gets a last word.

What each rule prevents, and in how many of 10,000 seeds its removal alone broke a truth (measured, seeds 0 … 9,999;
with all rules none of 100,000 seeds did). One run may break several.

  chain_read          655 by the first, 6,161 by the last record of a seq: a fork in the place of an event (truth 1),
                      and with it commands doubled, acknowledged ones lost (the last wins), the wallet overdrawn.
  expected_offset     2,653: success for a record that is a fork (2,628), whose command mostly never takes effect
                      (2,318); then refusals and reads from a state that is on no chain.
  open_alone          109: a bet is refused, and taken afterwards: by a late batch that was sent before the refusal
                      and still fits the head, or by an older owner whom no `writer_opened` stopped.
  open_in_doubt       17: the same, by the writer's own late batch only. To open after merely reading a record that
                      it did not write was never needed (0 of 10,000 without that line of `read`): what others had
                      under way is a fork since the Open at gaining. It is kept as a second belt.
  proven_answers      192: refusals (143) and strong reads (65) by an owner of yesterday, from its memory.
  nothing_speculative 7,708: success (5,007), refusals (2,725) and reads (4,751) that rest on a batch that then fails.
  generation_fence    81: an older owner opens again and takes bets that had lain in its mailbox and were refused by
                      the newer one meanwhile (75); or the two keep interrupting each other (6 without a last word).
  mailbox_after_open  136: the mirror image: a bet waits with the new owner, who has not opened; its client gives up
                      and is refused, provably and rightly, by the old one; then the new one opens and takes it.

No rule is redundant. Lost and doubled commands appear only where readers or writers ignore what the log itself says
(chain_read, expected_offset, nothing_speculative): the chain alone keeps them away, the other rules guard answers.

One assumption no rule replaces: a question that its client has given up reaches no mailbox afterwards. A bet that
lies in a socket while its client asks elsewhere, is refused there and takes that for the last word, may still be
taken when the bytes arrive, by a ledger without any fault: a refused command leaves its id free.
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
# Chosen, by trial, so that a run takes about a millisecond and each rule is missed within some hundred seeds.
CLIENTS_MIN, CLIENTS_MAX = 12, 20
STORM_STEPS_MIN, STORM_STEPS_MAX = 300, 600
CALM_STEPS_MAX = 3_000
STEPS_PER_TICK = 24  # so coarse that two writers often stamp the same time_us


@dataclass(frozen=True)
class Rules:
    """The rules of the fence. The product needs them all; each can be taken away here to be missed."""

    chain_read: bool = True
    """Readers follow prev and seq. Removed: an index by seq, where the first or the last record of a seq wins."""
    expected_offset: bool = True
    """An append counts only when it landed where its writer expected. Removed: any acknowledgement will do."""
    open_alone: bool = True
    """After gaining the partition, an append of unknown outcome or a record that it did not write, a writer decides
    nothing until its `writer_opened`, appended alone, landed where expected. Removed: it reads on and decides."""
    open_in_doubt: bool = True
    """The part of `open_alone` that is not about gaining. Removed: a writer opens once in a generation, and after an
    unknown outcome reads to the end and decides."""
    proven_answers: bool = True
    """What writes nothing is answered after a batch sent later than the question landed where expected, or the log's
    end, asked for later than the question, is the writer's next offset. Removed: it is answered from memory."""
    nothing_speculative: bool = True
    """What rests on a command of the same batch waits for that batch, and is decided again when it fails. Removed:
    it needs the proof that any silent answer needs, but is answered before the batch is sent."""
    generation_fence: bool = True
    """A writer that reads a `writer_opened` of a higher generation stops. Removed: it opens again and goes on."""
    mailbox_after_open: bool = True
    """A writer holds only questions that came after the first Open of its generation landed; others get not_owner.
    Removed: it takes them as soon as it is told of its partition, and keeps those of an earlier generation."""

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
    """`amount` is the generation in a `writer_opened`. `head` is the SHA-256 of all the others."""

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
    """What a reader without `chain_read` does with a second record of a seq."""

    FIRST_WINS = "first record of a seq wins"
    LAST_WINS = "last record of a seq wins"


def events_by_chain(log: Sequence[Record]) -> list[int]:
    """The offsets of the events: truth 1, and all of it."""
    offsets: list[int] = []
    seq, head = 0, GENESIS
    for offset, record in enumerate(log):
        if record.seq == seq + 1 and record.prev == head:
            offsets.append(offset)
            seq, head = record.seq, record.head
    return offsets


def events_by_seq(log: Sequence[Record], reading: NaiveReading) -> list[int]:
    """The offsets that an index by seq would serve. Wrong; here to be seen failing."""
    index: dict[int, int] = {}
    for offset, record in enumerate(log):
        if reading is NaiveReading.LAST_WINS or record.seq not in index:
            index[record.seq] = offset
    return [index[seq] for seq in sorted(index)]


class Word(StrEnum):
    SUCCESS = "success"
    REFUSED = "insufficient_funds"
    BALANCE = "balance"
    NOT_OWNER = "not_owner"
    OUTCOME_UNKNOWN = "outcome_unknown"


LAST_WORDS = frozenset({Word.SUCCESS, Word.REFUSED, Word.BALANCE})


class Answer(NamedTuple):
    word: Word
    record: Record | None = None
    balance: int = 0


@dataclass(slots=True)
class Client:
    """Asks for one command until it hears a last word. `question` is the attempt under way."""

    command: Command
    question: "Question | None" = None
    first_asked_step: int | None = None
    answer: Answer | None = None
    asked_step: int = 0
    """When the attempt that `answer` answers was asked."""
    answered_step: int = 0


@dataclass(slots=True, eq=False)
class Question:
    """One attempt of a client. Its writer may still hold it when the client has given it up and hears no more."""

    client: Client
    asked_step: int


@dataclass(slots=True)
class State:
    """What a writer knows: the fold of the events that it read or wrote."""

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
    question: Question
    answer: Answer
    writes: bool
    speculative: bool
    """A record of the same batch stands before it."""


@dataclass(slots=True, eq=False)
class Append:
    """One atomic batch under way. `landed_offset` is the broker's knowledge, `acknowledged` the writer's."""

    records: list[Record]
    expected_offset: int
    landed_offset: int | None = None
    acknowledged: bool = False
    answer_offset: int | None = None


@dataclass(slots=True, eq=False)
class EndRequest:
    """The question where the log ends, asked at some step and answered at a later one."""

    end_offset: int | None = None


@dataclass(slots=True, eq=False)
class Writer:
    """`generation` is None while it does not believe that it owns the partition."""

    generation: int | None = None
    paused: bool = False
    notices: deque[int | None] = field(default_factory=deque)
    """Assignments not heard of yet: a generation gained, or None for the partition lost."""
    mailbox: deque[Question] = field(default_factory=deque)
    has_opened: bool = False
    must_read: bool = False
    must_open: bool = False
    next_offset: int = 0
    state: State = field(default_factory=State)
    draft: State = field(default_factory=State)
    """`state` and the batch under way; becomes `state` when that batch has landed, else is dropped."""
    decisions: list[Decision] = field(default_factory=list)
    batch: list[Record] = field(default_factory=list)
    append: Append | None = None
    end_request: EndRequest | None = None


class Violation(StrEnum):
    LOST = "a command was answered with success and is no event"
    DOUBLED = "a command took effect twice"
    REORDERED = "a command stands before one that was answered before it was asked"
    SUCCESS_WITHOUT_EVENT = "a success names a record that was no event when it was answered"
    MISPLACED = "a record passes for an event whose prev is not the event before it"
    OVERDRAWN = "an event takes more than the events before it left"
    WRONG_REFUSAL = "a bet was refused that the wallet could pay, from question to answer"
    REFUSED_BUT_TAKEN = "a command took effect although its last word was a refusal"
    STALE_READ = "a strong read shows what the balance never was, from question to answer"
    STUCK = "somebody never got a last word"


class Outcome(NamedTuple):
    violations: frozenset[Violation]
    happened: Counter[str]
    """How often what the run is there to provoke did come about: forks, late appends, refusals …"""


class Simulation:
    """One run. Every choice comes from the seed, so a seed that fails is a whole bug report."""

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
            (self.writer_hears_a_notice, 3, 3),
            (self.writer_looks_at_the_log, 1, 1),
            (self.writer_gives_up_waiting, 2, 6),
            (self.writer_is_paused_or_resumed, 3, 1),
            (self.broker_lands, 8, 2),
            (self.broker_answers, 10, 10),
            (self.broker_loses_or_doubles, 1, 0.3),
            (self.ownership_moves, 2, 0.3),
        )
        calm = (
            (self.client_posts, 8),
            (self.client_gives_up, 1),
            (self.writer_acts, 20),
            (self.writer_hears_a_notice, 4),
            (self.writer_gives_up_waiting, 1),
            (self.broker_lands, 4),
            (self.broker_answers, 8),
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
        while self.step < calm_ends_step and not all(client.answer for client in self.clients):
            for action in self.random.choices(actions, weights, k=50):
                self.step += 1
                action()
        for append in self.in_flight:  # the latest of late appends
            self.land(append)
        return Outcome(judge(self), self.happened)

    # ── clients ──────────────────────────────────────────────────────────────────────────────────────────────

    def client_posts(self) -> None:
        idle = [client for client in self.clients if client.question is None and client.answer is None]
        if not idle:
            return
        client = self.random.choice(idle)
        other = self.writers[1] if self.owner is self.writers[0] else self.writers[0]
        writer = self.owner if self.random.random() < 0.85 else other
        question = Question(client, self.step)
        if client.first_asked_step is None:
            client.first_asked_step = self.step
        client.question = question
        if writer.generation is not None and (writer.has_opened or not self.rules.mailbox_after_open):
            writer.mailbox.append(question)
        elif not writer.paused:
            self.answer(question, Answer(Word.NOT_OWNER))

    def client_gives_up(self) -> None:
        asking = [client for client in self.clients if client.question is not None]
        if asking:
            self.random.choice(asking).question = None

    def answer(self, question: Question, answer: Answer) -> None:
        client = question.client
        if client.question is not question:
            return  # given up: nobody hears it
        self.happened[answer.word] += 1
        client.question = None
        if answer.word in LAST_WORDS:
            client.answer, client.asked_step, client.answered_step = answer, question.asked_step, self.step

    # ── the broker ───────────────────────────────────────────────────────────────────────────────────────────

    def broker_lands(self) -> None:
        if self.in_flight:
            self.land(self.in_flight.pop(self.random.randrange(len(self.in_flight))))

    def land(self, append: Append) -> None:
        append.landed_offset = len(self.log)
        if all(writer.append is not append for writer in self.writers):
            self.happened["landed when nobody waited"] += 1
        self.log.extend(append.records)
        self.landed_step.extend([self.step] * len(append.records))

    def broker_loses_or_doubles(self) -> None:
        if self.in_flight and self.random.random() < 0.5:
            self.in_flight.pop(self.random.randrange(len(self.in_flight)))
        else:
            append = self.random.choice(self.writers).append
            if append is not None and append.landed_offset is not None:
                self.in_flight.append(append)

    def broker_answers(self) -> None:
        writer = self.random.choice(self.writers)
        append = writer.append
        if append is not None and append.landed_offset is not None:
            append.acknowledged = True
            append.answer_offset = append.landed_offset if self.random.random() < 0.8 else None
        elif writer.end_request is not None:
            writer.end_request.end_offset = len(self.log)

    # ── ownership ────────────────────────────────────────────────────────────────────────────────────────────

    def ownership_moves(self) -> None:
        if self.random.random() < 0.5:  # else it lost touch with the group, too
            self.owner.notices.append(None)
        self.owner = self.random.choice(self.writers)
        self.generation += 1
        self.owner.notices.append(self.generation)

    def writer_is_paused_or_resumed(self) -> None:
        writer = self.random.choice(self.writers)
        writer.paused = not writer.paused

    def writer_hears_a_notice(self) -> None:
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
                self.happened["both believe"] += 1

    def stop(self, writer: Writer) -> None:
        """Forget the partition. What is in flight may still land; nobody here will know."""
        word = Word.OUTCOME_UNKNOWN if writer.append is not None else Word.NOT_OWNER
        for decision in writer.decisions:
            self.answer(decision.question, Answer(word))
        if self.rules.mailbox_after_open:
            for question in writer.mailbox:
                self.answer(question, Answer(Word.NOT_OWNER))
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

    def writer_looks_at_the_log(self) -> None:
        writer = self.random.choice(self.writers)
        if writer.generation is not None and writer.append is None and writer.end_request is None:
            writer.must_read = True

    def read(self, writer: Writer, generation: int) -> None:
        writer.must_read = False
        if len(self.log) > writer.next_offset:  # whatever it wrote and knows of, it counted already
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
        """Decide some of what waits, in order, and either append it or prove what writes nothing."""
        writer.draft = writer.state.copy()
        for _ in range(self.random.choice((1, len(writer.mailbox)))):
            self.decide(writer, writer.mailbox.popleft())
        silent = [decision for decision in writer.decisions if not decision.writes]
        if not self.rules.proven_answers:
            self.leave(
                writer,
                [d for d in silent if not (d.speculative and self.rules.nothing_speculative)],
            )
            silent = []
        if writer.batch and (self.rules.nothing_speculative or not silent):
            self.send(writer)  # the proof of all that is silent, too
        elif silent:
            writer.end_request = EndRequest()

    def decide(self, writer: Writer, question: Question) -> None:
        command = question.client.command
        draft, speculative = writer.draft, bool(writer.batch)
        if command.kind is Kind.READ:
            answer, writes = Answer(Word.BALANCE, balance=draft.balance), False
        elif (record := draft.taken.get(command.command_id)) is not None:
            self.happened["idempotency hit"] += 1
            answer, writes = Answer(Word.SUCCESS, record), False
        elif command.kind is Kind.BET and draft.balance < command.amount:
            answer, writes = Answer(Word.REFUSED), False
        else:
            record = draft.next_record(command, self.time_us())
            draft.evolve(record)
            writer.batch.append(record)
            answer, writes = Answer(Word.SUCCESS, record), True
        writer.decisions.append(Decision(question, answer, writes, speculative))

    def send(self, writer: Writer) -> None:
        writer.append = Append(writer.batch, expected_offset=writer.next_offset)
        self.in_flight.append(writer.append)

    def leave(self, writer: Writer, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            writer.decisions.remove(decision)
            self.answer(decision.question, decision.answer)

    def take_acknowledgement(self, writer: Writer, append: Append) -> None:
        if self.rules.expected_offset and append.answer_offset != append.expected_offset:
            self.happened["landed elsewhere or nowhere told"] += 1
            self.decide_again(writer)
            return
        first_offset = append.expected_offset if append.answer_offset is None else append.answer_offset
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
            self.answer(decision.question, Answer(Word.NOT_OWNER))
        self.decide_again(writer)

    def writer_gives_up_waiting(self) -> None:
        """The outcome is unknown: say so, or say nothing and decide again from the true head."""
        writer = self.random.choice(self.writers)
        if writer.paused or (writer.append is None and writer.end_request is None):
            return
        if writer.append is not None:
            self.happened["outcome unknown to the writer"] += 1
        if self.random.random() < 0.5:
            word = Word.NOT_OWNER if writer.append is None else Word.OUTCOME_UNKNOWN
            for decision in writer.decisions:
                self.answer(decision.question, Answer(word))
            writer.decisions.clear()
        self.decide_again(writer)

    def decide_again(self, writer: Writer) -> None:
        """Back to the mailbox with all that was decided, in its order, before what came since."""
        writer.mailbox.extendleft(decision.question for decision in reversed(writer.decisions))
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
    """Hold a finished run to the truths. Replays the log anew and trusts nothing that a writer remembers."""
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
        answer, command = client.answer, client.command
        if answer is None:
            found.add(Violation.STUCK)
            continue
        between = range(events_at(client.asked_step), events_at(client.answered_step) + 1)
        match answer.word:
            case Word.SUCCESS:
                assert answer.record is not None
                if command.command_id not in places:
                    found.add(Violation.LOST)
                if answer.record not in events[: between.stop - 1]:
                    found.add(Violation.SUCCESS_WITHOUT_EVENT)
            case Word.REFUSED:
                if command.command_id in places:
                    found.add(Violation.REFUSED_BUT_TAKEN)
                if all(balances[n] >= command.amount for n in between):
                    found.add(Violation.WRONG_REFUSAL)
            case Word.BALANCE:
                if all(balances[n] != answer.balance for n in between):
                    found.add(Violation.STALE_READ)
            case Word.NOT_OWNER | Word.OUTCOME_UNKNOWN:
                raise AssertionError("not a last word")

    if any(comes_before_what_it_followed(places, first, then) for first in run.clients for then in run.clients):
        found.add(Violation.REORDERED)
    return frozenset(found)


def comes_before_what_it_followed(places: dict[str, int], first: Client, then: Client) -> bool:
    if first.answer is None or first.answer.word is not Word.SUCCESS or then.first_asked_step is None:
        return False
    if first.answered_step >= then.first_asked_step:
        return False
    first_place, then_place = places.get(first.command.command_id), places.get(then.command.command_id)
    return first_place is not None and then_place is not None and then_place < first_place
