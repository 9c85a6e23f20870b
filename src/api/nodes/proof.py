"""The proof that a call between nodes comes from a node: an HMAC under the cluster's secret.

Nodes call the address that a member of Kafka's group advertises. If their calls carried the secret itself, a stranger
who can join the group would receive it.

Invariants:
(1) the secret is in no request;
(2) a proof is valid for one method, target and body, at one address, for ``VALID_S``: its receiver cannot use it at
    another node;
(3) the head of a request is checked before its body is read; the body while it arrives.
"""

import hmac
from hashlib import sha256
from time import time
from typing import Any, Final

PROOF_HEADER: Final = "stakelog-node-proof"
VALID_S: Final = 30
"""Chosen: nodes whose clocks differ by more than 2 s are not ready, and a call takes some seconds at most."""
_PARTS: Final = 3


class NotProven(Exception):
    """The request has no valid proof; the text is for the caller."""


class NodeProofs:
    """Makes the proofs of calls, and checks those of a node at ``address``, as it advertises itself."""

    def __init__(self, secret: str, address: str = "") -> None:
        self._secret, self._address = secret.encode(), address

    def make(self, address: str, method: str, target: str, body: bytes) -> str:
        """The header's value, for a call to the node that advertises ``address``."""
        now, digest = str(int(time())), sha256(body).hexdigest()
        return f"{now} {digest} {self._mac(address, method, target, now, digest)}"

    def check(self, header: bytes, method: str, target: str) -> "ProvenBody":
        """Check the head of a call, and return what checks its body. Raises NotProven."""
        parts = header.decode("latin-1").split(" ")
        if len(parts) != _PARTS:
            raise NotProven(
                "a call between nodes needs a proof, made with the STAKELOG_CLUSTER_SECRET that all nodes share"
            )
        now, digest, mac = parts
        expected = self._mac(self._address, method, target, now, digest)
        if not hmac.compare_digest(mac.encode("latin-1"), expected.encode()):
            raise NotProven(
                "the proof of this call is wrong: do all nodes share one STAKELOG_CLUSTER_SECRET, and is "
                "STAKELOG_ADVERTISE of each node its own?"
            )
        if abs(int(now) - time()) > VALID_S:
            raise NotProven(f"the proof of this call is older than {VALID_S} s, or a clock is wrong")
        return ProvenBody(digest)

    def _mac(self, address: str, method: str, target: str, now: str, digest: str) -> str:
        text = f"stakelog-node:1\n{address}\n{method}\n{target}\n{now}\n{digest}"
        return hmac.digest(self._secret, text.encode("latin-1", "replace"), "sha256").hex()


class ProvenBody:
    """Checks a body while it arrives."""

    def __init__(self, digest: str) -> None:
        self._digest, self._hash = digest, sha256()

    def add(self, message: Any) -> None:
        """Receive one ASGI message. At the end raises NotProven if the proof was made for another body."""
        self._hash.update(message.get("body", b""))
        if not message.get("more_body") and self._hash.hexdigest() != self._digest:
            raise NotProven("the body of this call is not the body that its proof was made for")
