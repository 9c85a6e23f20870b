"""A scenario of nine wallets over four partitions with every event type, and the commands that are refused after it.

``schemas.generate`` runs it on a real node and publishes the records, so that an implementation in another language
can be compared byte for byte. ``@<command_id>`` is the position in the response to an earlier command.
"""

import json
from typing import Any, Final, NamedTuple

PARTITIONS: Final = 4
START_US: Final = 1_795_438_800_000_000
SECOND_US: Final = 1_000_000
DAY_US: Final = 86_400_000_000

OPERATOR: Final = "back-office:meera"


class Step(NamedTuple):
    """At ``at_s`` seconds after the start, ``actor`` posts ``command``."""

    at_s: float
    command: dict[str, Any]
    actor: str = "local"


def _at(at_s: float, user_id: str, kind: str, command_id: str, actor: str = "local", **fields: Any) -> Step:
    return Step(at_s, {"type": kind, "command_id": command_id, "user_id": user_id, **fields}, actor)


def _inr(amount: int) -> dict[str, Any]:
    return {"asset": "INR", "amount": amount}


_BET: Final[dict[str, Any]] = {"game": "external", "asset": "INR"}
_USDT_BET: Final[dict[str, Any]] = {"game": "external", "asset": "USDT"}
GAME: Final = "game:wingo_30s"
GIFT: Final = "gift:diwali"
_WINGO: Final[dict[str, Any]] = {"game": "wingo_30s", "period": "20261123T130130Z", "asset": "INR"}
_FIVE_D: Final[dict[str, Any]] = {"game": "5d_1m", "period": "20261123T130200Z", "asset": "INR"}
_BLOCK: Final[dict[str, Any]] = {
    "height": 77_000_001,
    "hash": "00" * 28 + "4a7bcdef",
    "time_us": START_US + 180_000_000,
}

_NOW: Final = "20261123T130300Z"

RULES: Final[dict[str, Any]] = {
    "money": {
        "USDT": {
            "first_deposit": [[1_000_000, 200_000]],
            "attendance": [5_000, 7_000],
            "attendance_needs_deposit": 1,
            "bonus_expires_after_s": 604_800,
            "wagering": {"deposit": 1, "bonus": 2},
            "withdrawal": {"min": 100_000, "max": 20_000_000, "per_day": 1},
            "valid_referral": 1_000_000,
            "invitation": [[1, 3_000]],
            "commission": {
                "mode": "per_bet",
                "rates_e9": [6_000_000, 1_800_000, 540_000],
                "agents": {"2": [7_000_000, 2_450_000, 857_500]},
            },
        }
    }
}
"""The rules file that the scenario is played by."""

_USDT: Final[dict[str, Any]] = {"asset": "USDT"}

