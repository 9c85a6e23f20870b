"""A referral code belongs to the first wallet that claims it; a wallet may be opened with one."""

import pytest

from api.http.commands import read_command
from api.http.problems import Problem
from ledger.core.commands import ClaimGift
from ledger.core.gift_events import ReferralCodeGranted, ReferrerSet
from ledger.core.position import partition_of
from ledger.core.rejections import Code
from ledger.operations.audit import verify
from unit.given import Scene, claim_code, close_wallet, open_wallet
from unit.node_in_memory import World
from unit.test_audit import Lists


def scene_of(*users: str) -> Scene:
    return Scene().given(*(open_wallet(user_id) for user_id in users or ("u1", "u2")))


def test_the_first_claim_gets_the_code_and_later_claims_are_refused() -> None:
    scene = scene_of().given(claim_code())
    scene.deliver_all()
    scene.given(claim_code(user_id="u2"))
    scene.deliver_all()
    assert scene.types_of("code:k1") == ["referral_code_granted", "referral_code_refused"]
    assert scene.types_of("u1")[-1] == "referral_code_granted"
    assert scene.types_of("u2")[-1] == "referral_code_refused"


def test_two_claims_of_one_code_under_way_at_once_end_in_one_owner() -> None:
    scene = scene_of().given(claim_code(user_id="u1"), claim_code(user_id="u2"))
    scene.deliver(1)  # that of u2 arrives first
    scene.deliver_all()
    owners = {event.data.claimed_by for event in scene.events if isinstance(event.data, ReferralCodeGranted)}
    assert owners == {"u2"}
    assert scene.types_of("u1")[-1] == "referral_code_refused"


def test_a_wallet_has_one_code() -> None:
    scene = scene_of().given(claim_code())
    assert scene.refused(claim_code("other")).code is Code.ALREADY_CLAIMED, "while the claim is under way"
    scene.deliver_all()
    assert scene.refused(claim_code("other")).fields == {"referral_code": "k1"}


def test_a_wallet_whose_claim_was_refused_may_claim_another_code() -> None:
    scene = scene_of().given(claim_code(), claim_code(user_id="u2"))
    scene.deliver_all()
    scene.when(claim_code("k2", "u2"))
    scene.deliver_all()
    assert scene.types_of("u2")[-1] == "referral_code_granted"


def test_a_wallet_opened_with_a_code_has_its_owner_as_referrer_and_is_counted_up_to_the_top() -> None:
    scene = scene_of("top").given(open_wallet("u1", "top"), claim_code(user_id="u1"))
    scene.deliver_all()
    scene.when(open_wallet("new", referral_code="k1"))
    assert scene.wallet("new").status == "open", "it waits for nothing"
    scene.deliver_all()
    assert scene.wallet("new").referrer_id == "u1"
    assert [event.data.type for event in scene.events[-4:]] == [
        *("referral_resolved", "referrer_set", "referral_counted", "referral_counted"),
    ]


def test_a_code_without_an_owner_gives_no_referrer() -> None:
    scene = scene_of()
    scene.when(open_wallet("new", referral_code="k1"))
    scene.deliver_all()
    assert (scene.types_of("code:k1"), scene.wallet("new").referrer_id) == (["referral_unknown"], None)


def test_a_wallet_is_never_its_own_referrer() -> None:
    """It claims the code that it was opened with, and the claim arrives first."""
    scene = scene_of()
    scene.given(open_wallet("new", referral_code="k1"), claim_code(user_id="new"))
    scene.deliver(1)
    scene.deliver_all()
    assert scene.wallet("new").referrer_id is None
    assert "referral_unknown" in scene.types_of("code:k1")


def test_the_owner_of_a_code_may_be_closed_by_then_and_the_referral_is_void() -> None:
    scene = scene_of().given(claim_code())
    scene.deliver_all()
    scene.given(close_wallet(), open_wallet("new", referral_code="k1"))
    scene.deliver_all()
    assert scene.types_of("u1")[-1] == "referral_void"


# --- names


@pytest.mark.parametrize("code", ["a", "A-1_.@", "9" * 64])
def test_a_code_is_spelled_as_a_user_id(code: str) -> None:
    command, _ = read_command(f'{{"type":"claim_gift","command_id":"c","user_id":"u","code":"{code}"}}'.encode())
    assert isinstance(command, ClaimGift)
    read_command(
        f'{{"type":"create_gift","command_id":"c","user_id":"gift:{code}","asset":"INR","amount":1,"claims":1}}'.encode()
    )


@pytest.mark.parametrize("code", ["", "a:b", "-a", "9" * 65, "a b", "é"])
def test_other_codes_are_malformed(code: str) -> None:
    for text in (
        f'{{"type":"claim_gift","command_id":"c","user_id":"u","code":"{code}"}}',
        f'{{"type":"claim_referral_code","command_id":"c","user_id":"u","code":"{code}"}}',
        f'{{"type":"open_wallet","command_id":"c","user_id":"u","referral_code":"{code}"}}',
        f'{{"type":"close_gift","command_id":"c","user_id":"gift:{code}","reason":"r"}}',
    ):
        with pytest.raises(Problem) as raised:
            read_command(text.encode())
        assert raised.value.code == "malformed_request"


def test_a_wallet_is_opened_with_a_referrer_or_with_a_code() -> None:
    with pytest.raises(Problem) as raised:
        read_command(b'{"type":"open_wallet","command_id":"c","user_id":"u","referrer_id":"a","referral_code":"b"}')
    assert (raised.value.code, raised.value.fields) == ("malformed_request", {"field": "referral_code"})


# --- a whole node


async def test_many_claims_of_one_code_at_once_end_in_one_owner_whose_members_are_counted() -> None:
    users = [f"user-{number}" for number in range(40)]
    assert {partition_of(user_id, 4) for user_id in users} == set(range(4))
    world = await World(4).start()
    await world.post_many(*(open_wallet(user_id) for user_id in users))
    await world.post_many(*(claim_code(user_id=user_id) for user_id in users))
    await world.quiet()
    assert world.types("code:k1").count("referral_code_granted") == 1
    await world.post_many(*(open_wallet(f"new-{number}", referral_code="k1") for number in range(10)))
    await world.quiet()
    owner = next(e.data.claimed_by for e in world.events() if isinstance(e.data, ReferralCodeGranted))
    assert {e.data.referrer_id for e in world.events() if isinstance(e.data, ReferrerSet)} == {owner}
    assert world.types(owner).count("referral_counted") == 10
    await world.assert_true_of_the_log()
    verify(Lists(world.appended.records))
    await world.stop()
