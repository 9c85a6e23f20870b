"""A wallet is opened once, may be frozen and unfrozen, and is closed permanently when it is empty."""

import pytest

from ledger.core.commands import Command
from ledger.core.events import LEDGER, Balance, WalletClosed, WalletFrozen, WalletOpened, WalletUnfrozen
from ledger.core.rejections import Code
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    adjust,
    approve_adjustment,
    approve_withdrawal,
    cancel_bet,
    capture_hold,
    close_wallet,
    deposit,
    emptied,
    freeze_wallet,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    propose_adjustment,
    reject_adjustment,
    reject_withdrawal,
    release_hold,
    request_withdrawal,
    reverse,
    set_limits,
    settle_bet,
    transfer,
    unfreeze_wallet,
)


def test_an_opened_wallet_is_open_and_empty() -> None:
    scene = Scene()
    event = scene.when(open_wallet(referrer_id="u9", metadata={"app": "android"}))
    assert event.data == WalletOpened(referrer_id="u9", metadata={"app": "android"})
    assert (event.postings, event.balances) == ((), {})
    wallet = scene.wallet()
    assert (wallet.status, wallet.opened_at_us, wallet.referrer_id) == ("open", NOON, "u9")
    assert wallet.balances == {}


def test_an_event_has_its_actor_and_the_hash_of_its_request() -> None:
    event = Scene().when(open_wallet(command_id="c-1"), actor="game-7")
    assert (event.user_id, event.command_id, event.actor, event.time_us) == ("u1", "c-1", "game-7", NOON)
    # of {"command_id":"c-1","type":"open_wallet","user_id":"u1"}
    assert event.request_sha256 == "c4f263a7aaaa9e3776086e69b7875411946dca7bb2fb80c1fc43a671156cd038"


def test_a_wallet_is_opened_once() -> None:
    scene = Scene().given(open_wallet())
    assert scene.refused(open_wallet()).code is Code.WALLET_ALREADY_OPEN


def test_a_frozen_wallet_is_open_already() -> None:
    scene = Scene().given(open_wallet(), freeze_wallet())
    assert scene.refused(open_wallet()).code is Code.WALLET_ALREADY_OPEN


def test_a_closed_wallet_is_not_opened_again() -> None:
    scene = Scene().given(open_wallet(), close_wallet())
    assert scene.refused(open_wallet()).code is Code.WALLET_CLOSED


def test_a_wallet_cannot_refer_itself() -> None:
    assert Scene().refused(open_wallet(referrer_id="u1")).code is Code.SAME_WALLET


ANYTHING_BUT_OPEN: list[Command] = [
    deposit(),
    request_withdrawal(1),
    approve_withdrawal(),
    reject_withdrawal(),
    place_bet(1),
    settle_bet(1),
    cancel_bet(),
    hold(1),
    capture_hold(),
    release_hold(),
    transfer(1),
    grant_bonus(1),
    adjust(1),
    propose_adjustment(1),
    approve_adjustment(),
    reject_adjustment(),
    reverse("3:1"),
    set_limits(balance_max=1),
    freeze_wallet(),
    unfreeze_wallet(),
    close_wallet(),
]


@pytest.mark.parametrize("command", ANYTHING_BUT_OPEN, ids=lambda command: type(command).__name__)
def test_a_wallet_that_was_never_opened_takes_nothing(command: Command) -> None:
    assert Scene().refused(command).code is Code.WALLET_NOT_OPEN


@pytest.mark.parametrize("command", ANYTHING_BUT_OPEN, ids=lambda command: type(command).__name__)
def test_a_closed_wallet_takes_nothing(command: Command) -> None:
    scene = Scene().given(open_wallet(), close_wallet())
    assert scene.refused(command).code is Code.WALLET_CLOSED


# --- frozen


def frozen() -> Scene:
    """A wallet with a bet b1, a hold h1, a withdrawal w1 and a proposal a1 open, a grant g1, and then frozen."""
    return Scene.with_cash(1000).given(
        grant_bonus(50),
        place_bet(100),
        hold(100),
        request_withdrawal(100),
        propose_adjustment(10),
        freeze_wallet(metadata={"case": "77"}),
    )


def test_freezing_moves_no_money() -> None:
    scene = frozen()
    assert scene.last(WalletFrozen) == WalletFrozen(reason="under review", metadata={"case": "77"})
    assert scene.events[-1].postings == ()
    assert scene.wallet().status == "frozen"
    assert scene.balance() == Balance(cash=700, bonus=50, held=200)


