"""Access tokens and refresh tokens: what is accepted, what is refused, and what a reuse revokes."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.identity.identity import GAME_SERVER, OPERATOR, PLAYER, Identity
from api.identity.ports import IdentityUnavailable, secret_id_of
from api.identity.revocations import STALE_S, Revocations
from api.identity.tokens import ACCESS_S, LEEWAY_S, REFRESH_S, TOKEN_MAX, TokenPair, TokenRefused, Tokens
from unit.login_in_memory import LoginInMemory, ProcessKeys

SECOND_US: Final = 1_000_000


@pytest.fixture
async def login(tmp_path: Path) -> AsyncIterator[LoginInMemory]:
    async with LoginInMemory(tmp_path) as login:
        yield login


def accepted(login: LoginInMemory, token: str | bytes) -> Identity:
    return login.tokens.identity_of(token if isinstance(token, bytes) else token.encode())


def refused(login: LoginInMemory, token: str | bytes, why: str = "not an access token") -> None:
    with pytest.raises(TokenRefused, match=why):
        accepted(login, token)


async def refreshed(login: LoginInMemory, pair: TokenPair) -> TokenPair:
    found = await login.tokens.refresh(pair.refresh_token)
    assert found is not None
    return found


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def claims_of(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


def header_of(token: str) -> dict[str, Any]:
    return jwt.get_unverified_header(token)


def signed(login: LoginInMemory, claims: dict[str, Any], **header: Any) -> str:
    """A token that our own key signs, with another header or other claims."""
    key = login.keys.signing()
    headers = {"typ": "at+jwt", "kid": key.kid, **header}
    return jwt.encode(claims, key.private, algorithm="EdDSA", headers=headers)


# --- access tokens -------------------------------------------------------------------------------------------------


async def test_a_token_says_who_sends_it(login: LoginInMemory) -> None:
    token = await login.token(GAME_SERVER, "games-1", games=("wingo_1m",), types=("place_bet",))
    identity = accepted(login, token)
    assert identity == Identity(
        "games-1", GAME_SERVER, frozenset({"wingo_1m"}), frozenset({"place_bet"}), None, claims_of(token)["sid"]
    )
    player = accepted(login, await login.token(PLAYER, "u7"))
    assert (player.role, player.user_id, player.client_id) == (PLAYER, "u7", GAME_SERVER)


async def test_a_token_is_an_ordinary_jwt_that_others_verify_by_the_published_key(login: LoginInMemory) -> None:
    token = await login.token(OPERATOR, "meera")
    (key,) = jwt.PyJWKSet.from_dict({"keys": login.keys.jwks()}).keys
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="stakelog", options={"verify_exp": False})
    assert (claims["iss"], claims["sub"], claims["exp"] - claims["iat"]) == ("stakelog", "meera", ACCESS_S)
    assert header_of(token) == {"alg": "EdDSA", "typ": "at+jwt", "kid": key.key_id}


async def test_a_token_expires_and_clocks_of_nodes_may_differ_a_little(login: LoginInMemory) -> None:
    token, began_us = await login.token(OPERATOR), login.clock.now_us
    for skew_s in (-LEEWAY_S, 0, ACCESS_S, ACCESS_S + LEEWAY_S - 1):
        login.clock.now_us = began_us + skew_s * SECOND_US
        assert accepted(login, token).client_id == OPERATOR
    login.clock.now_us = began_us + (ACCESS_S + LEEWAY_S) * SECOND_US
    refused(login, token, "expired")
    login.clock.now_us = began_us - (LEEWAY_S + 1) * SECOND_US
    refused(login, token, "not valid yet")


async def test_a_token_whose_algorithm_is_none_is_refused(login: LoginInMemory) -> None:
    token = await login.token(OPERATOR)
    for algorithm in ("none", "None", "NONE", ""):
        for signature in ("", token.rpartition(".")[2]):
            forged = f"{part({**header_of(token), 'alg': algorithm})}.{token.split('.')[1]}.{signature}"
            refused(login, forged)


async def test_the_public_key_is_no_secret_of_another_algorithm(login: LoginInMemory) -> None:
    """The confusion of algorithms: HS256 with the public key, which everyone has."""
    token = await login.token(OPERATOR)
    public = login.keys.signing().private.public_key()
    secrets = [
        public.public_bytes_raw(),
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        login.keys.jwks()[0]["x"].encode(),
    ]
    for secret in secrets:
        head = f"{part({**header_of(token), 'alg': 'HS256'})}.{token.split('.')[1]}"
        signature = base64.urlsafe_b64encode(hmac.digest(secret, head.encode(), "sha256")).rstrip(b"=").decode()
        refused(login, f"{head}.{signature}")


async def test_a_changed_or_foreign_token_is_refused(login: LoginInMemory) -> None:
    token = await login.token(OPERATOR)
    header, _, signature = token.split(".")
    refused(login, f"{header}.{part({**claims_of(token), 'role': 'admin'})}.{signature}")
    stranger = Ed25519PrivateKey.generate()
    kid = login.keys.signing().kid
    headers = {"typ": "at+jwt", "kid": kid}
    refused(login, jwt.encode(claims_of(token), stranger, algorithm="EdDSA", headers=headers))
    other = ProcessKeys().signing()
    refused(login, jwt.encode(claims_of(token), other.private, "EdDSA", {**headers, "kid": other.kid}), "key")


@pytest.mark.parametrize("kid", ["", "../../../../dev/null", "x' OR '1'='1", "a" * 4_000, None, 7, ["x"], {"x": 1}])
async def test_no_kid_leads_to_another_key(login: LoginInMemory, kid: Any) -> None:
    token = await login.token(OPERATOR)
    _, claims, signature = token.split(".")
    refused(login, f"{part({**header_of(token), 'kid': kid})}.{claims}.{signature}", "token")
    without = {name: value for name, value in header_of(token).items() if name != "kid"}
    refused(login, f"{part(without)}.{claims}.{signature}")


async def test_a_header_cannot_bring_a_key_or_a_critical_extension(login: LoginInMemory) -> None:
    token = await login.token(OPERATOR)
    stranger = Ed25519PrivateKey.generate()
    raw = base64.urlsafe_b64encode(stranger.public_key().public_bytes_raw()).rstrip(b"=").decode()
    own_key = {"kty": "OKP", "crv": "Ed25519", "x": raw}
    kid = login.keys.signing().kid
    for more in ({"jwk": own_key}, {"jku": "https://evil.example/keys"}, {"x5u": "x"}, {"crit": ["exp"]}):
        headers = {"typ": "at+jwt", "kid": kid, **more}
        refused(login, jwt.encode(claims_of(token), stranger, algorithm="EdDSA", headers=headers))
        refused(login, signed(login, claims_of(token), **more))


async def test_a_token_of_our_key_for_another_purpose_is_refused(login: LoginInMemory) -> None:
    claims = claims_of(await login.token(OPERATOR))
    assert accepted(login, signed(login, claims)).client_id == OPERATOR
    refused(login, signed(login, {**claims, "aud": "another"}))
    refused(login, signed(login, {**claims, "iss": "another"}))
    refused(login, signed(login, claims, typ="JWT"))
    refused(login, signed(login, {**claims, "role": "god"}), "role")
    refused(login, signed(login, {**claims, "games": "wingo_1m"}))
    for name in ("iss", "aud", "sub", "client_id", "role", "sid", "iat", "exp", "jti"):
        refused(login, signed(login, {key: value for key, value in claims.items() if key != name}))


async def test_a_token_of_our_key_that_lasts_longer_than_ours_is_refused(login: LoginInMemory) -> None:
    claims = claims_of(await login.token(OPERATOR))
    refused(login, signed(login, {**claims, "exp": claims["exp"] + 1}), "900 s at most")
    later_s = LEEWAY_S + 1
    later = {**claims, "iat": claims["iat"] + later_s, "exp": claims["exp"] + later_s}
    refused(login, signed(login, later), "not valid yet")


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b".",
        b"..",
        b"...",
        b"a.b.c",
        b"\xff\xfe.\x00.x",
        b"e30.e30.e30",
        b"x" * (TOKEN_MAX + 1),
        b"." * TOKEN_MAX,
    ],
)
async def test_what_is_no_token_is_refused(login: LoginInMemory, token: bytes) -> None:
    refused(login, token, "token")


async def test_a_huge_token_is_refused_before_it_is_read(login: LoginInMemory) -> None:
    token = signed(login, {**claims_of(await login.token(OPERATOR)), "sid": "x" * TOKEN_MAX})
    refused(login, token, "at most 8192 bytes")


async def test_the_largest_token_of_ours_is_accepted(login: LoginInMemory) -> None:
    games = tuple(f"{number:064}" for number in range(64))
    token = await login.token(GAME_SERVER, "g" * 64, games=games, types=("place_bet", "settle_bet"))
    assert accepted(login, token).games == frozenset(games)


async def test_verified_tokens_stay_bounded_in_memory(login: LoginInMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.identity.tokens._VERIFIED_MAX", 3)
    tokens = [await login.token(OPERATOR, f"client-{number}") for number in range(9)]
    for token in tokens * 2:
        accepted(login, token)
    assert len(login.tokens._verified) == 3


async def test_a_token_names_the_issuer_of_the_settings_and_another_issuers_is_refused(login: LoginInMemory) -> None:
    issuer = "https://ledger.example"
    there = Tokens(login.store, login.keys, login.revocations, login.clock, issuer=issuer)
    pair = await login.player(await login.pair(GAME_SERVER), "u7", there)
    assert claims_of(pair.access_token)["iss"] == issuer
    moved = Tokens(login.store, login.keys, login.revocations, login.clock, issuer="http://x:1", any_issuer=True)
    assert moved.identity_of(pair.access_token.encode()).client_id, "without a setting the address may change"
    assert there.identity_of(pair.access_token.encode()).user_id == "u7"
    refused(login, pair.access_token)


# --- refresh tokens ------------------------------------------------------------------------------------------------


async def test_a_refresh_gives_the_same_client_new_tokens(login: LoginInMemory) -> None:
    first = await login.pair(GAME_SERVER, "games-1", games=("wingo_1m",))
    login.clock.now_us += ACCESS_S * SECOND_US
    second = await refreshed(login, first)
    assert second.refresh_token != first.refresh_token
    assert accepted(login, second.access_token) == accepted(login, first.access_token)
    player = await refreshed(login, await login.pair(PLAYER, "u7"))
    assert accepted(login, player.access_token).user_id == "u7"


async def test_a_spent_refresh_token_revokes_all_tokens_of_its_family(login: LoginInMemory) -> None:
    other = await login.pair(OPERATOR, "meera")
    first = await login.pair(OPERATOR, "meera")
    second = await refreshed(login, first)
    third = await refreshed(login, second)
    assert await login.tokens.refresh(first.refresh_token) is None
    for pair in (first, second, third):
        refused(login, pair.access_token, "revoked")
    assert await login.tokens.refresh(third.refresh_token) is None
    assert accepted(login, other.access_token).client_id == "meera", "another login goes on"
    await refreshed(login, other)


async def test_without_a_key_that_signs_no_refresh_token_is_spent(
    login: LoginInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await login.pair(OPERATOR)

    def unread() -> None:
        raise IdentityUnavailable("the signing keys could not be read yet")

    with monkeypatch.context() as patch:
        patch.setattr(login.keys, "signing", unread)
        with pytest.raises(IdentityUnavailable):
            await login.tokens.refresh(first.refresh_token)
    await refreshed(login, first)


async def test_of_concurrent_refreshes_exactly_one_succeeds(login: LoginInMemory) -> None:
    first = await login.pair(OPERATOR)
    found = await asyncio.gather(*(login.tokens.refresh(first.refresh_token) for _ in range(8)))
    assert sum(pair is not None for pair in found) == 1


async def test_a_refresh_token_expires(login: LoginInMemory) -> None:
    first = await login.pair(OPERATOR)
    login.clock.now_us += REFRESH_S * SECOND_US - 1
    second = await refreshed(login, first)
    login.clock.now_us += REFRESH_S * SECOND_US
    assert await login.tokens.refresh(second.refresh_token) is None


async def test_a_refresh_token_of_another_client_is_refused_and_revoked(login: LoginInMemory) -> None:
    first = await login.pair(OPERATOR, "meera")
    assert await login.tokens.refresh(first.refresh_token, "ravi") is None
    refused(login, first.access_token, "revoked")
    own = await login.pair(OPERATOR, "meera")
    assert await login.tokens.refresh(own.refresh_token, "meera") is not None


@pytest.mark.parametrize("token", ["", "x", "a" * 22 + "." + "b" * 42, "a" * 22 + "." + "ü" * 43, "é" * 66, "\x00"])
async def test_what_is_no_refresh_token_is_refused(login: LoginInMemory, token: str) -> None:
    assert await login.tokens.refresh(token) is None
    await login.tokens.revoke(token)


async def test_the_store_has_hashes_of_refresh_tokens_only(login: LoginInMemory, tmp_path: Path) -> None:
    first = await login.pair(PLAYER, "u7")
    second = await refreshed(login, first)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240
    for pair in (first, second):
        assert pair.refresh_token.encode() not in content
        assert pair.refresh_token.partition(".")[2].encode() not in content
        assert pair.refresh_token.partition(".")[0].encode() not in content
    assert sha256(second.refresh_token.encode()).hexdigest().encode() in content


async def test_a_logout_revokes_the_family(login: LoginInMemory) -> None:
    first = await login.pair(PLAYER, "u7")
    second = await refreshed(login, first)
    await login.tokens.revoke(second.refresh_token)
    refused(login, first.access_token, "revoked")
    refused(login, second.access_token, "revoked")
    assert await login.tokens.refresh(second.refresh_token) is None


# --- revocations ---------------------------------------------------------------------------------------------------


async def test_a_disabled_client_and_its_players_have_no_valid_token(login: LoginInMemory) -> None:
    own, player = await login.pair(GAME_SERVER), await login.pair(PLAYER, "u7")
    other = await login.token(OPERATOR)
    assert await login.clients.disable(GAME_SERVER)
    await login.revocations.read()
    for pair in (own, player):
        refused(login, pair.access_token, "revoked")
        assert await login.tokens.refresh(pair.refresh_token) is None
    assert accepted(login, other).client_id == OPERATOR


async def test_a_login_that_was_checked_while_its_secret_was_replaced_gets_no_tokens(login: LoginInMemory) -> None:
    server = await login.pair(GAME_SERVER)
    sender = accepted(login, server.access_token)
    client = await login.store.client(GAME_SERVER)
    assert client is not None
    assert await login.clients.rotate(GAME_SERVER, 0) is not None
    assert await login.tokens.begin(client, secret_id_of(client.secret_hash)) is None
    # Another node has not read the revocation yet: it accepts the access token for some seconds.
    assert accepted(login, server.access_token) == sender
    assert await login.tokens.begin_player(GAME_SERVER, "u7", sender.family) is None


async def test_another_process_learns_of_a_revocation_by_its_next_read(login: LoginInMemory) -> None:
    there = Revocations(login.store, login.clock)
    tokens = Tokens(login.store, login.keys, there, login.clock)
    pair = await login.pair(OPERATOR)
    await there.read()
    assert tokens.identity_of(pair.access_token.encode()).client_id == OPERATOR
    await login.tokens.revoke(pair.refresh_token)
    await there.read()
    with pytest.raises(TokenRefused, match="revoked"):
        tokens.identity_of(pair.access_token.encode())
    newcomer = Revocations(login.store, login.clock)
    await newcomer.read()
    assert newcomer.has(OPERATOR, claims_of(pair.access_token)["sid"]), "a process that starts later knows it too"


async def test_revocations_are_unknown_before_the_first_read_and_long_after_the_last(
    login: LoginInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1_000.0]
    monkeypatch.setattr("api.identity.revocations.monotonic", lambda: now_s[0])
    revocations = Revocations(login.store, login.clock)
    assert not revocations.known
    await revocations.read()
    assert revocations.known
    now_s[0] += STALE_S
    assert not revocations.known
    await revocations.read()
    assert revocations.known


async def test_revocations_are_forgotten_when_their_tokens_have_expired(
    login: LoginInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.identity.revocations._CLEAN_EVERY_S", -1.0)
    pair = await login.pair(OPERATOR)
    await login.tokens.revoke(pair.refresh_token)
    family = claims_of(pair.access_token)["sid"]
    login.clock.now_us += (ACCESS_S + LEEWAY_S) * SECOND_US
    await login.revocations.read()
    assert login.revocations.has(OPERATOR, family)
    login.clock.now_us += 3_600 * SECOND_US
    await login.revocations.read()
    assert not login.revocations.has(OPERATOR, family)
    assert await login.store.revocations(0) == []


async def test_reading_goes_on_after_the_database_was_away(login: LoginInMemory) -> None:
    class Away:
        def __init__(self) -> None:
            self.reads = 0
            self.again = asyncio.Event()

        async def __call__(self) -> None:
            self.reads += 1
            if self.reads < 3:
                raise IdentityUnavailable("the database is away")
            self.again.set()

    away = Away()
    revocations = Revocations(login.store, login.clock, before=away, poll_s=0.001)
    await revocations.start()
    assert not revocations.known
    async with asyncio.timeout(60):
        await away.again.wait()
        while not revocations.known:  # noqa: ASYNC110 - the read after it has no event
            await asyncio.sleep(0.001)
    await revocations.stop()
    assert away.reads == 3, "what must succeed once is not repeated"
