"""A gift is divided into shares, which users claim one each. The stream of the gift grants them in order."""

import pytest

from ledger.core.events import Balance
from ledger.core.games.rules import BUILT_IN, book_of
from ledger.core.gift_events import GiftClaimed, GiftReceived, GiftRefused, GiftShareGranted, GiftShareRefused
from ledger.core.gifts import share_of
from ledger.core.money import AMOUNT_MAX
from ledger.core.money_rules import MoneyRules
from ledger.core.position import partition_of
from ledger.core.rejections import Code
from ledger.memory.state_store import MemoryStateStore
from ledger.operations.audit import verify
from unit.given import (
    NOON,
    SECOND_US,
    Scene,
    claim_gift,
    close_gift,
    close_wallet,
    create_gift,
    freeze_wallet,
    open_wallet,
    place_bet,
    set_limits,
)
from unit.node_in_memory import World
from unit.test_audit import Lists


def scene_of(users: int = 5) -> Scene:
    return Scene().given(*(open_wallet(f"u{number}") for number in range(1, users + 1)))


def claimed(scene: Scene, user_id: str = "u1", code: str = "g1") -> GiftReceived | GiftRefused:
    """The end of a claim of this user, once all follow-ups have arrived."""
    scene.when(claim_gift(code, user_id))
    scene.deliver_all()
    data = scene.events_of(user_id)[-1].data
    assert isinstance(data, GiftReceived | GiftRefused), data
    return data


# --- the shares


