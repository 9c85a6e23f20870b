"""The first start of a service with login: the client ``admin``, and its secret, which is printed once."""

import logging
import sys
from typing import Final

from api.identity.clients import FIRST, Clients

_log: Final = logging.getLogger(__name__)


async def create_first(clients: Clients, secret: str | None) -> None:
    """Create the client ``admin`` unless there is one. ``secret``: None makes one, and prints it to stdout, apart
    from the service log. Raises IdentityUnavailable."""
    made = await clients.create_first(secret)
    if made is None:
        return
    if secret is not None:
        _log.info("created the client %s with the secret of STAKELOG_ADMIN_SECRET", FIRST)
        return
    sys.stdout.write(f"created the client {FIRST}; its secret, which is not shown again: {made}\n")
    sys.stdout.flush()
