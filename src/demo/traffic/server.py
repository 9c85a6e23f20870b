"""The day of one game server: the waves of commands that it sends, in order. No I/O.

Invariants:

1. The same `Day`, server number and responses give the same traffic.
2. A server yields waves. The posts of one wave name different wallets and may be under way together. The next wave
   starts only after all responses of the last one. So the commands of one wallet reach the service in order.

The model: users by Zipf. Bets gather at the end of each period and are settled together. Users open wallets through
most of the day. Some periods have a gift for users of the server. The back office decides on withdrawals and on
proposals some periods later, under other names.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from demo.books.books import Books
from demo.traffic.campaigns import Campaigns
from demo.traffic.plan import Day, Fault, Later, Planned, Player, Post, Role, Wager, Wave, players, share_of_period

GIFT_SHARE = 0.4
"""The share of a server's periods that have a gift. Chosen."""
ZIPF_EXPONENT = 1.05
"""Chosen: with 3,000 users the busiest tenth places about two thirds of the bets."""


class GameServer(Campaigns):
    """One game server's day. The books must have all responses of a wave before the next wave is taken."""

    def __init__(self, day: Day, number: int, books: Books) -> None:
        """Server `number` of `day.servers`; `books` is shared by all servers and only read."""
        everyone = players(day)
        super().__init__(day, number, books, {player.user_id: player.role for player in everyone})
        self.mine = everyone[number :: day.servers]
        ranks = list(range(len(self.mine)))
        self.rng.shuffle(ranks)
        self.weight_of = {
            player.user_id: 1 / (rank + 1) ** ZIPF_EXPONENT for player, rank in zip(self.mine, ranks, strict=True)
        }
        self.waiting: deque[Player] = deque(self.mine)
        self.opening: list[Player] = []
        """Whose wallet is open, and who may still wait for their referrer."""
        self.opened: list[Player] = []
        self.weights: list[float] = []
        self.quiet: tuple[tuple[Callable[[Player], Post | None], int], ...] = (
            (self.deposit, 18),
            (self.bet, 28),
            (self.hold, 9),
            (self.resolve_hold, 9),
            (self.withdraw, 12),
            (self.attend, 8),
            (self.claim_code, 3),
            (self.transfer, 9),
            (self.grant, 6),
            (self.adjust, 3),
            (self.propose, 3),
            (self.reverse, 1),
            (self.freeze, 1),
            (self.relimit, 1),
            (self.cancel_first, 2),
            (self.leave, 3),
            (self.send_again, 6),
            (self.mistake, 12),
        )

    def waves(self) -> Iterator[Wave]:
        """The whole day, period by period."""
        for period in range(self.day.periods):
            self.now.period, self.now.used = period, 0
            quota = max(round(self.day.commands / self.day.servers * share_of_period(self.day, period)), 4)
            yield from self._openings(quota)
            if self.day.campaigns and self.rng.random() < GIFT_SHARE:
                for posts in self.gift():
                    yield self._wave(posts)
            yield from self._until(round(quota * 0.6), (2, 8), self.quiet)
            yield from self._until(quota, (16, 40), ((self.bet, 1),))
            yield from self._results()
        self.now.period = self.day.periods
        yield from self._evening()
        if self.number == 0:
            yield from self._last_withdrawals()

    # -- the parts of a period -----------------------------------------------------------------------------------

    def _openings(self, quota: int) -> Iterator[Wave]:
        done = (self.now.period + 1) / (0.8 * self.day.periods)
        goal = min(len(self.mine), math.ceil(len(self.mine) * done))
        while self.waiting and len(self.mine) - len(self.waiting) < goal and self.now.used < quota * 0.4:
            coming = [self.waiting.popleft() for _ in range(min(12, len(self.waiting)))]
            yield self._wave([self.open(player) for player in coming])
            self.opening += coming
            yield from self._first_deposits()
        yield from self._first_deposits()

    def _first_deposits(self) -> Iterator[Wave]:
        """The first deposits of those whose referrer is known; from now on they take part in everything."""
        wallet_of = self.books.wallet
        ready = [player for player in self.opening if wallet_of(player.user_id).referrer_coming is None]
        self.opening = [player for player in self.opening if player not in ready]
        if posts := [post for player in ready if (post := self.first_deposit(player)) is not None]:
            yield self._wave(posts)
        self.books.welcome(player.user_id for player in ready)
        self.opened.extend(player for player in ready if wallet_of(player.user_id).status)
        self.weights = list(accumulate(self.weight_of[player.user_id] for player in self.opened))

    def _until(
        self, quota: int, width: tuple[int, int], menu: Sequence[tuple[Callable[[Player], Post | None], int]]
    ) -> Iterator[Wave]:
        """Waves from the menu until the period's commands, with a result for each open bet, reach the quota."""
        due = sum(wager.period <= self.now.period for wager in self.now.wagers)
        idle = 0
        while self.now.used + due < quota and self.opened and idle < 20:
            posts = self._due_posts()
            busy = {user_id for post in posts for user_id in post.user_ids()}
            left = max((quota - self.now.used - due) // 2, 1)  # a bet brings its result along
            for _ in range(min(self.rng.randint(*width), left)):
                player = self.rng.choices(self.opened, cum_weights=self.weights)[0]
                act = self.rng.choices([item for item, _ in menu], [weight for _, weight in menu])[0]
                post = None if player.user_id in busy else act(player)
                if post is not None and not post.user_ids() & busy:
                    posts.append(post)
                    busy |= post.user_ids()
            idle = 0 if posts else idle + 1
            if posts:
                yield self._wave(self._gathered(posts))
            due = sum(wager.period <= self.now.period for wager in self.now.wagers)

    def _due_posts(self) -> list[Post]:
        """The due tasks of the back office, at most one post for each wallet."""
        posts: list[Post] = []
        busy: set[str] = set()
        kept: list[Later] = []
        for later in self.now.late:
            if later.period > self.now.period or later.user_id in busy or len(posts) >= 8:
                kept.append(later)
            elif (post := later.post()) is not None:
                posts.append(post)
                busy.add(later.user_id)
        self.now.late = kept
        return posts

    def _gathered(self, posts: list[Post]) -> list[Post]:
        """Sometimes a server gathers its plain posts into one batch."""
        plain = [post for post in posts if post.actor is None and post.fault is Fault.NONE]
        if len(plain) < 2 or self.rng.random() < 0.6:
            return posts
        rest = [post for post in posts if post.actor is not None or post.fault is not Fault.NONE]
        return [*rest, Post(tuple(planned for post in plain for planned in post.planned), batch=True)]

    def _results(self) -> Iterator[Wave]:
        """Settle this period's bets, in batches; a few are cancelled, settled twice or settled wrongly."""
        due = [wager for wager in self.now.wagers if wager.period <= self.now.period]
        self.now.wagers = [wager for wager in self.now.wagers if wager.period > self.now.period]
        by_user: dict[str, list[Planned]] = {}
        for wager in due:
            by_user.setdefault(wager.player.user_id, []).extend(self._result(wager))
        groups = [group for group in by_user.values() if group]
        while groups:
            batch = self.rng.random() < 0.75
            taken, groups = (groups[:60], groups[60:]) if batch else (groups[:12], groups[12:])
            if batch:
                posts = [self._faulty(Post(tuple(planned for group in taken for planned in group), batch=True))]
            else:
                posts = [self._faulty(Post(tuple(group))) for group in taken]
            yield self._wave(posts)

    def _result(self, wager: Wager) -> list[Planned]:
        player, bet_id = wager.player, wager.bet_id
        bet = self.books.wallet(player.user_id).bets.get(bet_id)
        if bet is None or bet.status != "open":
            return []
        luck = self.rng.random()
        if luck < 0.03:
            return [self._plan(player, "cancel_bet", bet_id=bet_id, reason="match abandoned")]
        if luck < 0.43:  # with the two below, about 97% of the stakes come back
            payout = bet.stake * 196 // 100
        elif luck < 0.432:
            payout = bet.stake * self.rng.choice((450, 900, 6_912, 20_736)) // 100
        elif luck < 0.45:
            payout = bet.stake
        else:
            payout = 0
        planned = [self._plan(player, "settle_bet", bet_id=bet_id, payout=payout)]
        if self.rng.random() < 0.02:
            planned.append(self._wrong("already_resolved", player, "settle_bet", bet_id=bet_id, payout=payout + 1))
        return planned

    def _evening(self) -> Iterator[Wave]:
        """The tasks that are left; bets of tomorrow's periods stay open."""
        for later in self.now.late:
            later.period = min(later.period, self.now.period)
        while self.now.late:
            if posts := self._due_posts():
                yield self._wave(posts)

    def _last_withdrawals(self) -> Iterator[Wave]:
        """One withdrawal that is approved and one that is rejected: also the shortest day has both."""
        wallet_of = self.books.wallet
        able = [
            player
            for player in self.opened
            if player.role is Role.REGULAR
            and wallet_of(player.user_id).status == "open"
            # The bonus of a first deposit would come while the wagering is played through.
            and wallet_of(player.user_id).first_deposit is not None
        ]
        if not able:
            return
        player = min(able, key=lambda player: len(wallet_of(player.user_id).orders))
        yield self._wave([self.sure_deposit(player)])
        for _ in range(10):
            if (post := self.play_through(player)) is None:
                break
            yield self._wave([post])
        for approve in (True, False):
            order_id, requested = self.least_withdrawal(player)
            yield self._wave([requested])
            if order_id in wallet_of(player.user_id).orders:
                yield self._wave([self.decide(player, order_id, approve=approve)])

    def _wave(self, posts: list[Post]) -> Wave:
        minutes = min(self.now.period * 24 * 60 // self.day.periods, 24 * 60 - 1)
        wave = Wave(f"{minutes // 60:02d}:{minutes % 60:02d}", tuple(posts))
        self.now.used += wave.size()
        return wave
