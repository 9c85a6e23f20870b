"""The fold of referrals: how many members a referrer has, level by level."""

from projections.models.referrals import ReferralRow
from unit.given import Scene, open_wallet
from unit.read_model import rows_of


def delivered(scene: Scene) -> Scene:
    while scene.under_way:
        scene.deliver()
    return scene


def test_a_member_counts_on_every_level_above() -> None:
    scene = Scene().given(open_wallet("r0"))
    for member, referrer in (("r1", "r0"), ("r2", "r1"), ("r3", "r2")):
        delivered(scene.given(open_wallet(member, referrer)))
    counted = {(row.user_id, row.level): row.members for row in rows_of(scene, ReferralRow)}
    assert counted == {("r0", 1): 1, ("r0", 2): 1, ("r0", 3): 1, ("r1", 1): 1, ("r1", 2): 1, ("r2", 1): 1}


def test_members_of_one_level_add_up() -> None:
    scene = Scene().given(open_wallet("r"))
    for member in ("a", "b", "c"):
        delivered(scene.given(open_wallet(member, "r")))
    assert rows_of(scene, ReferralRow) == [ReferralRow("r", 1, "", 3)]


def test_a_referrer_without_a_wallet_has_no_members() -> None:
    scene = delivered(Scene().given(open_wallet("a", "nobody")))
    assert scene.events[-1].data.type == "referral_void"
    assert rows_of(scene, ReferralRow) == []
