"""Who sends a request."""

import re
from typing import Final

from msgspec import Struct

GAME_SERVER: Final = "game_server"
PLAYER: Final = "player"
OPERATOR: Final = "operator"
AUDITOR: Final = "auditor"
ADMIN: Final = "admin"
ROLES: Final = (GAME_SERVER, PLAYER, OPERATOR, AUDITOR, ADMIN)

SECRET_MIN: Final = 8
SECRET_MAX: Final = 256
"""Characters of a client's secret. The minimum is for a secret that an operator sets; made ones have 43. Chosen:
shorter ones can be guessed, and argon2 hashes 256 as quickly as one."""
is_secret: Final = re.compile(rf"[!-~]{{{SECRET_MIN},{SECRET_MAX}}}").fullmatch


PUBLIC_KEY_PATTERN: Final = r"^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=\Z"
"""An Ed25519 key as ``openssl pkey -pubout`` writes it, without its first and last line."""


class Identity(Struct, frozen=True):
    """The sender of a request, as its access token names it."""

    client_id: str
    """The actor of the events that its commands become."""
    role: str | None
    """None: login is off, so everything is allowed, and the header ``Stakelog-Actor`` names the actor."""
    games: frozenset[str] | None = None
    """A narrowed client's games; None: all."""
    types: frozenset[str] | None = None
    """A narrowed client's types of commands; None: all that its role may post."""
    user_id: str | None = None
    """A player's own; None: no player."""
    family: str = ""
    """The tokens that descend from one login, and are revoked together."""
    public_key: str | None = None
    """The key by which its client must sign what it posts; None: it need not sign."""


UNIDENTIFIED: Final = Identity("", "")
"""Of a request to a route that is open to all. It has no role."""
WITHOUT_LOGIN: Final = Identity("local", None)
"""Of every request while ``STAKELOG_AUTH=off``."""
