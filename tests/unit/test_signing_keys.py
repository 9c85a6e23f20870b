"""The keys that sign tokens, receipts and seals: published before use, and kept as long as they are needed."""

import asyncio
from base64 import urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from api.identity.identity import GAME_SERVER
from api.identity.key_store import StoredSigningKey
from api.identity.keys import LAST_TOKEN_S, PUBLISHED_S, RECEIPT, TOKEN, TOKEN_KEY_S, KeyRing, jwk_of
from api.identity.ports import IdentityUnavailable
from api.identity.tokens import TokenRefused, Tokens
from unit.identity import MASTERS, key_store
from unit.login_in_memory import LoginInMemory

SECOND_US = 1_000_000


class Clock:
    now_us = 1_795_000_000_000_000

    def __call__(self) -> int:
        return self.now_us


async def test_the_first_start_makes_one_key_for_each_purpose_and_later_starts_use_them(tmp_path: Path) -> None:
    async with key_store(tmp_path) as store:
        rings = [KeyRing(store, MASTERS, Clock()) for _ in range(4)]
        await asyncio.gather(*(ring.reload() for ring in rings))
        for ring in rings:
            await ring.reload()
        assert len({ring.signing().kid for ring in rings} | {ring.receipt_kid for ring in rings}) == 2
        assert all(ring.jwks() == rings[0].jwks() for ring in rings)
        private = rings[0].signing().private.private_bytes_raw()
    octets = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240
    assert private not in octets


async def test_a_kid_is_the_thumbprint_of_its_key() -> None:
    # The example of RFC 8037, appendix A.3.
    x = urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert jwk_of(Ed25519PublicKey.from_public_bytes(x))["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


async def test_a_key_of_tokens_signs_no_receipt_and_the_other_way_round(tmp_path: Path) -> None:
    async with key_store(tmp_path) as store:
        ring = KeyRing(store, MASTERS, Clock())
        await ring.reload()
        assert ring.public(ring.signing().kid) is not None
        assert ring.public(ring.receipt_kid) is None, "a receipt's key verifies no token"
        signature = ring.sign(b"text")
        jwk = next(jwk for jwk in ring.jwks() if jwk["kid"] == signature.kid)
        key = Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(jwk["x"] + "="))
        key.verify(urlsafe_b64decode(signature.signature + "=="), b"text")