SCENARIO: Final[tuple[Step, ...]] = (
    # alice (partition 1) refers bob (2), bob refers carol (2), carol refers erin (0); "nobody" (1) is never opened.
    _at(0, "alice", "open_wallet", "open", metadata={"campaign": "दीपावली", "emoji": "🪔", "quote": 'a "b" \\ c/d'}),
    _at(1, "bob", "open_wallet", "open", referrer_id="alice"),
    _at(2, "carol", "open_wallet", "open", referrer_id="bob"),
    _at(3, "erin", "open_wallet", "open", referrer_id="carol"),
    _at(4, "frank", "open_wallet", "open", referrer_id="nobody"),
    _at(5, "alice", "deposit", "pay-1", order_id="dep-1", **_inr(100_000), bonus=2_000),
    _at(6, "alice", "deposit", "pay-2", order_id="dep-2", asset="USDT", amount=25_000_000, metadata={}),
    _at(7, "bob", "deposit", "pay-1", order_id="dep-1", **_inr(2_000_000), bonus=0),
    _at(8, "carol", "deposit", "pay-1", order_id="dep-1", **_inr(9_007_199_254_000_000)),
    # Bets, from cash and bonus, won, lost, cancelled, cancelled before they came; then on credit.
    _at(
        10,
        "alice",
        "grant_bonus",
        "gift-1",
        grant_id="welcome",
        **_inr(500),
        expires_at_us=START_US + 3_600 * SECOND_US,
    ),
    _at(
        11,
        "alice",
        "place_bet",
        "bet-1",
        bet_id="b1",
        period="r/1",
        selection="red",
        stake=2_200,
        spend="bonus_first",
        **_BET,
    ),
    _at(12, "alice", "settle_bet", "win-1", bet_id="b1", payout=4_399),
    _at(13, "alice", "place_bet", "bet-2", bet_id="b2", period="r/2", selection="größer", stake=1_000, **_BET),
    _at(14, "alice", "settle_bet", "lose-2", bet_id="b2", payout=0),
    _at(15, "alice", "place_bet", "bet-3", bet_id="b3", period="r/3", selection="", stake=1, **_BET),
    _at(16, "alice", "cancel_bet", "void-3", bet_id="b3", reason="void"),
    _at(17, "alice", "cancel_bet", "void-4", bet_id="b4"),
    _at(
        18,
        "erin",
        "set_limits",
        "limits-1",
        asset="INR",
        credit_limit=1_000,
        balance_max=5_000,
        stake_max_per_day=900,
    ),
    _at(19, "erin", "place_bet", "bet-1", bet_id="b1", period="r/4", selection="7", stake=700, **_BET),
    _at(
        20, "erin", "set_limits", "limits-2", asset="INR", balance_max=None, withdrawal_max_per_day=100, metadata=None
    ),
    # Withdrawals and holds.
    _at(21, "alice", "request_withdrawal", "out-1", order_id="wd-1", **_inr(30_000)),
    _at(22, "alice", "approve_withdrawal", "ok-1", OPERATOR, order_id="wd-1"),
    _at(23, "alice", "request_withdrawal", "out-2", order_id="wd-2", **_inr(10_000)),
    _at(24, "alice", "reject_withdrawal", "no-2", OPERATOR, order_id="wd-2", reason="the name differs"),
    _at(25, "bob", "hold", "hold-1", hold_id="h1", **_inr(5_000)),
    _at(26, "bob", "capture_hold", "take-1", hold_id="h1", amount=1_500),
    _at(27, "bob", "hold", "hold-2", hold_id="h2", **_inr(700), expires_at_us=START_US + 3_600 * SECOND_US),
    _at(28, "bob", "release_hold", "free-2", hold_id="h2"),
    _at(29, "bob", "hold", "hold-3", hold_id="h3", **_inr(800), expires_at_us=START_US + 60 * SECOND_US),
    _at(30, "bob", "hold", "hold-4", hold_id="h4", **_inr(900)),
    _at(31, "bob", "capture_hold", "take-4", hold_id="h4"),
    _at(32, "bob", "hold", "hold-5", hold_id="h5", **_inr(1), expires_at_us=-1),
    # Transfers: delivered, refused for each reason.
    _at(40, "alice", "transfer", "send-1", transfer_id="t1", to_user_id="bob", **_inr(1_234)),
    _at(41, "alice", "transfer", "send-2", transfer_id="t2", to_user_id="nobody", **_inr(10)),
    _at(42, "erin", "set_limits", "limits-3", asset="GOLD", balance_max=0),
    _at(43, "bob", "deposit", "pay-2", order_id="dep-2", asset="GOLD", amount=3),
    _at(44, "bob", "transfer", "send-1", transfer_id="t1", to_user_id="erin", asset="GOLD", amount=2),
    _at(45, "bob", "transfer", "send-2", transfer_id="t2", to_user_id="carol", **_inr(900_000)),
    _at(46, "heidi", "open_wallet", "open"),
    _at(47, "heidi", "close_wallet", "close", reason="opened by mistake"),
    _at(48, "bob", "transfer", "send-3", transfer_id="t3", to_user_id="heidi", asset="GOLD", amount=1),
    # The hold of bob's expires at 60 s.
    _at(61, "judy", "open_wallet", "open"),
    _at(62, "bob", "set_limits", "limits-1", asset="INR", credit_limit=10),
    # Adjustments and reversals.
    _at(70, "alice", "adjust", "fix-1", OPERATOR, **_inr(-15), reason="entered twice"),
    _at(71, "alice", "adjust", "fix-2", OPERATOR, **_inr(20), reason="entered too low"),
    _at(72, "alice", "propose_adjustment", "prop-1", adjustment_id="a1", **_inr(300), reason="goodwill"),
    _at(73, "alice", "approve_adjustment", "yes-1", OPERATOR, adjustment_id="a1"),
    _at(74, "alice", "propose_adjustment", "prop-2", adjustment_id="a2", **_inr(-300), reason="goodwill"),
    _at(75, "alice", "reject_adjustment", "no-2b", OPERATOR, adjustment_id="a2", reason="no"),
    _at(76, "alice", "reverse", "undo-1", OPERATOR, position="@fix-2", reason="it was right"),
    _at(77, "frank", "deposit", "pay-1", order_id="dep-1", **_inr(400), bonus=40),
    _at(78, "frank", "reverse", "undo-1", OPERATOR, position="@pay-1", reason="charged back"),
    _at(79, "alice", "set_agent_level", "agent-1", OPERATOR, level=2),
    # Frozen and thawed; what comes back under a grant that has expired, expires too.
    _at(80, "frank", "freeze_wallet", "freeze-1", OPERATOR, reason="chargeback"),
    _at(81, "frank", "unfreeze_wallet", "thaw-1", OPERATOR, reason="settled"),
    _at(82, "frank", "freeze_wallet", "freeze-2", OPERATOR, reason="chargeback, again"),
    _at(83, "judy", "grant_bonus", "gift-1", grant_id="g1", **_inr(90), expires_at_us=START_US + 90 * SECOND_US),
    _at(84, "judy", "place_bet", "bet-1", bet_id="b1", period="r/5", selection="x", stake=50, **_BET),
    _at(91, "judy", "cancel_bet", "void-1", bet_id="b1"),
    _at(92, "judy", "deposit", "pay-1", order_id="dep-1", **_inr(1_000)),
    _at(93, "judy", "set_limits", "limits-1", asset="INR", balance_max=1_200, stake_max_per_day=0),
    _at(94, "judy", "hold", "hold-1", hold_id="h1", **_inr(100)),
    _at(95, "judy", "propose_adjustment", "prop-1", adjustment_id="a1", **_inr(5), reason="goodwill"),
    _at(96, "judy", "request_withdrawal", "out-1", order_id="wd-1", **_inr(10)),
    _at(97, "erin", "deposit", "pay-1", order_id="dep-1", **_inr(1_000)),
    # A game with rules: won in one leg and lost in another, from bonus too, cancelled in time; then a period that is
    # cancelled as a whole. The result of TrxWix has its block.
    _at(98, "alice", "place_bet", "bet-10", bet_id="b10", selection="green+number:7+big", stake=1_000, **_WINGO),
    _at(
        99,
        "alice",
        "place_bet",
        "bet-12",
        bet_id="b12",
        selection="violet",
        stake=4_800,
        spend="bonus_first",
        **_WINGO,
    ),
    _at(100, "alice", "place_bet", "bet-11", bet_id="b11", selection="small", stake=7, **_WINGO),
    _at(101, "alice", "cancel_bet", "void-11", bet_id="b11"),
    _at(102, "bob", "place_bet", "bet-1", bet_id="b8", selection="even", stake=50, **_WINGO),
    # Commissions per bet: carol's stake pays bob and alice, an agent; that of frank pays a wallet that is not open.
    _at(103, "carol", "deposit", "pay-2", order_id="dep-2", asset="USDT", amount=5_000_003),
    _at(104, "frank", "deposit", "pay-2", order_id="dep-2", asset="USDT", amount=1_000),
    _at(105, "carol", "place_bet", "bet-2", bet_id="b2", period="r/6", selection="x", stake=5_000_003, **_USDT_BET),
    _at(106, "carol", "settle_bet", "lost-2", bet_id="b2", payout=0),
    _at(107, "frank", "unfreeze_wallet", "thaw-2", OPERATOR, reason="settled again"),
    _at(108, "frank", "place_bet", "bet-2", bet_id="b2", period="r/6", selection="x", stake=1_000, **_USDT_BET),
    _at(109, "frank", "settle_bet", "lost-2", bet_id="b2", payout=0),
    _at(110, "frank", "freeze_wallet", "freeze-3", OPERATOR, reason="chargeback, once more"),
    _at(122, GAME, "record_result", "result-1", period="20261123T130130Z", result="5", metadata={"round": "1"}),
    _at(
        123,
        "bob",
        "place_bet",
        "bet-2",
        bet_id="b9",
        selection="7",
        stake=50,
        game="external",
        period="",
        asset="INR",
    ),
    _at(124, "bob", "place_bet", "bet-3", bet_id="b10", selection="A:5+sum:big", stake=99, **_FIVE_D),
    _at(182, "game:5d_1m", "cancel_period", "void-1", period="20261123T130200Z", reason="the machine failed"),
    _at(183, "game:trx_wix_1m", "record_result", "result-1", period="20261123T130200Z", result="7", proof=_BLOCK),
    # The money flows of USDT, by the rules: a first deposit's bonus, attendance, wagering, a withdrawal.
    _at(183.1, "mila", "open_wallet", "open"),
    _at(183.2, "mila", "deposit", "pay-1", order_id="dep-1", amount=2_000_000, **_USDT),
    _at(183.3, "mila", "claim_attendance", "day-1", **_USDT),
    _at(183.4, "mila", "place_bet", "bet-1", bet_id="b1", period="", selection="x", stake=2_205_000, **_BET | _USDT),
    _at(183.5, "mila", "settle_bet", "win-1", bet_id="b1", payout=3_000_000),
    _at(183.6, "mila", "place_bet", "bet-2", bet_id="b2", period="", selection="x", stake=205_000, **_BET | _USDT),
    _at(183.7, "mila", "request_withdrawal", "out-1", order_id="wd-1", amount=200_000, **_USDT),
    _at(184, "bob", "place_bet", "bet-4", bet_id="b11", selection="A:odd", stake=10, **_FIVE_D | {"period": _NOW}),
    # A gift of three shares: received, refused by the wallet, refused by the gift. Codes, and signups with them.
    _at(185, GIFT, "create_gift", "create", OPERATOR, **_inr(100), claims=3, expires_at_us=START_US + DAY_US),
    _at(186, "alice", "claim_gift", "claim-1", code="diwali"),
    _at(187, "carol", "claim_gift", "claim-1", code="diwali", metadata={"page": "2"}),
    _at(188, "bob", "claim_gift", "claim-1", code="none"),
    _at(189, GIFT, "close_gift", "close", OPERATOR, reason="over"),
    _at(190, "bob", "claim_gift", "claim-2", code="diwali"),
    _at(191, "alice", "claim_referral_code", "code-1", code="ALICE"),
    _at(192, "bob", "claim_referral_code", "code-1", code="ALICE"),
    _at(193, "bob", "claim_referral_code", "code-2", code="BOB"),
    _at(194, "dave", "open_wallet", "open", referral_code="ALICE"),
    _at(195, "walter", "open_wallet", "open", referral_code="nobodys"),
)

