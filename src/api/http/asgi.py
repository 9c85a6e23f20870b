"""The types of ASGI, for the type checker only.

Importing Litestar takes longer than importing the whole ledger, and each start of a service would wait for it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from litestar.types import HTTPScope, Receive, Scope, Send
else:
    HTTPScope = Receive = Scope = Send = Any

__all__ = ["HTTPScope", "Receive", "Scope", "Send"]