async def test_a_new_key_is_published_before_it_signs_and_the_old_one_until_its_last_token_is_gone(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with key_store(tmp_path) as store:
        ring = KeyRing(store, MASTERS, clock)
        await ring.reload()
        old = ring.signing().kid
        clock.now_us += TOKEN_KEY_S * SECOND_US
        await ring.reload()
        (new,) = {key.kid for key in await store.signing_keys() if key.purpose == TOKEN} - {old}
        assert ring.signing().kid == old
        assert ring.public(new) is not None
        clock.now_us += PUBLISHED_S * SECOND_US
        assert ring.signing().kid == new
        clock.now_us += LAST_TOKEN_S * SECOND_US - 1
        await ring.reload()
        assert ring.public(old) is not None
        clock.now_us += 1
        await ring.reload()
        assert ring.public(old) is None
        assert old not in {jwk["kid"] for jwk in ring.jwks()}
        assert old not in {key.kid for key in await store.signing_keys()}


async def test_rotations_close_together_never_delete_the_key_that_signs(tmp_path: Path) -> None:
    clock = Clock()
    async with key_store(tmp_path) as store:
        ring = KeyRing(store, MASTERS, clock)
        await ring.reload()
        for _ in range(3):
            assert await ring.rotate(TOKEN) is not None
            clock.now_us += 20 * SECOND_US
        for _ in range(40):
            clock.now_us += 60 * SECOND_US
            signing = ring.signing().kid
            await ring.reload()
            assert ring.signing().kid == signing
        assert [key.kid for key in await store.signing_keys() if key.purpose == TOKEN] == [signing]


async def test_a_stolen_key_is_replaced_at_once_and_its_tokens_are_refused_although_they_were_verified_before(
    tmp_path: Path,
) -> None:
    clock = Clock()
    async with key_store(tmp_path) as store, LoginInMemory(tmp_path) as login:
        ring = KeyRing(store, MASTERS, clock)
        await ring.reload()
        tokens = Tokens(login.store, ring, login.revocations, clock)
        pair = await login.player(await login.pair(GAME_SERVER), "u1", tokens)
        token = pair.access_token.encode()
        assert tokens.identity_of(token).user_id == "u1"
        receipts = ring.receipt_kid
        new = await ring.replace_token_key()
        await ring.reload()
        assert new is not None
        assert (ring.signing().kid, ring.receipt_kid) == (new.kid, receipts)
        assert [key.kid for key in await store.signing_keys() if key.purpose == TOKEN] == [new.kid]
        with pytest.raises(TokenRefused, match="retired"):
            tokens.identity_of(token)
        renewed = await tokens.refresh(pair.refresh_token)
        assert renewed is not None
        assert tokens.identity_of(renewed.access_token.encode()).user_id == "u1"


async def test_a_key_of_receipts_is_published_permanently(tmp_path: Path) -> None:
    clock = Clock()
    async with key_store(tmp_path) as store:
        ring = KeyRing(store, MASTERS, clock)
        await ring.reload()
        old = ring.receipt_kid
        assert await ring.rotate(RECEIPT) is not None
        await ring.reload()
        assert ring.receipt_kid == old
        clock.now_us += 400 * 86_400 * SECOND_US
        await ring.reload()
        assert ring.receipt_kid != old
        assert old in {jwk["kid"] for jwk in ring.jwks()}


Damage = Callable[[StoredSigningKey], StoredSigningKey]
DAMAGES: dict[str, Damage] = {
    "no ciphertext": lambda key: key._replace(wrapped=key.wrapped._replace(ciphertext=b"")),
    "another ciphertext": lambda key: key._replace(wrapped=key.wrapped._replace(ciphertext=b"x" * 60)),
    "no Ed25519 key": lambda key: key._replace(wrapped=MASTERS.wrap(b"short", key.name)),
    "another public key": lambda key: key._replace(public="A" * 43),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("purpose", [TOKEN, RECEIPT])
async def test_a_damaged_key_is_not_published_and_the_others_sign(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, purpose: str, damage: Damage
) -> None:
    clock = Clock()
    async with key_store(tmp_path) as store:
        running = KeyRing(store, MASTERS, clock)
        await running.reload()
        await running.rotate(purpose)
        clock.now_us += (PUBLISHED_S + LAST_TOKEN_S) * SECOND_US
        *_, first, second = [key for key in await store.signing_keys() if key.purpose == purpose]
        await store.delete_signing_key(second)
        await store.add_signing_key(damage(second))
        ring = KeyRing(store, MASTERS, clock)
        for each in (ring, running, ring):
            await each.reload()
            assert second.kid not in {jwk["kid"] for jwk in each.jwks()}
            assert not each.accepts(second.kid)
            assert {ring.signing().kid, ring.receipt_kid} >= {first.kid}, "an older key that is whole signs on"
        assert [second.name in record.message for record in caplog.records] == [True, True], "once in each process"


@pytest.mark.parametrize("purpose", [TOKEN, RECEIPT])
async def test_if_no_key_of_a_purpose_is_whole_a_new_one_signs_at_once(tmp_path: Path, purpose: str) -> None:
    clock = Clock()
    async with key_store(tmp_path) as store:
        await KeyRing(store, MASTERS, clock).reload()
        (only,) = [key for key in await store.signing_keys() if key.purpose == purpose]
        await store.delete_signing_key(only)
        await store.add_signing_key(DAMAGES["another ciphertext"](only))
        rings = [KeyRing(store, MASTERS, clock) for _ in range(2)]
        await asyncio.gather(*(ring.reload() for ring in rings))
        kids = [(ring.signing().kid, ring.receipt_kid) for ring in rings]
        assert kids[0] == kids[1]
        assert only.kid not in kids[0]
        assert len(await store.signing_keys()) == 3, "the damaged one may be restored"


async def test_without_its_database_nothing_is_signed_and_nothing_breaks(tmp_path: Path) -> None:
    (tmp_path / "identity.sqlite3").write_bytes(b"not a database" * 1_000)
    async with key_store(tmp_path) as store:
        ring = KeyRing(store, MASTERS, Clock())
        await ring.start()
        with pytest.raises(IdentityUnavailable):
            ring.signing()
        with pytest.raises(IdentityUnavailable):
            _ = ring.receipt_kid
        assert ring.jwks() == []
        await ring.stop()
