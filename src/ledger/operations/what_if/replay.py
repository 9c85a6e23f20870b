"""The commands of a past window, decided once more under other rules.

The log is read from its beginning, the partitions side by side in the order of time. Up to the start of the window
its events are folded. From then on there are two worlds (``world``). Each event of the log is folded into the first
one. The second one decides what corresponds to it:

- a command: the same command again, at the same time, by the other rules. Its event counts, or its refusal;
- the result of a period: the open bets that the log settles are settled, each by the pay table that it has there;
- a follow-up (a transfer, commission, referral, gift): the one that the corresponding cause has sent;
- an expiry, or the closing of a day's turnover: what is due in that wallet.

Invariants:
(1) with the rules that the log was written under, the two worlds stay equal: a follow-up or timer that both have
    happens where the log has it. If only the second world has it, a follow-up happens at once, and a timer when
    it is due;
(2) an effect is decided after its cause, also where both have the same time;
(3) nothing is written, and no command is decided that the log does not have.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import replace

from ledger.core.bet_events import BetCancelled, BetPlaced, BetSettled, PeriodCancelled, ResultRecorded
from ledger.core.bonus_events import BonusExpired, BonusGranted
from ledger.core.case import Case
from ledger.core.commands import COMMAND_TYPES, CancelBet, Command, Reverse
from ledger.core.commission_events import CommissionDue
from ledger.core.commissions import COMMISSION
from ledger.core.consequences import CAUSES, OWN, consequences_of, decide_own_grant
from ledger.core.decide import EXPIRY, decide, expire, needs
from ledger.core.events import COMMAND_OF, Event, WriterOpened
from ledger.core.evolve import balances_follow
from ledger.core.fields import GAME_STREAM
from ledger.core.follow_up_commands import PayCommission, ResolvePeriod, WalletFollowUp
from ledger.core.follow_ups import decide_follow_up, fits, follow_up_of, item_needed_by
from ledger.core.games.rules import RuleBook
from ledger.core.hold_events import HoldExpired
from ledger.core.items import Bet, Item, OpenBet, bet_key
from ledger.core.money import Assets
from ledger.core.position import Position, partition_of
from ledger.core.record import MalformedRecord, decode
from ledger.core.rejections import Code, Rejection
from ledger.core.settlement import resolution_of, resolve_bet
from ledger.core.soundness import assert_sound
from ledger.core.wallet import Wallet, has_timers, next_due_us, running_grant
from ledger.errors import LogDamaged, RulesMissing
from ledger.operations.audit import RecordsFrom
from ledger.operations.what_if.figures import Amounts, Comparison, Figures, Key, compare
from ledger.operations.what_if.world import STRIDE, World, scaled

_PAGES_EVENTS: Final = 32_000
"""Records in memory, in the pages of all partitions together. Chosen: some 20 MB."""
_PROGRESS_EVERY: Final = 1_000
_NO_HEAD: Final = "0" * 64
_TIMERS: Final = (EXPIRY, COMMISSION)


def what_if(
    records: RecordsFrom,
    book: RuleBook,
    assets: Assets,
    from_us: int,
    to_us: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Comparison:
    """Compare the window ``from_us`` ≤ time < ``to_us`` as it was with the same commands under ``book``, which also
    has the rules that the log keeps.

    ``progress`` is called now and then with (events read, events in all). Raises LogDamaged, RulesMissing, and what
    ``records`` raises.
    """
    ends = records.ends()
    replay = _Replay(book, assets, len(ends), from_us)
    total = sum(ends)
    for done, (event, at) in enumerate(_merged(records, ends, to_us), 1):
        replay.take(event, at)
        if done % _PROGRESS_EVERY == 0:
            progress(done, total)
    progress(total, total)
    return replay.conclude(to_us)


# --- reading ------------------------------------------------------------------------------------------------------


def _merged(records: RecordsFrom, ends: Sequence[int], to_us: int) -> Iterator[tuple[Event, Position]]:
    """The events of all partitions before ``to_us``, in the order of time, and each after its cause."""
    page = max(_PAGES_EVENTS // max(len(ends), 1), 50)
    streams = [_events(records, partition, end, page) for partition, end in enumerate(ends)]
    taken = [0] * len(ends)
    line: list[tuple[int, int]] = []
    heads: dict[int, Event] = {}
    waiting: dict[Position, list[int]] = {}

    def advance(partition: int) -> None:
        event = next(streams[partition], None)
        if event is not None and event.time_us < to_us:
            heads[partition] = event
            heappush(line, (event.time_us, partition))

    for partition in range(len(ends)):
        advance(partition)
    while line:
        _, partition = heappop(line)
        event, at = heads[partition], Position(partition, taken[partition] + 1)
        cause = _cause_of(event)
        if cause is not None and cause.partition < len(ends) and taken[cause.partition] < cause.seq:
            # Its time is that of its cause, or it would be later in the line.
            waiting.setdefault(cause, []).append(partition)
            continue
        yield event, at
        taken[partition] = at.seq
        for waited in waiting.pop(at, ()):
            heappush(line, (heads[waited].time_us, waited))
        advance(partition)
    for cause, partitions in waiting.items():
        raise LogDamaged(partitions[0], taken[partitions[0]] + 1, f"its cause, {cause}, is not in the log before it")


def _events(records: RecordsFrom, partition: int, end: int, page: int) -> Iterator[Event]:
    for first in range(1, end + 1, page):
        seq = first
        for stored in records.read(partition, min(first + page - 1, end), first):
            for one in stored:
                try:
                    yield decode(one[0]).event
                except MalformedRecord as error:
                    raise LogDamaged(partition, seq, str(error)) from error
                seq += 1
        if seq != min(first + page, end + 1):
            raise LogDamaged(partition, seq, "the record is missing")


def _cause_of(event: Event) -> Position | None:
    if event.command_id[0] != "~" or type(event.data) is WriterOpened:
        return None
    return Position.parse(event.data.cause)  # type: ignore[union-attr, arg-type]  # the ledger's own events have it


def _cause_of_follow_up(event: Event) -> Position | None:
    """Also of the event of a settlement, whose cause sends no follow-up."""
    return None if event.command_id.startswith((*_TIMERS, OWN)) else _cause_of(event)


def _outcome(event: Event) -> ResolvePeriod:
    """For every partition: only the result, or the reason, is read."""
    return resolution_of(event, Position(0, 1), _NO_HEAD, 0)


# --- deciding -----------------------------------------------------------------------------------------------------


class _Replay:
    def __init__(self, book: RuleBook, assets: Assets, partitions: int, from_us: int) -> None:
        self._book, self._assets, self._partitions, self._from_us = book, assets, partitions, from_us
        self._actual = World()
        self._other: World | None = None
        """None before the window."""
        self._events = 0
        self._time_us = 0
        """The time of the last event."""
        self._seqs = [0] * partitions
        """The seq of each partition's last event."""
        self._made = [0] * partitions
        """How many events the second world has made at this seq, besides the one that corresponds to it."""
        self._sent: dict[Position, WalletFollowUp] = {}
        """Cause in the log → the follow-up of the second world that waits for the log's."""
        self._own: dict[tuple[int, str, str], tuple[int, Position]] = {}
        """(partition, kind, asset) → the last bonus of the ledger's own: the seq of its cause, its position."""
        self._open: dict[tuple[str, str], int] = {}
        """(game, period) → how many bets of the log wait for its result."""
        self._outcomes: dict[tuple[str, str], ResolvePeriod] = {}
        """The outcomes of periods whose bets are not all settled."""
        self._kept_bets: dict[tuple[str, str], list[tuple[str, str]]] = {}
        """(game, period) → (user, bet) that the log cancels, and that the other rules do not let be cancelled."""
        self._due: list[tuple[int, str]] = []
        """Heap of (due, user) of the second world, some of them out of date."""
        self._noted: dict[str, int] = {}
        """User → the earliest due in the heap."""

    def take(self, event: Event, at: Position) -> None:
        """The next event of the log, in the order of ``_merged``."""
        self._time_us = event.time_us
        if event.time_us >= self._from_us and self._other is None:
            self._begin()
        other = self._other
        if other is not None:
            self._fire(other, event.time_us)
            self._events += 1
        self._seqs[at.partition], self._made[at.partition] = at.seq, 0
        if type(event.data) is WriterOpened:
            return
        before = self._actual.wallet(event.user_id)
        if not balances_follow(before, event):
            raise LogDamaged(*at, "its balances are not the wallet's before it plus its postings")
        ended = self._count_open(event)
        after = self._actual.fold(event, at)
        sends = follow_up_of(event, after, at, _NO_HEAD)
        if other is not None:
            self._correspond(other, event, at, sends)
            self._note_due(other.wallet(event.user_id))
        else:
            if (cause := _cause_of_follow_up(event)) is not None:
                self._sent.pop(cause, None)
            if sends is not None:
                self._sent[at] = sends
        if ended is not None:
            self._outcomes.pop(ended, None)

    def conclude(self, to_us: int) -> Comparison:
        if self._other is None:
            self._begin()
        other = self._other
        assert other is not None
        # Only up to the last event of the log, not to the end of the window: the first world has no later events.
        self._fire(other, self._time_us)
        worlds = (self._actual, other)
        keys = {key for world in worlds if world.figures is not None for key in world.figures.users}
        for world in worlds:
            assert world.figures is not None
            for user_id, asset in keys:
                world.figures.users.setdefault((user_id, asset), Amounts())
            world.figures.close({key: _balance(world, key) for key in keys})
        assert self._actual.figures is not None
        assert other.figures is not None
        return compare(self._actual.figures, other.figures, (self._from_us, to_us), self._events)

    def _begin(self) -> None:
        other = self._other = self._actual.copy()
        self._actual.figures, other.figures = Figures(), Figures()
        for wallet in other.wallets():
            self._note_due(wallet)

    def _count_open(self, event: Event) -> tuple[str, str] | None:
        """Keep the outcomes of periods as long as bets wait for them. Returns the period whose last bet ends."""
        match event.data:
            case BetPlaced(rules=str(), game=game, period=period):
                self._open[game, period] = self._open.get((game, period), 0) + 1
            case BetSettled(bet_id=bet_id) | BetCancelled(before_bet=False, bet_id=bet_id):
                bet = self._actual.item(event.user_id, bet_key(bet_id))
                if isinstance(bet, Bet) and bet.of_game is not None:
                    ended = bet.of_game.game, bet.of_game.period
                    self._open[ended] -= 1
                    if not self._open[ended]:
                        del self._open[ended]
                        return ended
            case ResultRecorded(period=period) | PeriodCancelled(period=period):
                game = event.user_id.removeprefix(GAME_STREAM)
                if (game, period) in self._open:
                    self._outcomes[game, period] = _outcome(event)
            case _:
                pass
        return None

    def _correspond(self, other: World, event: Event, at: Position, sends: WalletFollowUp | None) -> None:
        """Decide in the second world what corresponds to ``event``. ``sends``: the follow-up that it sent."""
        command_id, data = event.command_id, event.data
        if command_id[0] != "~":
            self._command(other, event, at, sends)
        elif command_id.startswith(OWN):
            assert isinstance(data, BonusGranted), event
            assert data.kind is not None, event
            cause_seq, position = self._own.get((at.partition, data.kind, data.asset), (0, scaled(at)))
            if str(Position(at.partition, cause_seq)) == data.cause:
                other.note_own(at, position)
        elif command_id.startswith(_TIMERS):
            self._expire(other, event.user_id, event.time_us, at, sends)
        elif isinstance(data, BetSettled | BetCancelled):
            self._settle(other, event.user_id, data.bet_id, self._outcomes.get, event.time_us, at)
        elif (cause := _cause_of(event)) is not None and (follow_up := self._sent.pop(cause, None)) is not None:
            self._deliver(other, follow_up, event.time_us, at, sends)

    def _command(self, other: World, event: Event, at: Position, sends: WalletFollowUp | None) -> None:
        command = command_of(event)
        if isinstance(command, Reverse):
            command = replace(command, position=other.reversible(command.position))
        wallet = self._expired(other, other.wallet(event.user_id), event.time_us)
        items = other.items(event.user_id, needs(command))
        case = Case(
            command, event.request_sha256, event.actor, wallet, items, self._assets, self._book, event.time_us
        )
        decision = decide(case)
        if isinstance(decision, Rejection):
            assert other.figures is not None
            other.figures.refuse(event.user_id, COMMAND_OF[event.data.type], decision.code.value)
            if isinstance(command, CancelBet) and decision.code is Code.SETTLED_BY_RESULT:
                period_of = decision.fields["game"], decision.fields["period"]
                self._kept_bets.setdefault((str(period_of[0]), str(period_of[1])), []).append(
                    (event.user_id, command.bet_id)
                )
            return
        self._accept(other, wallet, items, decision, at, sends)
        if isinstance(event.data, ResultRecorded | PeriodCancelled):
            outcome = _outcome(event)
            for user_id, bet_id in self._kept_bets.pop((outcome.game, outcome.period), ()):
                self._settle(other, user_id, bet_id, lambda _: outcome, event.time_us, None)

    def _settle(
        self,
        other: World,
        user_id: str,
        bet_id: str,
        outcome_of: Callable[[tuple[str, str]], ResolvePeriod | None],
        time_us: int,
        at: Position | None,
    ) -> None:
        """End a bet by the outcome of its period. ``at``: where the log ends it; None: there it was cancelled."""
        bet = other.item(user_id, bet_key(bet_id))
        if bet is None:  # it was refused
            return
        assert isinstance(bet, Bet), (user_id, bet_id)
        open_bet = OpenBet(user_id, bet_id, bet)
        of_game = open_bet.of_game
        outcome = outcome_of((of_game.game, of_game.period))
        if outcome is None:
            assert at is not None, open_bet
            raise LogDamaged(*at, f"the log has no outcome of {of_game.game} {of_game.period} before it")
        if of_game.table_digest not in self._book.tables:
            raise RulesMissing(
                f"the bet {bet_id} of {user_id} was taken under the pay table {of_game.table_digest}, which is not "
                "kept with the log"
            )
        wallet = self._expired(other, other.wallet(user_id), time_us)
        settled = resolve_bet(outcome, open_bet, wallet, self._book, time_us)
        self._accept(other, wallet, {bet_key(bet_id): bet}, settled, at, None)

    def _deliver(
        self, other: World, follow_up: WalletFollowUp, time_us: int, at: Position | None, sends: WalletFollowUp | None
    ) -> None:
        """The event of a follow-up. ``at``: where the log has it; None: only the second world has it."""
        if isinstance(follow_up, PayCommission) and follow_up.rules not in self._book.money_kept:
            raise RulesMissing(
                f"a commission of {follow_up.user_id} is due by the rules {follow_up.rules}, which are not kept with "
                "the log"
            )
        wallet = self._expired(other, other.wallet(follow_up.user_id), time_us)
        key = item_needed_by(follow_up)
        item = None if key is None else other.item(follow_up.user_id, key)
        assert fits(follow_up, wallet, item), (follow_up, wallet)
        event = decide_follow_up(follow_up, wallet, item, time_us, self._book)
        self._accept(other, wallet, {} if key is None else {key: item}, event, at, sends)

    def _accept(
        self,
        other: World,
        wallet: Wallet,
        items: dict[str, Item | None],
        event: Event,
        at: Position | None,
        sends: WalletFollowUp | None,
    ) -> None:
        """Apply an event of the second world, with its consequences, and send its follow-up. ``at`` and ``sends``:
        the event of the log that corresponds to it, and the follow-up of that; None if there is none."""
        partition = partition_of(event.user_id, self._partitions)
        position = self._next(partition) if at is None else scaled(at)
        after = other.apply(wallet, items, event, position)
        assert_sound(wallet, event, after)
        sent = follow_up_of(event, after, position, _NO_HEAD)
        if type(event.data) in CAUSES:
            for own in consequences_of(event, after, self._book):
                granted = decide_own_grant(own, after, self._book, position, event.time_us, 0)
                if granted is not None:
                    own_at = self._next(partition)
                    after = other.apply(after, {}, granted, own_at)
                    self._own[partition, own.kind, own.asset] = (self._seqs[partition], own_at)
        if sent is not None:
            if at is not None and sends is not None and (type(sent), sent.user_id) == (type(sends), sends.user_id):
                self._sent[at] = sent
            else:
                self._deliver(other, sent, event.time_us, None, None)
        # What is due at once, such as a commission per bet. The log has it as its next event if it has it at all.
        self._expire(other, event.user_id, event.time_us, None, None)
        self._note_due(other.wallet(event.user_id))

    def _next(self, partition: int) -> Position:
        """The position of an event that corresponds to none of the log."""
        self._made[partition] += 1
        assert self._made[partition] < STRIDE, partition
        return Position(partition, self._seqs[partition] * STRIDE + self._made[partition])

    # --- timers ---------------------------------------------------------------------------------------------------

    def _expired(self, other: World, wallet: Wallet, time_us: int) -> Wallet:
        """The wallet once all that is due has happened: it comes before anything else that happens to the wallet."""
        if has_timers(wallet):
            self._expire(other, wallet.user_id, time_us, None, None, wait=False)
            return other.wallet(wallet.user_id)
        return wallet

    def _expire(
        self,
        other: World,
        user_id: str,
        time_us: int,
        at: Position | None,
        sends: WalletFollowUp | None,
        *,
        wait: bool = True,
    ) -> None:
        """Fire the due timers of a wallet in the second world. With ``wait``, stop at a timer that the first world
        still has: it fires with the log's event. ``at`` and ``sends`` are those of the log's timer that has just
        happened."""
        wallet = other.wallet(user_id)
        while (event := expire(wallet, time_us, 0)) is not None:
            due_us = next_due_us(wallet)
            if wait and _has_timer(self._actual.wallet(user_id), event, due_us):
                return
            wallet_before, wallet = wallet, other.apply(wallet, {}, event, Position(0, 0))
            assert_sound(wallet_before, event, wallet)
            sent = follow_up_of(event, wallet, Position(0, 0), _NO_HEAD)
            if sent is None:
                continue
            if at is not None and _same_turnover(sent, sends) and at not in self._sent:
                self._sent[at] = sent
            else:
                self._deliver(other, sent, time_us, None, None)
                wallet = other.wallet(user_id)

    def _fire(self, other: World, time_us: int) -> None:
        """Fire the timers due up to ``time_us``, in the order of time, except those that the log fires itself."""
        while self._due and self._due[0][0] <= time_us:
            due_us, user_id = heappop(self._due)
            if self._noted.get(user_id) == due_us:
                del self._noted[user_id]
            self._expire(other, user_id, due_us, None, None)
            wallet = other.wallet(user_id)
            later = next_due_us(wallet)
            if later is not None and later > due_us:
                self._note_due(wallet)

    def _note_due(self, wallet: Wallet) -> None:
        due_us = next_due_us(wallet)
        if due_us is not None and due_us < self._noted.get(wallet.user_id, due_us + 1):
            self._noted[wallet.user_id] = due_us
            heappush(self._due, (due_us, wallet.user_id))


