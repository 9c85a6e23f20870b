"""A month on a whole node against the reference model: players, agents and operators, with every flow of money.

Nine players in a row refer each other, one of them by a code, so a commission goes up six levels, and past a wallet
that is closed in the middle of the month; the referrer of a tenth was never opened. There are crashes,
stops, failed appends, repeated commands and clocks that are set back, as in ``test_ledger_machine``. Each event is
compared with the model when it is written. At the end of every day all wallets are compared, and every asset must add
up over all accounts, those of the house included, with nothing in transit. At the end of the month what was earned is
compared with what was paid, and every type of event must have occurred: a flow that the month leaves out fails the
test.
"""

from collections import Counter, defaultdict
from itertools import count
from random import Random
from typing import Any, Final

import pytest

from api.cli.forms_of_rules import forms_of_money, forms_of_tables
from ledger.core.events import DATA_OF
from ledger.memory.log import MemoryEventLog
from ledger.operations.audit import verify
from ledger.writer.requests import WalletRead
from properties.busy_days import _fields
from properties.naive_ledger import AMOUNT_MAX, DAY_US, GAME, Fact
from properties.scenarios import Post, book_of_money, seen
from properties.test_ledger_machine import FAILURES, MemoryMachine
from unit.given import SECOND_US
from unit.test_audit import Lists

DAYS: Final = 30
PLAYERS: Final = tuple(f"p{number}" for number in range(1, 11))
CLOSED: Final = "p5"
"""Gets commissions only, and is closed in the middle of the month."""
E9: Final = 10**9
KINDS: Final = {
    "deposit": 8,
    "request_withdrawal": 10,
    "approve_withdrawal": 4,
    "reject_withdrawal": 3,
    "place_bet": 10,
    "settle_bet": 10,
    "cancel_bet": 3,
    "place_game_bet": 8,
    "hold": 5,
    "capture_hold": 2,
    "release_hold": 4,
    "transfer": 3,
    "grant_bonus": 3,
    "claim_attendance": 5,
    "adjust": 1,
    "propose_adjustment": 2,
    "approve_adjustment": 4,
    "reject_adjustment": 1,
    "reverse": 2,
    "set_limits": 0.8,
    "freeze_wallet": 1,
    "unfreeze_wallet": 3,
    "set_agent_level": 0.5,
    "create_gift": 2,
    "close_gift": 1,
    "claim_gift": 6,
    "claim_referral_code": 0.3,
}
EXTERNAL: Final = {"game": "external", "period": "p", "selection": "s"}
NEVER: Final = {"writer_opened"}
"""Types of events that no wallet has: a writer on a log of one process does not record that it opened it."""


