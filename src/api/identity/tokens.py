"""Access tokens and refresh tokens.

An access token is a JWT (RFC 7519, 9068) of 15 minutes, signed with Ed25519 by one of our keys. It names the client,
its role, its family and, for a player, the user.

Invariants:
(1) a token is accepted only if its algorithm is EdDSA, its ``kid`` names a key of ours, its signature, issuer,
    audience and times are right, and its client and family are not revoked. The key, the times and the revocations
    are checked at each use. Nothing in a token chooses a key or an algorithm;
(2) a refresh token is spent by its use. A spent one that comes again revokes its family: two programs have it;
(3) the store has hashes of refresh tokens, never the tokens.
"""

import logging
import re
import secrets
from hashlib import sha256
from typing import Any, Final, NamedTuple

import jwt
import msgspec
from msgspec import Struct

from api.identity.identity import PLAYER, ROLES, Identity
from api.identity.ports import Client, Family, IdentityStore, Refresh, Reused, TokenKeys
from api.identity.revocations import Revocations
from api.identity.waiting import Waiting
from ledger.ports import Clock

ACCESS_S: Final = 900
REFRESH_S: Final = 14 * 86_400
"""A refresh token that is not used for so long expires. Chosen: a player who comes every week stays logged in."""
REFRESH_US: Final = REFRESH_S * 1_000_000
LEEWAY_S: Final = 10
"""How far two nodes' clocks may differ: a token is accepted this long before ``iat`` and after ``exp``. Chosen: ten
times what the log tolerates."""
REVOKED_FOR_US: Final = (ACCESS_S + 2 * LEEWAY_S + 60) * 1_000_000
"""How long a revocation is kept: until the last access token that it is about has expired on every node."""
ISSUER: Final = "stakelog"
AUDIENCE: Final = "stakelog"
TOKEN_MAX: Final = 8_192
"""Bytes of an access token. Chosen: twice what a client of the most games has."""
_ALGORITHM: Final = "EdDSA"
_TYPE: Final = "at+jwt"
_UNKNOWN_KEY: Final = "the key of the access token is unknown or retired"
_VERIFIED_MAX: Final = 20_000
"""Verified tokens in memory. Chosen: 20 MB; to verify one takes 0.1 ms."""
_HANDLE: Final = 22
_log: Final = logging.getLogger(__name__)
_is_refresh: Final = re.compile(r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}").fullmatch


class TokenRefused(Exception):
    """The access token is not accepted; the text says why. ``reason``: the same, for the client of a live feed whose
    token was accepted before."""

    def __init__(self, text: str, reason: str = "token_revoked") -> None:
        super().__init__(text)
        self.reason = reason


class _Claims(Struct, frozen=True):
    iss: str
    aud: str
    sub: str
    client_id: str
    role: str
    sid: str
    iat: int
    exp: int
    jti: str
    games: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    public_key: str | None = None


class TokenPair(NamedTuple):
    """An access token of ``ACCESS_S``, and the refresh token for the next one."""

    access_token: str
    refresh_token: str


class _Verified(NamedTuple):
    identity: Identity
    kid: str
    from_us: int
    until_us: int


