"""A new member counts for up to six referrers above. The walk up ends early at a void, or at the member."""

from ledger.core.events import LEDGER, ReferralCounted, ReferralVoid
from unit.given import Scene, close_wallet, freeze_wallet, open_wallet


def chain(length: int) -> Scene:
    """u1, u2 …, each referred by the one before, all counted."""
    scene = Scene().given(open_wallet("u1"))
    for n in range(2, length + 1):
        scene.given(open_wallet(f"u{n}", f"u{n - 1}"))
        scene.deliver_all()
    return scene


def counted(scene: Scene) -> list[tuple[str, str, int]]:
    """(referrer, member, level) of all counts, in order."""
    return [
        (event.user_id, event.data.member, event.data.level)
        for event in scene.events
        if isinstance(event.data, ReferralCounted)
    ]


def test_a_member_is_counted_at_the_referrer() -> None:
    scene = Scene().given(open_wallet("u1"))
    cause = scene.position(scene.when(open_wallet("u2", "u1")))
    event = scene.deliver()
    assert event.data == ReferralCounted(cause=cause, level=1, member="u2")
    assert (event.user_id, event.actor, event.postings, event.balances) == ("u1", LEDGER, (), {})
    assert scene.under_way == []


def test_a_wallet_without_a_referrer_counts_nowhere() -> None:
    assert Scene().given(open_wallet()).under_way == []


def test_each_count_leads_to_the_next_level() -> None:
    scene = chain(3)
    assert counted(scene) == [("u1", "u2", 1), ("u2", "u3", 1), ("u1", "u3", 2)]
    level_1, level_2 = scene.events[-2:]
    assert isinstance(level_2.data, ReferralCounted)
    assert level_2.data.cause == scene.position(level_1)


def test_a_walk_up_ends_at_six_levels() -> None:
    scene = chain(8)
    assert [count for count in counted(scene) if count[1] == "u8"] == [
        ("u7", "u8", 1),
        ("u6", "u8", 2),
        ("u5", "u8", 3),
        ("u4", "u8", 4),
        ("u3", "u8", 5),
        ("u2", "u8", 6),
    ]


def test_a_referrer_that_was_never_opened_makes_the_referral_void() -> None:
    scene = Scene()
    cause = scene.position(scene.when(open_wallet("u2", "u1")))
    event = scene.deliver()
    assert event.data == ReferralVoid(cause=cause, level=1, member="u2")
    assert (event.user_id, event.postings) == ("u1", ())
    assert scene.under_way == []
    assert scene.wallet("u1").status == "none"


def test_a_referrer_that_was_closed_by_then_makes_the_referral_void() -> None:
    scene = Scene().given(open_wallet("u1"), open_wallet("u2", "u1"), close_wallet(user_id="u1"))
    scene.deliver_all()
    assert scene.last(ReferralVoid).member == "u2"


def test_a_void_in_the_middle_ends_the_walk() -> None:
    scene = chain(2).given(close_wallet(user_id="u2"), open_wallet("u3", "u2"))
    scene.deliver_all()
    assert scene.last(ReferralVoid) == ReferralVoid(cause="3:5", level=1, member="u3")
    assert scene.types_of("u1") == ["wallet_opened", "referral_counted"]


def test_a_void_further_up_ends_the_walk_there() -> None:
    scene = chain(3).given(close_wallet(user_id="u2"), open_wallet("u4", "u3"))
    scene.deliver_all()
    assert scene.last(ReferralVoid).level == 2
    assert ("u3", "u4", 1) in counted(scene)


def test_a_frozen_referrer_counts() -> None:
    scene = Scene().given(open_wallet("u1"), freeze_wallet(user_id="u1"), open_wallet("u2", "u1"))
    scene.deliver_all()
    assert counted(scene) == [("u1", "u2", 1)]


def test_a_wallet_is_opened_normally_after_a_referral_to_it_was_void() -> None:
    scene = Scene().given(open_wallet("u2", "u1"))
    scene.deliver_all()
    scene.given(open_wallet("u1"), open_wallet("u3", "u1"))
    scene.deliver_all()
    assert counted(scene) == [("u1", "u3", 1)]


def test_in_a_ring_of_two_the_walk_ends_at_the_member() -> None:
    scene = Scene().given(open_wallet("u1", "u2"))
    scene.deliver_all()
    scene.given(open_wallet("u2", "u1"))
    scene.deliver_all()
    assert [event.data.type for event in scene.events] == [
        "wallet_opened",
        "referral_void",
        "wallet_opened",
        "referral_counted",
    ]
    assert counted(scene) == [("u1", "u2", 1)]


def test_a_ring_of_two_whose_counts_cross_counts_once_each() -> None:
    scene = Scene().given(open_wallet("u1", "u2"), open_wallet("u2", "u1"))
    scene.deliver_all()
    assert counted(scene) == [("u2", "u1", 1), ("u1", "u2", 1)]


def test_a_member_below_a_ring_walks_six_levels_and_no_more() -> None:
    scene = Scene().given(open_wallet("u1", "u2"), open_wallet("u2", "u1"))
    scene.deliver_all()
    scene.given(open_wallet("u3", "u1"))
    scene.deliver_all()
    assert [(referrer, level) for referrer, member, level in counted(scene) if member == "u3"] == [
        ("u1", 1),
        ("u2", 2),
        ("u1", 3),
        ("u2", 4),
        ("u1", 5),
        ("u2", 6),
    ]
