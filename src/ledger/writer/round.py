"""One round: decides requests, follow-ups and due expiries against a partition's state. Synchronous and without I/O.

A round reads and changes only the state's batch. Its caller appends ``Round.records`` as one whole, and then commits
the batch or rolls it back.

Invariants:
(1) the records of a round continue the chain from the head that it was given, without a gap;
(2) each event is sound (``core.soundness``, asserted): its balances are its wallet's before it plus its postings;
(3) an event is never dated before the partition's last event, nor before the event that caused it;
(4) due expiries of a wallet come before anything else that happens to the wallet;
(5) a command whose id the state knows makes no second event;
(6) a follow-up makes one event, or none if its event is there already; one that does not fit what its wallet sent
    raises PartitionsDisagree, and nothing is decided;
(7) a request is not decided after its deadline;
(8) the round ends when it reaches ``append_bytes``; it exceeds them by at most the last event and its consequences.
    Other requests wait for the next round;
(9) the consequences of an event follow it directly, in the same append.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from ledger.core.bet_events import BetSettled, PeriodCancelled, ResultRecorded
from ledger.core.case import Case
from ledger.core.commands import CancelBet, SettleBet
from ledger.core.consequences import CAUSES, consequences_of, decide_own_grant
from ledger.core.decide import decide, expire
from ledger.core.events import Event
from ledger.core.evolve import evolve
from ledger.core.follow_up_commands import AnyFollowUp, ResolvePeriod, WalletFollowUp
from ledger.core.follow_ups import CONCLUDED, decide_follow_up, fits, follow_up_of, item_needed_by
from ledger.core.games.rules import EXTERNAL_GAME, RuleBook
from ledger.core.items import Bet, Item, OpenBet, Outcome, bet_key, period_key
from ledger.core.money import Assets
from ledger.core.position import Position
from ledger.core.record import Head, encode, sha256_hex
from ledger.core.rejections import Rejection
from ledger.core.settlement import resolve_bet
from ledger.core.soundness import assert_sound
from ledger.core.wallet import Wallet, has_timers
from ledger.errors import PartitionsDisagree
from ledger.ports import NewRecord
from ledger.tracing import Span
from ledger.writer.requests import (
    Accepted,
    AnyResponse,
    CommandRequest,
    DryRunAccepted,
    Failed,
    FollowUpRequest,
    LookupRequest,
    OtherGame,
    OutcomeRequest,
    Refused,
    Request,
    WalletRead,
)
from ledger.writer.state import PartitionState, command_key, open_bet_key

TIMERS_PER_ROUND: Final = 32
"""The most wallets whose timers one round fires. Chosen: some 3 ms. The days of all members are closed at the
same moment, and commands must not wait for all of them."""

EXPIRIES_PER_ROUND: Final = 1_024
"""The most expiries of one round, of one wallet or of many. Chosen: some 100 ms. A request for a wallet with more due
expiries waits for the next round."""

SETTLEMENTS_PER_ROUND: Final = 256
"""The most bets that one round settles. One partition of a node settles at a time (``settlement_turn``), so this is
what a command of another partition waits for. Chosen: some 10 ms."""

_TOO_LATE: Final = Failed("not_owner", "the deadline of the request is over; nothing was written")


class SentFollowUp(NamedTuple):
    """A follow-up that leaves once the round is durable, with the seq of the event that sends it."""

    seq: int
    follow_up: AnyFollowUp


class Announced(NamedTuple):
    """The outcome of a period, which is announced to every partition once the round is durable: its event and
    position, and the hash of its record."""

    event: Event
    position: Position
    head: str


class UnpaidPayout(NamedTuple):
    """What a bet should have paid beyond its payout: its wallet had no room for it."""

    user_id: str
    game: str
    period: str
    bet: Position
    """Position of the event that placed the bet."""
    asset: str
    amount: int


class Round:
    """What one round decided. Nothing of it may leave before its records are durable, or, if it has no records,
    before the log has confirmed the head."""

    __slots__ = (
        *("announced", "bytes", "decided", "expired", "finished", "head", "not_before_us", "postponed", "records"),
        *("repeated", "responses", "sent", "settled", "span", "spans", "time_us", "unfinished", "unpaid"),
    )

    def __init__(self, head: Head, time_us: int) -> None:
        self.head = head
        """The partition's head after the records."""
        self.time_us = time_us
        """The time of the round's events."""
        self.records: list[NewRecord] = []
        self.bytes = 0
        """The size of the records."""
        self.decided = 0
        """How many of the requests were decided, from the first one on. The others go into the next round."""
        self.responses: list[tuple[Request, AnyResponse]] = []
        self.repeated: list[tuple[Request, int]] = []
        """Requests of a command that has its event already, with the seq of that event. It may be of this round."""
        self.finished: list[FollowUpRequest] = []
        """Follow-ups that have their event, from this round or an earlier one."""
        self.postponed: list[FollowUpRequest] = []
        """Follow-ups for a wallet in ``unfinished``, or for which the round has no room, and outcomes with more open
        bets than go into it."""
        self.sent: list[SentFollowUp] = []
        self.announced: list[Announced] = []
        self.settled = 0
        """How many bets the outcomes of periods ended."""
        self.unpaid: list[UnpaidPayout] = []
        """Of these bets, those whose payout did not fit into the wallet."""
        self.not_before_us = 0
        """The latest time of an outcome that arrived: even if it ended no bet, no later event may be dated before it.
        Otherwise a clock that is set back could take a bet on a period whose result is known."""
        self.expired = 0
        """How many expiries are among the records."""
        self.unfinished: set[str] = set()
        """The wallets with more due expiries than go into the round. Nothing else may happen to them before."""
        self.span: Span | None = None
        """Of the request or the follow-up that is being decided, if it is traced."""
        self.spans: dict[int, Span] = {}
        """Seq → this span, for the events that such requests and follow-ups made."""