REFUSED_AT_S: Final = 200.0


class Refused(NamedTuple):
    """A command, as JSON text, that is refused with ``code`` after the scenario."""

    code: str
    text: str


def _no(code: str, user_id: str, kind: str, /, command_id: str = "next", **fields: Any) -> Refused:
    command = {"type": kind, "command_id": command_id, "user_id": user_id, **fields}
    return Refused(code, json.dumps(command, ensure_ascii=False, separators=(",", ":")))


def _malformed(members: str) -> Refused:
    return Refused("malformed_request", f'{{"command_id":"next",{members}}}')


REFUSED: Final[tuple[Refused, ...]] = (
    _malformed('"type":"open_wallet"'),
    _malformed('"type":"no_such","user_id":"judy"'),
    _malformed('"type":"open_wallet","user_id":"game:x"'),
    _malformed('"type":"record_result","user_id":"judy","period":"20261123T130130Z","result":"5"'),
    _malformed('"type":"create_gift","user_id":"diwali","asset":"INR","amount":5,"claims":1'),
    _malformed('"type":"claim_gift","user_id":"judy","code":"a:b"'),
    _malformed('"type":"open_wallet","user_id":"x","referrer_id":"alice","referral_code":"ALICE"'),
    _malformed('"type":"open_wallet","user_id":"x","unknown":null'),
    _malformed('"type":"open_wallet","user_id":"x","metadata":{"a":"1","a":"2"}'),
    _malformed('"type":"open_wallet","user_id":"x","us\\u0065r_id":"y"'),
    _malformed('"type":"open_wallet","user_id":"x","metadata":{"a":"\\u0007"}'),
    _malformed('"type":"open_wallet","user_id":"x","metadata":{"a":"\\ud800"}'),
    _malformed('"type":"settle_bet","user_id":"judy","bet_id":"b1","payout":5.0'),
    _malformed('"type":"settle_bet","user_id":"judy","bet_id":"b1","payout":"5"'),
    _malformed('"type":"settle_bet","user_id":"judy","bet_id":"~b1","payout":5'),
    _no("command_id_reused", "alice", "deposit", command_id="open", order_id="x", **_inr(5)),
    _no("command_id_reused", "bob", "open_wallet", command_id="open"),
    _no("wallet_not_open", "nobody", "freeze_wallet", reason="r"),
    _no("wallet_closed", "heidi", "open_wallet"),
    _no("wallet_already_open", "alice", "open_wallet"),
    _no("wallet_frozen", "frank", "hold", hold_id="h", **_inr(1)),
    _no("wallet_frozen", "frank", "freeze_wallet", reason="r"),
    _no("same_wallet", "new", "open_wallet", referrer_id="new"),
    _no("same_wallet", "bob", "transfer", transfer_id="t", to_user_id="bob", **_inr(1)),
    _no("unknown_game", "bob", "place_bet", bet_id="b", game="chess", period="", selection="", asset="INR", stake=1),
    _no("unknown_game", "game:external", "record_result", period="20261123T130130Z", result="5"),
    _no("period_closed", "bob", "place_bet", bet_id="b", selection="x", stake=1, **_WINGO),
    _no("period_not_closed", GAME, "record_result", period="20261123T130300Z", result="x"),
    _no("invalid_selection", "bob", "place_bet", bet_id="b1", selection="x", stake=0, **_WINGO | {"period": _NOW}),
    _no("invalid_result", GAME, "record_result", period="20261123T130130Z", result="10"),
    _no("invalid_result", "game:trx_wix_1m", "record_result", period="20261123T130200Z", result="7"),
    _no("result_already_recorded", GAME, "record_result", period="20261123T130130Z", result="5"),
    _no("result_already_recorded", GAME, "cancel_period", period="20261123T130130Z", reason="r"),
    _no("already_resolved", "game:5d_1m", "record_result", period="20261123T130200Z", result="01234"),
    _no("bet_cancelled_before", "alice", "place_bet", bet_id="b4", period="", selection="", stake=1, **_BET),
    _no("order_id_reused", "alice", "request_withdrawal", order_id="dep-1", **_inr(1)),
    _no("bet_id_reused", "alice", "place_bet", bet_id="b1", period="", selection="", stake=1, **_BET),
    _no("hold_id_reused", "bob", "hold", hold_id="h1", **_inr(1)),
    _no("transfer_id_reused", "bob", "transfer", transfer_id="t1", to_user_id="alice", **_inr(1)),
    _no("grant_id_reused", "alice", "grant_bonus", grant_id="dep-1", **_inr(1)),
    _no("adjustment_id_reused", "alice", "propose_adjustment", adjustment_id="a1", reason="r", **_inr(1)),
    _no("order_not_found", "alice", "approve_withdrawal", order_id="dep-1"),
    _no("bet_not_found", "bob", "settle_bet", bet_id="b1", payout=0),
    _no("hold_not_found", "alice", "release_hold", hold_id="h1"),
    _no("adjustment_not_found", "bob", "reject_adjustment", adjustment_id="a1"),
    _no("hold_expired", "bob", "capture_hold", hold_id="h3"),
    _no("already_resolved", "bob", "release_hold", hold_id="h1"),
    _no("already_resolved", "alice", "settle_bet", bet_id="b4", payout=5),
    _no("already_resolved", "alice", "unfreeze_wallet", reason="r"),
    _no("settled_by_result", "bob", "settle_bet", bet_id="b11", payout=0),
    _no("same_actor", "judy", "approve_adjustment", adjustment_id="a1"),
    _no("cannot_reverse", "alice", "reverse", position="1:1", reason="r"),
    _no("cannot_reverse", "alice", "reverse", position="1023:9999999999999999", reason="r"),
    _no("already_resolved", GIFT, "create_gift", claims=1, **_inr(1)),
    _no("already_resolved", GIFT, "close_gift", reason="r"),
    _no("unknown_asset", "gift:other", "create_gift", asset="XYZ", amount=0, claims=0),
    _no("amount_out_of_range", "gift:other", "create_gift", claims=6, **_inr(5)),
    _no("not_eligible", "gift:other", "close_gift", reason="r"),
    _no("already_claimed", "alice", "claim_gift", code="diwali"),
    _no("already_claimed", "bob", "claim_referral_code", code="OTHER"),
    _no("unknown_asset", "alice", "deposit", order_id="x", asset="inr", amount=0),
    _no("amount_out_of_range", "alice", "deposit", order_id="x", **_inr(0)),
    _no("amount_out_of_range", "alice", "deposit", order_id="x", **_inr(9_007_199_254_740_992)),
    _no("amount_out_of_range", "alice", "deposit", order_id="x", asset="INR", amount=-(10**60)),
    _no("amount_out_of_range", "carol", "deposit", order_id="x", **_inr(9_007_199_254_740_991)),
    _no("capture_exceeds_hold", "judy", "capture_hold", hold_id="h1", amount=101),
    _no("not_eligible", "mila", "claim_attendance", asset="INR"),
    _no("not_eligible", "judy", "claim_attendance", asset="USDT"),
    _no("already_claimed", "mila", "claim_attendance", asset="USDT"),
    _no("withdrawal_out_of_bounds", "mila", "request_withdrawal", order_id="x", asset="USDT", amount=99_999),
    _no("withdrawal_out_of_bounds", "mila", "request_withdrawal", order_id="x", asset="USDT", amount=20_000_001),
    _no("withdrawals_per_day_exceeded", "mila", "request_withdrawal", order_id="x", asset="USDT", amount=100_000),
    _no("wagering_incomplete", "alice", "request_withdrawal", order_id="x", asset="USDT", amount=100_000),
    _no("balance_max_exceeded", "judy", "deposit", order_id="x", **_inr(201)),
    _no("stake_max_exceeded", "judy", "place_bet", bet_id="b", period="", selection="", stake=1, **_BET),
    _no("withdrawal_max_exceeded", "erin", "request_withdrawal", order_id="x", **_inr(101)),
    _no("insufficient_funds", "judy", "hold", hold_id="x", asset="USDT", amount=1),
    _no("credit_limit_exceeded", "bob", "place_bet", bet_id="b", period="", selection="", stake=9_000_000, **_BET),
    _no("wallet_not_empty", "judy", "close_wallet", reason="r"),
)