@pytest.mark.parametrize(("amount", "claims"), [(100, 3), (7, 7), (1, 1), (AMOUNT_MAX, 1_000), (1_003, 1_000)])
def test_the_shares_add_up_to_the_amount_and_the_first_have_the_remainder(amount: int, claims: int) -> None:
    shares = [share_of(amount, claims, number) for number in range(1, claims + 1)]
    assert sum(shares) == amount
    assert shares == sorted(shares, reverse=True)
    assert set(shares) <= {amount // claims, amount // claims + 1}


def test_the_remainder_of_the_division_is_paid() -> None:
    scene = scene_of().given(create_gift(101, 3))
    assert [claimed(scene, user_id).amount for user_id in ("u1", "u2", "u3")] == [34, 34, 33]
    assert scene.total("house/gifts") == -101
    assert [data.share for data in granted(scene)] == [1, 2, 3]


def granted(scene: Scene) -> list[GiftShareGranted]:
    return [event.data for event in scene.events if isinstance(event.data, GiftShareGranted)]


def test_a_share_is_bonus_money_under_a_grant_of_its_own() -> None:
    scene = scene_of().given(create_gift(10, 1, "a"), create_gift(20, 1, "b"))
    first, second = claimed(scene, code="a"), claimed(scene, code="b")
    assert isinstance(first, GiftReceived)
    assert isinstance(second, GiftReceived)
    assert (first.grant_id, second.grant_id) == ("~gift:1", "~gift:2")
    assert scene.balance() == Balance(bonus=30)
    scene.when(place_bet(25))
    assert scene.balance() == Balance(bonus=5)


def test_a_share_expires_and_is_wagered_by_the_rules_of_its_asset() -> None:
    scene = scene_of()
    scene.rules = book_of(BUILT_IN.games, money={"INR": MoneyRules(bonus_expires_after_s=60, wagering_bonus=3)})
    scene.given(create_gift(10, 1))
    data = claimed(scene)
    assert isinstance(data, GiftReceived)
    assert (data.expires_at_us, data.wagering, data.rules) == (NOON + 60 * SECOND_US, 30, scene.rules.money_digest)
    assert scene.wallet().wagering["INR"].required == 30
    scene.now_us += 60 * SECOND_US
    scene.tick()
    assert scene.balance() == Balance()


# --- refusals


def test_a_wallet_gets_one_share_of_a_gift() -> None:
    scene = scene_of().given(create_gift(100, 3))
    scene.when(claim_gift())
    assert scene.refused(claim_gift()).code is Code.ALREADY_CLAIMED, "while the claim is under way"
    scene.deliver_all()
    assert scene.refused(claim_gift()).code is Code.ALREADY_CLAIMED


def test_a_claim_of_a_missing_closed_expired_or_used_up_gift_is_refused_with_the_reason() -> None:
    scene = scene_of()
    assert claimed(scene, "u1", "none").reason == "not_found"  # type: ignore[union-attr]
    scene.given(create_gift(2, 1, "used"), create_gift(2, 2, "late", expires_at_us=NOON), create_gift(2, 2, "over"))
    scene.given(close_gift("over"))
    assert isinstance(claimed(scene, "u2", "used"), GiftReceived)
    for code, reason in (("used", "used_up"), ("late", "expired"), ("over", "closed")):
        data = claimed(scene, "u1", code)
        assert isinstance(data, GiftRefused)
        assert (data.reason, data.amount) == (reason, None)
    assert scene.total("house/gifts") == -2


def test_a_wallet_that_a_gift_refused_may_claim_it_again() -> None:
    scene = scene_of()
    assert isinstance(claimed(scene), GiftRefused)
    scene.given(create_gift(5, 1))
    assert isinstance(claimed(scene), GiftReceived)


def test_a_share_that_the_wallet_has_no_room_for_is_refused_for_good() -> None:
    """It counts as claimed: otherwise one wallet could take every share of the gift and receive none."""
    scene = scene_of().given(create_gift(100, 2), set_limits(balance_max=49))
    data = claimed(scene)
    assert isinstance(data, GiftRefused)
    assert (data.reason, data.amount, data.asset) == ("balance_max_exceeded", 50, "INR")
    assert scene.refused(claim_gift()).code is Code.ALREADY_CLAIMED
    assert scene.total("house/gifts") == 0


def test_closing_and_expiry_end_a_gift_while_claims_are_under_way() -> None:
    scene = scene_of().given(create_gift(10, 5, expires_at_us=NOON + SECOND_US))
    scene.given(claim_gift(user_id="u1"), claim_gift(user_id="u2"), claim_gift(user_id="u3"))
    scene.deliver()  # the claim of u1 arrives before the gift is closed
    scene.given(close_gift())
    scene.deliver_all()
    assert [scene.balance(user_id).bonus for user_id in ("u1", "u2", "u3")] == [2, 0, 0]
    other = scene_of().given(create_gift(10, 5, expires_at_us=NOON + SECOND_US), claim_gift(user_id="u1"))
    other.now_us += SECOND_US
    other.deliver_all()
    assert other.types_of("gift:g1")[-1] == GiftShareRefused.type
    assert other.balance("u1") == Balance()


def test_a_frozen_wallet_claims_and_receives_a_share() -> None:
    scene = scene_of().given(create_gift(10, 5), freeze_wallet())
    claimed(scene)
    assert scene.balance() == Balance(bonus=2)


def test_a_wallet_with_a_claim_under_way_cannot_be_closed() -> None:
    scene = scene_of().given(claim_gift("none"))
    assert scene.refused(close_wallet()).code is Code.WALLET_NOT_EMPTY
    scene.deliver_all()
    scene.when(close_wallet())


def test_a_gift_is_created_once_and_closed_once() -> None:
    scene = scene_of()
    assert scene.refused(close_gift()).code is Code.NOT_ELIGIBLE
    scene.given(create_gift())
    assert scene.refused(create_gift()).code is Code.ALREADY_RESOLVED
    scene.given(close_gift())
    assert scene.refused(close_gift()).code is Code.ALREADY_RESOLVED
    assert scene.refused(create_gift()).code is Code.ALREADY_RESOLVED


@pytest.mark.parametrize(
    ("amount", "claims", "asset", "code"),
    [
        (0, 1, "INR", Code.AMOUNT_OUT_OF_RANGE),
        (AMOUNT_MAX + 1, 1, "INR", Code.AMOUNT_OUT_OF_RANGE),
        (5, 0, "INR", Code.AMOUNT_OUT_OF_RANGE),
        (5, 6, "INR", Code.AMOUNT_OUT_OF_RANGE),
        (0, 0, "XYZ", Code.UNKNOWN_ASSET),
    ],
)
def test_a_gift_has_at_least_one_unit_for_each_share(amount: int, claims: int, asset: str, code: Code) -> None:
    assert scene_of().refused(create_gift(amount, claims, asset=asset)).code is code


# --- a whole node

PARTITIONS = 4
CLAIMS = 1_000
SHARES = 100
GIFT = 10_007
USERS = [f"user-{number}" for number in range(CLAIMS)]


@pytest.mark.system
async def test_a_thousand_claims_of_a_hundred_shares_end_with_exactly_a_hundred_received() -> None:
    assert {partition_of(user_id, PARTITIONS) for user_id in USERS} == set(range(PARTITIONS))
    world = await World(PARTITIONS).start()
    await world.post_many(*(open_wallet(user_id) for user_id in USERS), create_gift(GIFT, SHARES))
    await world.post_many(*(claim_gift(user_id=user_id) for user_id in USERS))
    await world.quiet()
    assert_paid_once(world, CLAIMS, SHARES, GIFT)
    await world.assert_true_of_the_log()
    verify(Lists(world.appended.records))
    await world.stop()


def assert_paid_once(world: World, claims: int, shares: int, amount: int) -> None:
    events = world.events()
    received = [event for event in events if isinstance(event.data, GiftReceived)]
    refused = [event for event in events if isinstance(event.data, GiftRefused)]
    assert len([event for event in events if isinstance(event.data, GiftClaimed)]) == claims
    assert (len(received), len(refused)) == (shares, claims - shares)
    assert len({event.user_id for event in received} | {event.user_id for event in refused}) == claims
    assert world.total("house/gifts") == -amount
    assert world.total("wallet/") == amount


FEW = ("u1", "u2", "u3", "u4", "u5")


async def crash_at_append(number: int, *, lands: bool) -> bool:
    """Five users claim three shares; the process dies at the given append after the first claim. Returns whether
    there was such an append."""
    world = await World(PARTITIONS, MemoryStateStore()).start()
    await world.given(*(open_wallet(user_id) for user_id in FEW), create_gift(100, 3))
    if number % 2:
        await world.save()
    died = await world.dies_at(number, _all_claim(world), lands=lands)
    await _all_claim(world)  # the same commands again: each takes effect once
    assert_paid_once(world, 5, 3, 100)
    await world.assert_true_of_the_log()
    verify(Lists(world.appended.records))
    await world.stop()
    return died


async def _all_claim(world: World) -> None:
    for user_id in FEW:
        await world.post(claim_gift(user_id=user_id, command_id="claim"))
    await world.quiet()


@pytest.mark.parametrize("lands", [True, False])
async def test_a_crash_at_every_append_pays_every_share_once(lands: bool) -> None:
    number = 0
    while await crash_at_append(number, lands=lands):
        number += 1
    assert number >= 7, "claims, shares and receipts are in several appends"