def _has_timer(actual: Wallet, event: Event, due_us: int | None) -> bool:
    """Whether ``actual`` still has the timer that ``event`` fires, with the same due time."""
    match event.data:
        case HoldExpired(hold_id=hold_id):
            return any(hold.hold_id == hold_id and hold.expires_at_us == due_us for hold in actual.expiring_holds)
        case BonusExpired(grant_id=grant_id):
            grant = running_grant(actual, grant_id)
            return grant is not None and grant.expires_at_us == due_us
        case CommissionDue(asset=asset):
            return any(turnover.asset == asset and turnover.due_at_us == due_us for turnover in actual.turnover)
        case _:
            raise AssertionError(event)


def _same_turnover(sent: WalletFollowUp, sends: WalletFollowUp | None) -> bool:
    if not isinstance(sent, PayCommission) or not isinstance(sends, PayCommission):
        return False
    return (sent.user_id, sent.asset, sent.day) == (sends.user_id, sends.asset, sends.day)


def _balance(world: World, key: Key) -> int:
    balance = world.wallet(key[0]).balances.get(key[1])
    return 0 if balance is None else balance.cash + balance.bonus + balance.held


# --- the command of an event --------------------------------------------------------------------------------------


_COMMANDS: Final[dict[str, tuple[type[Any], tuple[str, ...]]]] = {
    str(command.__struct_config__.tag): (
        command,
        tuple(name for name in command.__struct_fields__ if name not in ("command_id", "private", "user_id")),
    )
    for command in COMMAND_TYPES
}


def command_of(event: Event) -> Command:
    """The command that made the event, without private texts: its fields are in the data under the same names."""
    command, names = _COMMANDS[COMMAND_OF[event.data.type]]
    fields = {name: getattr(event.data, name) for name in names}
    if fields["metadata"] is UNSET:  # of limits_set, which has null members
        fields["metadata"] = None
    made: Command = command(command_id=event.command_id, user_id=event.user_id, **fields)
    return made