class RoundDecider:
    """Decides the rounds of one partition."""

    def __init__(self, state: PartitionState, assets: Assets, rules: RuleBook, append_bytes: int) -> None:
        """``append_bytes``: how many bytes of records one append of the log should have."""
        self._state, self._assets, self._rules, self._append_bytes = state, assets, rules, append_bytes
        self._partition = state.partition

    async def fetch(
        self, now_us: int, requests: Sequence[Request], follow_ups: Sequence[FollowUpRequest]
    ) -> list[tuple[int, str]]:
        """Read from disk, in one look-up, what ``decide`` needs; outcomes of periods need one more look-up first, for
        their open bets. Other partitions work meanwhile. Returns the timers that are due at ``now_us``. Raises
        LedgerError."""
        state = self._state
        await state.load_timers()
        due = state.take_due(now_us, TIMERS_PER_ROUND)
        keys = _keys_of(due, requests, follow_ups)
        resolutions = [waiting.follow_up for waiting in follow_ups if isinstance(waiting.follow_up, ResolvePeriod)]
        if resolutions:
            seqs = [seq for resolution in resolutions for seq in self._open_seqs(resolution)]
            await state.prefetch_in_thread([open_bet_key(seq) for seq in seqs])
            keys += [bet.user_id for bet in map(state.open_bet, seqs) if bet is not None]
        await state.prefetch_in_thread(keys)
        return due

    def _open_seqs(self, resolution: ResolvePeriod) -> list[int]:
        """The open bets of the period, as many as a round settles, and one more if there are more."""
        return self._state.open_bets.of_period((resolution.game, resolution.period), SETTLEMENTS_PER_ROUND + 1)

    def decide(
        self,
        head: Head,
        last_us: int,
        clock_us: int,
        requests: Sequence[Request],
        follow_ups: Sequence[FollowUpRequest],
        due: Sequence[tuple[int, str]],
    ) -> Round:
        """Decide, in this order: the expiries of the wallets in ``due``, the follow-ups, the requests.

        ``head`` is the partition's head and ``last_us`` the time of its last event. Raises LedgerError if the state
        store cannot be read: the caller rolls the state back.
        """
        state = self._state
        decided = Round(head, max(clock_us, last_us))
        for _, user_id in due:
            self._expire_due(decided, state.wallet(user_id))
        for waiting in follow_ups:
            if isinstance(waiting.follow_up, ResolvePeriod):
                self._resolve(decided, waiting, waiting.follow_up)
            elif decided.bytes >= self._append_bytes:
                decided.postponed.append(waiting)
            else:
                self._decide_follow_up(decided, waiting, waiting.follow_up)
        for request in requests:
            if decided.bytes >= self._append_bytes or request.user_id in decided.unfinished:
                break
            if request.deadline_us is not None and clock_us > request.deadline_us:
                decided.responses.append((request, _TOO_LATE))
            elif type(request) is CommandRequest:
                if not self._decide_command(decided, request):
                    break
            elif type(request) is LookupRequest:
                seq = state.get(command_key(request.user_id, request.command_id))
                if isinstance(seq, int):
                    decided.repeated.append((request, seq))
                else:
                    decided.responses.append((request, None))
            elif type(request) is OutcomeRequest:
                outcome = state.item(request.user_id, period_key(request.period))
                if isinstance(outcome, Outcome):
                    decided.repeated.append((request, outcome.seq))
                else:
                    decided.responses.append((request, None))
            else:
                position = Position(self._partition, decided.head.seq)
                decided.responses.append((request, WalletRead(state.wallet(request.user_id), position)))
            decided.decided += 1
        assert len(decided.responses) + len(decided.repeated) == decided.decided, (
            "a decided request lacks its response"
        )
        assert decided.head.seq == head.seq + len(decided.records), (head, decided.head)
        assert decided.time_us >= last_us, (decided.time_us, last_us)
        return decided

    def decide_alone(self, head: Head, last_us: int, clock_us: int, request: Request) -> Round:
        """What a round of this request alone would decide. The state stays as it is. Raises LedgerError."""
        decided = self.decide(head, last_us, clock_us, (request,), (), ())
        self._state.roll_back()
        return decided

    def _decide_command(self, decided: Round, request: CommandRequest) -> bool:
        """Whether the command was decided. False if its wallet has more due expiries than go into the round."""
        failed = request.group.failed
        if failed is not None and request.user_id in failed:
            decided.responses.append((request, failed[request.user_id]))
            return True
        state, command, user_id = self._state, request.command, request.user_id
        if request.games is not None:
            game = self._game_of_bet(request)
            if game is not None and game not in request.games:
                decided.responses.append((request, OtherGame(game)))
                return True
        seq = state.get(request.command_key)
        if seq is not None:
            assert isinstance(seq, int), (request.command_key, seq)
            decided.repeated.append((request, seq))
            return True
        wallet = state.wallet(user_id)
        items: dict[str, Item | None] = {}
        for key, full_key in request.item_keys:
            items[key] = state.get(full_key)  # type: ignore[assignment]  # an item key names an item
        if request.dry_run:
            decided.responses.append((request, self._dry_run(decided, request, wallet, items)))
            return True
        if has_timers(wallet):
            wallet = self._expire_due(decided, wallet)
            if user_id in decided.unfinished:
                return False
            for key, full_key in request.item_keys:
                items[key] = state.get(full_key)  # type: ignore[assignment]  # a hold may have expired
        decision = decide(
            Case(
                command,
                request.request_sha256,
                request.actor,
                wallet,
                items,
                self._assets,
                self._rules,
                decided.time_us,
            )
        )
        if type(decision) is Rejection:
            decided.responses.append((request, Refused(decision)))
            return True
        assert type(decision) is Event, decision
        decided.span = request.group.span
        after, position = self._accept(decided, wallet, decision, items)
        decided.responses.append((request, Accepted(decided.records[-1].record, position, decided.head.sha256)))
        after = self._consequences(decided, after, decision, position)
        decided.span = None
        if has_timers(after):  # money that came back to an expired grant, a hold that began expired
            self._expire_due(decided, after)
        return True

    def _game_of_bet(self, request: CommandRequest) -> str | None:
        """The game of the open bet that the command would end; None if it would end no bet. The state does not keep
        the game of a bet that has ended."""
        if not isinstance(request.command, CancelBet | SettleBet):
            return None
        bet = self._state.item(request.user_id, bet_key(request.command.bet_id))
        if not isinstance(bet, Bet) or bet.status != "open":
            return None
        return EXTERNAL_GAME if bet.of_game is None else bet.of_game.game

    def _dry_run(
        self, decided: Round, request: CommandRequest, wallet: Wallet, items: dict[str, Item | None]
    ) -> AnyResponse:
        """Decide without changing the state; due expiries happen first, as they would."""
        time_us = decided.time_us
        position = Position(self._partition, decided.head.seq + 1)
        while (event := expire(wallet, time_us, position.seq)) is not None:
            wallet, changed = evolve(wallet, items, event, position)
            items.update((key, changed[key]) for key in changed if key in items)
            position = Position(self._partition, position.seq + 1)
        decision = decide(
            Case(
                request.command,
                request.request_sha256,
                request.actor,
                wallet,
                items,
                self._assets,
                self._rules,
                time_us,
            )
        )
        return Refused(decision) if isinstance(decision, Rejection) else DryRunAccepted(decision, position)

    def _decide_follow_up(self, decided: Round, waiting: FollowUpRequest, follow_up: WalletFollowUp) -> None:
        if self._state.get(command_key(follow_up.user_id, follow_up.command_id)) is not None:
            decided.finished.append(waiting)
            return
        decided.time_us = max(decided.time_us, follow_up.cause_time_us)
        wallet = self._expire_due(decided, self._state.wallet(follow_up.user_id))
        if follow_up.user_id in decided.unfinished:
            decided.postponed.append(waiting)
            return
        items: dict[str, Item | None] = {}
        if (key := item_needed_by(follow_up)) is not None:
            items[key] = self._state.item(follow_up.user_id, key)
        item = None if key is None else items[key]
        if not fits(follow_up, wallet, item):
            what = CONCLUDED[type(follow_up)]
            reason = f"{follow_up.cause} concludes {what} that {follow_up.user_id} did not send like this"
            raise PartitionsDisagree(self._partition, decided.head.seq, reason)
        decided.finished.append(waiting)
        event = decide_follow_up(follow_up, wallet, item, decided.time_us, self._rules)
        decided.span = waiting.span
        after, position = self._accept(decided, wallet, event, items)
        self._consequences(decided, after, event, position)
        decided.span = None

    def _resolve(self, decided: Round, waiting: FollowUpRequest, resolution: ResolvePeriod) -> None:
        """End the open bets of a period by its outcome, or as many as go into the round."""
        decided.time_us = max(decided.time_us, resolution.cause_time_us)
        decided.not_before_us = max(decided.not_before_us, resolution.cause_time_us)
        for seq in self._open_seqs(resolution):
            open_bet = self._state.open_bet(seq)
            if open_bet is None:
                continue  # the same outcome, delivered twice, has ended it in this round
            full = decided.settled >= SETTLEMENTS_PER_ROUND or decided.bytes >= self._append_bytes
            if full or not self._end_bet(decided, resolution, open_bet, waiting.span):
                decided.postponed.append(waiting)
                return
        decided.finished.append(waiting)

    def _end_bet(self, decided: Round, resolution: ResolvePeriod, open_bet: OpenBet, span: Span | None) -> bool:
        """Whether the bet was ended. False if its wallet has more due expiries than go into the round."""
        wallet = self._state.wallet(open_bet.user_id)
        if has_timers(wallet):
            wallet = self._expire_due(decided, wallet)
            if wallet.user_id in decided.unfinished:
                return False
        event = resolve_bet(resolution, open_bet, wallet, self._rules, decided.time_us)
        decided.span = span
        after, _ = self._accept(decided, wallet, event, {bet_key(open_bet.bet_id): open_bet.bet})
        decided.span = None
        decided.settled += 1
        if isinstance(event.data, BetSettled) and event.data.unpaid:
            of_game, bet = open_bet.of_game, Position(self._partition, open_bet.of_game.seq)
            rest = UnpaidPayout(
                wallet.user_id, of_game.game, of_game.period, bet, open_bet.bet.asset, event.data.unpaid
            )
            decided.unpaid.append(rest)
        if has_timers(after):  # money that came back to an expired grant, a commission that is due at once
            self._expire_due(decided, after)
        return True

    def _expire_due(self, decided: Round, wallet: Wallet) -> Wallet:
        """Expire all that is due in the wallet, or as much as goes into the round: then the wallet is unfinished."""
        while (event := expire(wallet, decided.time_us, decided.head.seq + 1)) is not None:
            if decided.expired >= EXPIRIES_PER_ROUND or decided.bytes >= self._append_bytes:
                decided.unfinished.add(wallet.user_id)
                break
            wallet, _ = self._accept(decided, wallet, event, {})
            decided.expired += 1
        return wallet

    def _consequences(self, decided: Round, wallet: Wallet, event: Event, cause: Position) -> Wallet:
        """Add the consequences of ``event``, which is at ``cause``. Returns the wallet after them."""
        if type(event.data) not in CAUSES:
            return wallet
        for own in consequences_of(event, wallet, self._rules):
            seq = decided.head.seq + 1
            granted = decide_own_grant(own, wallet, self._rules, cause, decided.time_us, seq)
            if granted is not None:
                wallet, _ = self._accept(decided, wallet, granted, {})
        return wallet

    def _accept(
        self, decided: Round, wallet: Wallet, event: Event, items: dict[str, Item | None]
    ) -> tuple[Wallet, Position]:
        """Give the event its position and its record, and apply it to the state. Returns the wallet after it, and
        the position."""
        assert event.time_us == decided.time_us, (event, decided.time_us)
        before = decided.head
        position = Position(self._partition, before.seq + 1)
        record = encode(event, position, before.sha256)
        decided.head = head = Head(position.seq, sha256_hex(record))
        decided.records.append(NewRecord(position.seq, event.user_id, event.command_id, record))
        decided.bytes += len(record)
        if decided.span is not None:
            decided.spans[position.seq] = decided.span
        after = self._state.apply(wallet, items, event, position)
        assert_sound(wallet, event, after)
        follow_up = follow_up_of(event, after, position, head.sha256)
        if follow_up is not None:
            self._state.open_follow_up(position.seq, follow_up)
            decided.sent.append(SentFollowUp(position.seq, follow_up))
        kind = type(event.data)
        if kind is ResultRecorded or kind is PeriodCancelled:
            decided.announced.append(Announced(event, position, head.sha256))
        return after, position


def _keys_of(
    due: Sequence[tuple[int, str]], requests: Sequence[Request], follow_ups: Sequence[FollowUpRequest]
) -> list[str]:
    """The state's keys that a round reads, so that it reads the store once."""
    keys = [user_id for _, user_id in due]
    for request in requests:
        user_id = request.user_id
        keys.append(user_id)
        if type(request) is CommandRequest:
            keys.append(request.command_key)
            for _, key in request.item_keys:
                keys.append(key)
        elif type(request) is LookupRequest:
            keys.append(command_key(user_id, request.command_id))
        elif type(request) is OutcomeRequest:
            keys.append(f"{user_id} {period_key(request.period)}")
    for waiting in follow_ups:
        follow_up = waiting.follow_up
        if isinstance(follow_up, ResolvePeriod):
            continue
        keys += (follow_up.user_id, command_key(follow_up.user_id, follow_up.command_id))
        item_key = item_needed_by(follow_up)
        if item_key is not None:
            keys.append(f"{follow_up.user_id} {item_key}")
    return keys
