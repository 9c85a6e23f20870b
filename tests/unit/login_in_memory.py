"""Login for an ``InMemoryApi``: clients in a file of SQLite, and access tokens without a secret's slow hash.

async with LoginInMemory(tmp_path) as login, InMemoryApi(tmp_path, login=login.parts) as api_client:
    token = await login.token("operator")
    answer = await api_client.get("/v1/orders", bearer(token))
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from api.identity.clients import Clients
from api.identity.database import IdentityDatabase
from api.identity.hashing import SecretHasher
from api.identity.identity import GAME_SERVER, PLAYER
from api.identity.keys import jwk_of
from api.identity.login import Login
from api.identity.ports import Client, SigningKey, secret_id_of
from api.identity.revocations import Revocations
from api.identity.store import DatabaseIdentityStore
from api.identity.tables import METADATA
from api.identity.tokens import TokenPair, Tokens
from unit.node_in_memory import Clock


class ProcessKeys:
    """``TokenKeys``: one key, without a store."""

    def __init__(self) -> None:
        private = Ed25519PrivateKey.generate()
        self._public = private.public_key()
        self._signing = SigningKey(jwk_of(self._public)["kid"], private)

    def signing(self) -> SigningKey:
        return self._signing

    def public(self, kid: str) -> Ed25519PublicKey | None:
        return self._public if kid == self._signing.kid else None

    def accepts(self, kid: str) -> bool:
        return kid == self._signing.kid

    def jwks(self) -> list[dict[str, str]]:
        return [jwk_of(self._public)]


class LoginInMemory:
    """The parts of login. Only the test moves their clock."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = DatabaseIdentityStore(IdentityDatabase(folder / "identity.sqlite3", METADATA))
        self.keys = ProcessKeys()
        self.hasher = SecretHasher()
        self.clients = Clients(self.store, self.clock, self.hasher)
        # Nothing reads them while a test of another module runs.
        self.revocations = Revocations(self.store, self.clock, stale_s=float("inf"))
        self.tokens = Tokens(self.store, self.keys, self.revocations, self.clock)

    @property
    def parts(self) -> Login:
        return Login(self.clients, self.tokens, self.revocations, self.keys, "http://stakelog", secure_cookies=True)

    async def pair(
        self,
        role: str,
        client_id: str | None = None,
        *,
        games: tuple[str, ...] | None = None,
        types: tuple[str, ...] | None = None,
    ) -> TokenPair:
        """Of a client that is added if it is new; ``client_id``: None, the role's name. A player's ``client_id`` is
        the user_id."""
        if role == PLAYER:
            return await self.player(await self.pair(GAME_SERVER), client_id or "u1")
        now_us = self.clock()
        client = Client(client_id or role, role, "no hash", now_us, games, types, secret_since_us=now_us)
        return await self.begin(client)

    async def begin(self, client: Client) -> TokenPair:
        """The first tokens of a client that is added if it is new, as after a login with its present secret."""
        await self.store.add_client(client)
        stored = next(one for one in await self.store.clients() if one.client_id == client.client_id)
        pair = await self.tokens.begin(client, secret_id_of(stored.secret_hash))
        assert pair is not None
        return pair

    async def player(self, server: TokenPair, user_id: str, tokens: Tokens | None = None) -> TokenPair:
        """The first tokens of a player, which the client of ``server`` asks for."""
        sender = self.tokens.identity_of(server.access_token.encode())
        pair = await (tokens or self.tokens).begin_player(sender.client_id, user_id, sender.family)
        assert pair is not None
        return pair

    async def token(self, role: str, client_id: str | None = None, **narrowed: tuple[str, ...]) -> str:
        return (await self.pair(role, client_id, **narrowed)).access_token

    async def __aenter__(self) -> Self:
        await self.revocations.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.revocations.stop()
        await self.store.close()
        self.hasher.close()


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"