@pytest.mark.parametrize(
    "command",
    [
        place_bet(1, "b2"),
        hold(1, "h2"),
        capture_hold(),
        request_withdrawal(1, "w2"),
        approve_withdrawal(),
        transfer(1),
        freeze_wallet(),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_frozen_wallet_refuses_what_takes_money_out(command: Command) -> None:
    assert frozen().refused(command).code is Code.WALLET_FROZEN


@pytest.mark.parametrize(
    "command",
    [
        deposit(5, "o2"),
        reject_withdrawal(),
        settle_bet(7),
        cancel_bet(),
        cancel_bet("b9"),
        release_hold(),
        grant_bonus(5, "g2"),
        adjust(-5),
        propose_adjustment(5, "a2"),
        approve_adjustment(),
        reject_adjustment(),
        reverse("3:2"),
        set_limits(credit_limit=5),
        unfreeze_wallet(),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_frozen_wallet_accepts_all_other_commands(command: Command) -> None:
    scene = frozen()
    if type(command).__name__ == "Reverse":
        scene.given(adjust(300))  # so that the deposit can be reversed
    scene.when(command, actor="op-2")


def test_holds_and_grants_of_a_frozen_wallet_still_expire() -> None:
    scene = Scene.with_cash(100).given(
        hold(10, expires_at_us=NOON + 5), grant_bonus(20, expires_at_us=NOON + 6), freeze_wallet()
    )
    scene.now_us = NOON + SECOND_US
    scene.tick()
    assert scene.types_of()[-2:] == ["hold_expired", "bonus_expired"]
    assert scene.balance() == Balance(cash=100)


def test_an_unfrozen_wallet_bets_again() -> None:
    scene = frozen()
    scene.when(unfreeze_wallet())
    assert scene.last(WalletUnfrozen) == WalletUnfrozen(reason="reviewed")
    assert scene.wallet().status == "open"
    scene.when(place_bet(1, "b2"))


def test_freezing_twice_is_refused_as_frozen() -> None:
    assert Scene().given(open_wallet(), freeze_wallet()).refused(freeze_wallet()).code is Code.WALLET_FROZEN


def test_unfreezing_an_open_wallet_is_refused_as_resolved() -> None:
    assert Scene().given(open_wallet()).refused(unfreeze_wallet()).code is Code.ALREADY_RESOLVED


# --- closed


def test_an_empty_wallet_is_closed() -> None:
    scene = Scene.with_cash(100).given(*emptied(100))
    event = scene.when(close_wallet(metadata={"form": "12"}))
    assert event.data == WalletClosed(reason="asked for", metadata={"form": "12"})
    assert (event.postings, event.actor) == ((), "local")
    assert scene.wallet().status == "closed"


def test_a_frozen_empty_wallet_is_closed() -> None:
    scene = Scene().given(open_wallet(), freeze_wallet(), close_wallet())
    assert scene.wallet().status == "closed"


@pytest.mark.parametrize(
    "commands",
    [
        [deposit(1)],
        [grant_bonus(1)],
        [deposit(1), hold(1)],
        [deposit(1), request_withdrawal(1)],
        [set_limits(credit_limit=9), place_bet(9), settle_bet(0)],
        [deposit(1, asset="GOLD")],
    ],
    ids=["cash", "bonus", "a hold", "a withdrawal", "a debt", "another asset"],
)
def test_a_wallet_with_anything_in_its_buckets_is_not_closed(commands: list[Command]) -> None:
    scene = Scene().given(open_wallet(), *commands)
    assert scene.refused(close_wallet()).code is Code.WALLET_NOT_EMPTY


@pytest.mark.parametrize(
    ("opening", "ending"),
    [
        ([deposit(5), place_bet(5)], settle_bet(0)),
        ([deposit(5), place_bet(3), *emptied(2)], settle_bet(0)),
        ([propose_adjustment(5)], reject_adjustment()),
    ],
    ids=["a bet", "a bet beside others", "a proposal"],
)
def test_a_wallet_with_anything_open_is_not_closed_until_that_ends(opening: list[Command], ending: Command) -> None:
    scene = Scene().given(open_wallet(), *opening)
    assert scene.refused(close_wallet()).code is Code.WALLET_NOT_EMPTY
    scene.given(ending, close_wallet())


def test_a_wallet_whose_transfer_is_under_way_is_not_closed_until_it_is_delivered() -> None:
    scene = Scene.with_cash(5).given(open_wallet("u2"), transfer(5))
    assert scene.refused(close_wallet()).code is Code.WALLET_NOT_EMPTY
    scene.deliver_all()
    scene.when(close_wallet())


def test_a_bet_cancelled_before_it_arrived_does_not_prevent_closing() -> None:
    Scene().given(open_wallet(), cancel_bet(), close_wallet())


def test_due_expiries_come_before_the_check_that_the_wallet_is_empty() -> None:
    scene = Scene().given(open_wallet(), grant_bonus(5, expires_at_us=NOON + 5))
    scene.now_us = NOON + 5
    scene.when(close_wallet())
    assert scene.types_of() == ["wallet_opened", "bonus_granted", "bonus_expired", "wallet_closed"]
    assert scene.events[-2].actor == LEDGER