class Month:
    def __init__(self, seed: int) -> None:
        self.chance, self.fresh_ids = Random(seed), count()
        self.machine = MemoryMachine()
        self.gifts = 0

    # --- what happens ---------------------------------------------------------------------------------------------

    def live(self) -> None:
        self.everyone_joins()
        for day in range(DAYS):
            for _ in range(3):
                self.machine.the_clock_advances(self.chance.choice((20 * SECOND_US, DAY_US // 5)))
                self.some_things_happen()
            if day == DAYS // 3:
                self.one_player_has_no_room_for_a_share()
            if day == DAYS // 2:
                self.one_player_leaves()
            if day == 2 * DAYS // 3:
                self.one_payee_is_nearly_full()
            else:
                self.the_day_ends()

    def everyone_joins(self) -> None:
        self.post("open_wallet", "p1")
        self.post("claim_referral_code", "p1", code="k1")
        self.post("open_wallet", "p2", referral_code="k1")
        for number in range(3, 10):
            self.post("open_wallet", f"p{number}", referrer_id=f"p{number - 1}")
        self.post("open_wallet", "p10", referrer_id="stranger")
        self.post("open_wallet", "p11", referral_code="k9")  # a code without an owner
        self.post("claim_referral_code", "p3", code="k1")

    def some_things_happen(self) -> None:
        kinds = self.chance.choices(list(KINDS), list(KINDS.values()), k=12)
        posts = [self.some(kind) for kind in kinds]
        earlier, steps = self.chance.randrange(40), self.chance.randrange(16)
        match self.chance.randrange(8):
            case 0:
                self.machine.crashes(posts, steps, saved=self.chance.random() < 0.5)
                self.machine.retries_commands_without_a_final_response(earlier, together=True)
            case 1:
                self.machine.the_clock_steps_back(self.chance.choice((SECOND_US, DAY_US)), posts)
                self.machine.the_clock_advances(DAY_US)
            case 2:
                self.machine.many_post_at_once(posts, earlier)
            case 3:
                failing = self.chance.choices(FAILURES, k=self.chance.randint(1, 4))
                self.machine.appends_fail(posts, earlier, failing, together=self.chance.random() < 0.5)
                self.machine.retries_commands_without_a_final_response(earlier, together=False)
            case 4:
                self.machine.stops_and_starts(posts, steps)
            case _:
                self.machine.posts_a_batch(posts)
        if any(post.fields.get("game") == GAME for post in posts):
            self.machine.the_clock_advances(33 * SECOND_US)
            what = self.chance.choice(("record_result",) * 4 + ("cancel_period",))
            how = {"result": self.chance.choice("0577")} if what == "record_result" else {"reason": "void"}
            self.machine.posts_a_batch(
                [Post("local", {"type": what, "user_id": f"game:{GAME}", "period_of": 0, **how})]
            )

    def some(self, kind: str) -> Post:
        """A command of this kind. Most amounts are such that it is accepted."""
        user_id = self.chance.choice([player for player in PLAYERS if player != CLOSED])
        fields = _fields("place_bet" if kind == "place_game_bet" else kind, self.chance, self.fresh_ids)
        fields |= {name: self.chance.randint(1, 30) for name in ("amount", "stake") if fields.get(name) is not None}
        fields |= {"asset": self.chance.choice(("INR", "INR", "INR", "GOLD"))} if "asset" in fields else {}
        match kind:
            case "deposit":
                fields |= {
                    "amount": self.chance.choice((20, 45, 60, 300)),
                    "bonus": self.chance.choice((None, None, 5)),
                }
            case "place_game_bet":
                kind, selection = "place_bet", self.chance.choice(("red", "green+violet", "number:7"))
                fields |= {"game": GAME, "period": 0, "selection": selection}
            case "place_bet":
                fields["game"] = "external"
            case "transfer":
                fields["to_user_id"] = self.chance.choice((*PLAYERS, "stranger"))
            case "propose_adjustment" | "adjust":
                fields["amount"] *= self.chance.choice((1, -1))
            case "set_limits":
                fields = {"asset": "INR", "balance_max": self.chance.choice((None, 60)), "stake_max_per_day": 90}
            case "create_gift":
                self.gifts += 1
                user_id, fields["claims"] = f"gift:g{self.gifts}", min(self.chance.randint(1, 4), fields["amount"])
                fields["expires_in_us"] = self.chance.choice((None, None, DAY_US))
            case "close_gift":
                user_id = f"gift:g{max(self.gifts, 1)}"
            case "claim_gift":
                fields["code"] = f"g{max(self.gifts - self.chance.randrange(2), 1)}"
            case "claim_referral_code":
                fields["code"] = self.chance.choice(("k1", "k2", "k3"))
        return Post(self.chance.choice(("local", "op-2")), {"type": kind, "user_id": user_id, **fields})

    def post(self, type_: str, user_id: str, **fields: Any) -> None:
        self.machine.posts_a_command(Post("local", {"type": type_, "user_id": user_id, **fields}))

    def one_player_has_no_room_for_a_share(self) -> None:
        self.post("create_gift", "gift:full", asset="INR", amount=10, claims=3)
        for balance_max in (0, None):  # the second claim, with room again, is refused
            self.post("set_limits", "p11", asset="INR", balance_max=balance_max)
            self.post("claim_gift", "p11", code="full")
        assert [fact.data.get("reason") for fact in self.machine.witness.naive.facts["p11"][-2:]] == [
            "balance_max_exceeded",
            None,
        ]

    def one_payee_is_nearly_full(self) -> None:
        """What it has no room for today it gets with a later commission, once there is room again."""
        naive = self.machine.witness.naive
        self.post("set_limits", "p2", asset="INR", balance_max=None)
        self.post("set_agent_level", "p2", level=0)
        most = AMOUNT_MAX - naive._owned_or_due("p2", "INR") - 2
        self.post("adjust", "p2", asset="INR", amount=most, reason="r")
        self.post("unfreeze_wallet", "p3", reason="r")
        self.post("set_limits", "p3", asset="INR", balance_max=None, stake_max_per_day=None)
        self.post("deposit", "p3", order_id="for-the-bet", asset="INR", amount=300)
        self.post("place_bet", "p3", **EXTERNAL, bet_id="lost", asset="INR", stake=300)
        self.post("settle_bet", "p3", bet_id="lost", payout=0)
        self.the_day_ends()
        paid = [fact for fact in naive.facts["p2"] if fact.type == "commission_paid" and fact.data["asset"] == "INR"]
        assert paid[-1].data["carried_e9"] > 10 * E9
        self.post("adjust", "p2", asset="INR", amount=-most, reason="r")

    def one_player_leaves(self) -> None:
        self.machine.the_clock_advances(20 * SECOND_US)  # its bonuses expire
        wallet = self.machine.witness.naive.wallet(CLOSED)
        assert wallet is not None
        for asset, balance in wallet["balances"].items():
            if balance["cash"]:
                self.post("hold", CLOSED, hold_id=asset, asset=asset, amount=balance["cash"])
                self.post("capture_hold", CLOSED, hold_id=asset)
        self.post("close_wallet", CLOSED, reason="asked for")
        assert self.machine.witness.naive._status(CLOSED) == "closed"

    # --- what must be true ----------------------------------------------------------------------------------------

    def the_day_ends(self) -> None:
        machine = self.machine
        machine.the_clock_advances(DAY_US - machine.clock.now_us % DAY_US + 5 * SECOND_US)
        machine.nothing_is_under_way_and_every_asset_adds_up()
        for user_id in (*PLAYERS, "p11", "stranger"):
            read = machine.run(machine.node.wallet(user_id))
            assert isinstance(read, WalletRead)
            assert seen(read.wallet) == machine.witness.naive.wallet(user_id)
        totals = {at: total for at, total in machine.witness.naive.totals().items() if total}
        assert totals == {at: total for at, total in machine.witness.sums.items() if total}

    def what_was_earned_was_paid(self, facts: list[Fact]) -> None:
        """Computed from the facts alone, without the model's own rules."""
        stakes, settled, due = {}, Counter[str](), Counter[str]()
        earned_e9, paid_e9, carried_e9 = Counter[Any](), Counter[Any](), {}
        once: Counter[Any] = Counter()
        for fact in facts:
            data = fact.data
            match fact.type:
                case "bet_placed":
                    stakes[fact.user_id, data["bet_id"]] = data["asset"], data["stake"]
                case "bet_settled" if "commission_at_us" in data:
                    asset, stake = stakes[fact.user_id, data["bet_id"]]
                    settled[asset] += stake
                case "commission_due":
                    due[data["asset"]] += data["stake"]
                case "commission_paid":
                    payee = fact.user_id, data["asset"]
                    assert "reason" not in data or data["amount"] == 0, fact
                    earned_e9[payee] += 0 if "reason" in data else data["stake"] * data["rate_e9"]
                    paid_e9[payee] += data["amount"] * E9
                    carried_e9[payee] = data["carried_e9"]
                    if data["asset"] == "INR":  # paid by day
                        once[fact.user_id, data["member"], data["level"], data["day"]] += 1
        assert settled == due
        assert {payee: paid_e9[payee] + rest for payee, rest in carried_e9.items()} == dict(earned_e9)
        assert set(once.values()) == {1}
        assert {level for _, _, level, _ in once} == {1, 2, 3, 4, 5, 6}
        assert {fact.user_id for fact in facts if fact.data.get("reason") == "wallet_closed"} >= {CLOSED}

    def the_auditor_finds_nothing(self) -> None:
        """It knows all rules, so every amount that they give is recomputed."""
        assert isinstance(self.machine.log, MemoryEventLog)
        rules = book_of_money(dict(self.machine.money))
        verified = verify(
            Lists(self.machine.log.appended.records),
            tables=forms_of_tables(rules.tables),
            money=forms_of_money(rules.money_kept),
        )
        assert (verified.missing_tables, verified.missing_rules) == ((), ())

    def shares_add_up(self, facts: list[Fact]) -> None:
        granted, received = defaultdict(list), Counter[str]()
        for fact in facts:
            if fact.type == "gift_share_granted":
                granted[fact.user_id].append(fact.data["amount"])
            elif fact.type == "gift_received":
                received[fact.data["asset"]] += fact.data["amount"]
        full = 0
        for gift in (fact for fact in facts if fact.type == "gift_created"):
            parts = granted[gift.user_id]
            assert parts == sorted(parts, reverse=True)
            assert max(parts, default=0) - min(parts, default=0) <= 1
            if len(parts) == gift.data["claims"]:
                full += 1
                assert sum(parts) == gift.data["amount"]
        assert full, "some gift is used up"
        assert {asset: self.machine.witness.sums["house/gifts", asset] for asset in received} == {
            asset: -amount for asset, amount in received.items()
        }


@pytest.mark.system
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_month_of_every_flow_adds_up_and_agrees_with_the_reference_model(seed: int) -> None:
    month = Month(seed)
    try:
        month.live()
        facts = [fact for of_user in month.machine.witness.naive.facts.values() for fact in of_user]
        assert set(DATA_OF) - {fact.type for fact in facts} == NEVER
        month.what_was_earned_was_paid(facts)
        month.shares_add_up(facts)
        month.machine.the_log_alone_gives_the_same_state()
        month.the_auditor_finds_nothing()
    finally:
        month.machine.teardown()