class Tokens:
    """Makes tokens and checks them."""

    def __init__(
        self,
        store: IdentityStore,
        keys: TokenKeys,
        revocations: Revocations,
        clock: Clock,
        *,
        issuer: str = ISSUER,
        any_issuer: bool = False,
    ) -> None:
        """``any_issuer``: accept tokens that name another one; the key proves that they are ours. An address that no
        setting names changes with the port, and differs between nodes."""
        self._store, self._keys, self._revocations, self._clock = store, keys, revocations, clock
        self._issuer, self._accepted = issuer, None if any_issuer else issuer
        self._verified: dict[bytes, _Verified] = {}
        self._waiting = Waiting()
        self.reused = 0
        """How often a spent refresh token came again."""

    async def begin(self, client: Client, secret_id: str) -> TokenPair | None:
        """The first tokens of a client that has logged in with this secret. None: the secret was replaced, or the
        client disabled, meanwhile. Raises IdentityUnavailable."""
        return await self._begin(client.client_id, None, client, secret_id, None)

    async def begin_player(self, client_id: str, user_id: str, parent: str) -> TokenPair | None:
        """The first tokens of a player; the client asks for them by a token of the family ``parent``. None: that
        family is revoked, or the client disabled. Raises IdentityUnavailable."""
        return await self._begin(client_id, user_id, None, None, parent)

    async def _begin(
        self, client_id: str, user_id: str | None, client: Client | None, secret_id: str | None, parent: str | None
    ) -> TokenPair | None:
        now_us = self._clock()
        family = Family(secrets.token_urlsafe(16), client_id, user_id, now_us, secret_id)
        refresh_token = _make_refresh(secrets.token_urlsafe(16))
        if not await self._store.begin(family, _hashed(refresh_token), now_us + REFRESH_US, parent):
            return None
        return self._pair(family, client, refresh_token, now_us)

    async def refresh(self, refresh_token: str, client_id: str | None = None) -> TokenPair | None:
        """The next tokens of a family; the refresh token is spent. ``client_id``: the client that has logged in to
        use it. None: it is not valid, or it is another client's. Raises IdentityUnavailable, TooManyLogins."""
        if not _is_refresh(refresh_token):
            return None
        with self._waiting.one_more():
            return await self._refresh(refresh_token, client_id)

    async def _refresh(self, refresh_token: str, client_id: str | None) -> TokenPair | None:
        now_us = self._clock()
        successor = _make_refresh(refresh_token[:_HANDLE])
        self._keys.signing()  # without a key nothing is spent: the caller would lose the token and get none
        found = await self._store.spend(
            _hashed(refresh_token),
            _hashed(successor),
            now_us,
            now_us + REFRESH_US,
            now_us + REVOKED_FOR_US,
        )
        if isinstance(found, Reused):
            self.reused += 1
            _log.warning(
                "a spent refresh token of a login of %s came again, so it may be stolen: this login is revoked",
                found.client_id,
            )
            await self._revocations.read()
            return None
        if found is None:
            return None
        family, client = found
        # A stolen secret is worth nothing after its grace. A player's tokens do not depend on it.
        of_old_secret = family.user_id is None and not client.has_secret(family.secret_id, now_us)
        if client_id not in (None, client.client_id) or of_old_secret:
            await self._revoke(successor)
            return None
        return self._pair(family, client, successor, now_us)

    async def revoke(self, refresh_token: str) -> None:
        """Log out: revoke the family. An unknown token changes nothing. Raises IdentityUnavailable, TooManyLogins."""
        if _is_refresh(refresh_token):
            with self._waiting.one_more():
                await self._revoke(refresh_token)

    async def _revoke(self, refresh_token: str) -> None:
        now_us = self._clock()
        if await self._store.revoke(_hashed(refresh_token), now_us, now_us + REVOKED_FOR_US):
            await self._revocations.read()

    def has_verified(self, token: bytes) -> bool:
        """Whether the token's signature was found right before; it may have expired, or be revoked."""
        return token in self._verified

    def identity_of(self, token: bytes) -> Identity:
        """Who sent an access token. Raises TokenRefused."""
        found = self._verified.get(token)
        if found is None:
            found = self._verify(token)
            if len(self._verified) >= _VERIFIED_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[token] = found
        identity, kid, from_us, until_us = found
        now_us = self._clock()
        if not from_us <= now_us < until_us:
            del self._verified[token]
            raise TokenRefused(
                f"the access token {'has expired' if now_us >= until_us else 'is not valid yet'}", "token_expired"
            )
        if not self._keys.accepts(kid):
            del self._verified[token]
            raise TokenRefused(_UNKNOWN_KEY)
        if self._revocations.has(identity.client_id, identity.family):
            raise TokenRefused("the access token is revoked")
        return identity

    def _verify(self, token: bytes) -> _Verified:
        if len(token) > TOKEN_MAX:
            raise TokenRefused(f"an access token has at most {TOKEN_MAX} bytes")
        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            # Nothing else may be there: not `jwk` or `jku`, which would name another key, nor `crit`.
            if header.keys() != {"alg", "kid", "typ"} or header["typ"] != _TYPE or header["alg"] != _ALGORITHM:
                raise TokenRefused("it is not an access token of this service")
            if not isinstance(kid, str) or (key := self._keys.public(kid)) is None:
                raise TokenRefused(_UNKNOWN_KEY)
            claims = msgspec.convert(
                jwt.decode(
                    token,
                    key,
                    algorithms=[_ALGORITHM],
                    audience=AUDIENCE,
                    issuer=self._accepted,
                    options={"verify_exp": False, "verify_iat": False},  # by our clock, at each use
                ),
                _Claims,
            )
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError) as error:
            raise TokenRefused("it is not an access token of this service") from error
        if claims.role not in ROLES:
            raise TokenRefused("the access token has an unknown role")
        if claims.exp - claims.iat > ACCESS_S:
            raise TokenRefused(f"an access token lasts {ACCESS_S} s at most")
        identity = Identity(
            claims.client_id,
            claims.role,
            None if claims.games is None else frozenset(claims.games),
            None if claims.types is None else frozenset(claims.types),
            claims.sub if claims.role == PLAYER else None,
            claims.sid,
            claims.public_key,
        )
        return _Verified(identity, kid, (claims.iat - LEEWAY_S) * 1_000_000, (claims.exp + LEEWAY_S) * 1_000_000)

    def _pair(self, family: Family, client: Client | None, refresh_token: str, now_us: int) -> TokenPair:
        """``client``: needed unless the family is a player's."""
        signing = self._keys.signing()
        now_s = now_us // 1_000_000
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "client_id": family.client_id,
            "sid": family.family,
            "iat": now_s,
            "exp": now_s + ACCESS_S,
            "jti": secrets.token_urlsafe(16),
        }
        if family.user_id is not None:
            claims |= {"sub": family.user_id, "role": PLAYER}
        else:
            assert client is not None, "a client's own tokens have its role"
            claims |= {"sub": client.client_id, "role": client.role}
            claims |= {name: getattr(client, name) for name in ("games", "types", "public_key")}
        header = {"kid": signing.kid, "typ": _TYPE}
        return TokenPair(jwt.encode(claims, signing.private, algorithm=_ALGORITHM, headers=header), refresh_token)


def _make_refresh(handle: str) -> str:
    return f"{handle}.{secrets.token_urlsafe(32)}"


def _hashed(refresh_token: str) -> Refresh:
    # No slow hash is needed: it has 256 random bits.
    handle = refresh_token[:_HANDLE]
    return Refresh(sha256(handle.encode()).hexdigest(), sha256(refresh_token.encode()).hexdigest())
