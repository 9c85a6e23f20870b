"""Rate limits and signatures of requests, as the routes apply them while ``STAKELOG_AUTH=on``.

Invariants:
(1) each request counts once for its sender: for the client or the player of its token, or else for its address; each
    command of a batch counts as one more;
(2) a user whose commands in a batch are too many gets ``rate_limited`` for all of them, so their order is kept;
(3) a request that a client with a public key posts is refused unless it is signed, before anything reads its body.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from api.http.asgi import HTTPScope
from api.http.commands import HashedCommand
from api.http.problems import Problem, rate_limited
from api.http.requests import Request, headers_of, read_body
from api.identity.clients import is_client_id
from api.identity.identity import Identity
from api.limits.addresses import AnyNetwork, address_of
from api.limits.limits import Limits
from api.limits.signatures import BadSignature, SignedRequests

Element = HashedCommand | Problem
_UNSIGNED: Final = frozenset({"GET", "HEAD"})


class Limiter:
    """All methods raise Problem ``rate_limited``."""

    def __init__(self, limits: Limits, signed: SignedRequests, trusted_proxies: Sequence[AnyNetwork] = ()) -> None:
        self.limits, self._signed, self._trusted_proxies = limits, signed, tuple(trusted_proxies)

    def count_unidentified(self, scope: HTTPScope) -> str:
        """Count a request whose sender is not known. Returns its address, for ``give_back``."""
        address = address_of(scope, self._trusted_proxies)
        if limited := self.limits.spend_address(address):
            raise rate_limited(limited)
        return address

    def give_back(self, address: str) -> None:
        """The sender turned out to be known."""
        self.limits.give_back_address(address)

    def count(self, identity: Identity) -> None:
        """Count a request for its sender."""
        if limited := self.limits.spend(identity):
            raise rate_limited(limited)

    def count_user(self, request: Request[Any, Any]) -> None:
        """Count it for the user in its path."""
        user_id = getattr(request.path, "user_id", None)
        if user_id is not None and (limited := self.limits.spend_user(request.identity, user_id)):
            raise rate_limited(limited)

    def count_command(self, identity: Identity, user_id: str) -> None:
        """Count a command for its user; its request is counted already."""
        if limited := self.limits.spend_user(identity, user_id):
            raise rate_limited(limited)

    def count_commands(self, identity: Identity, elements: Sequence[Element]) -> list[Element]:
        """Count the commands of a batch, whose request is counted already: all for their sender, and each for its
        user. Returns the elements, with a Problem for each command of a user who has too many."""
        if len(elements) > 1 and (limited := self.limits.spend(identity, len(elements) - 1)):
            raise rate_limited(limited)
        counts = Counter(element.command.user_id for element in elements if not isinstance(element, Problem))
        refused: dict[str, Problem] = {}
        for user_id, count in counts.items():
            if limited := self.limits.spend_user(identity, user_id, count):
                refused[user_id] = rate_limited(limited)
        if not refused:
            return list(elements)
        return [
            element if isinstance(element, Problem) else refused.get(element.command.user_id, element)
            for element in elements
        ]

    @contextmanager
    def login(self, scope: HTTPScope, client_id: str) -> Iterator[Callable[[], None]]:
        """Within it a secret is checked. It counts as a failed login beforehand; what is yielded is called where the
        secret is wrong, and else the count is given back."""
        address = address_of(scope, self._trusted_proxies)
        if not is_client_id(client_id):
            client_id = ""  # no such client: one bucket for all
        if limited := self.limits.try_login(address, client_id):
            raise rate_limited(limited)
        failures = []
        try:
            yield lambda: failures.append(client_id)
        finally:
            if not failures:
                self.limits.give_back_login(address, client_id)

    async def check_signature(self, request: Request[Any, Any]) -> None:
        """Read the body and check the signature, if the sender's client has a public key. Raises Problem:
        ``unauthenticated``, and those of ``read_body``; SharedUnavailable."""
        identity, scope = request.identity, request.scope
        if identity.public_key is None or scope["method"] in _UNSIGNED:
            return
        body = await read_body(request.receive)
        target = scope["raw_path"], scope["query_string"]
        try:
            await self._signed.check(
                identity.client_id, identity.public_key, scope["method"], target, headers_of(scope), body
            )
        except BadSignature as error:
            raise Problem("unauthenticated", str(error)) from None

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        request.receive = receive
