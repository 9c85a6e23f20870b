"""What the handlers of routes use: one of these for the life of the process."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from api.http.gate import AnyGate
from api.http.limiter import Limiter
from api.http.metrics import Metrics
from api.http.samples import Samples
from api.http.tracing import Tracer
from api.http.verification import Verification
from api.identity.keys import Keys
from api.identity.login import Login
from api.webhooks.webhooks import Webhooks
from ledger.core.games.edges import EdgeExceeded
from ledger.node.node import Node
from ledger.operations.seals import SealFile
from ledger.peers.handler import PeerHandler
from ledger.peers.log_view import LogView
from projections.live.hub import Hub
from projections.reads.queries import Reads

AskNode = Callable[[str, int], Awaitable[bytes]]
"""(address, since_us) → JSON of ``api.routes.now.NodeNow``. Raises PeerUnreachable, PeerSilent."""


class Service(NamedTuple):
    """The node, the reads of its read model, and the whole log, of which other nodes may own partitions."""

    node: Node
    reads: Reads
    log: LogView
    address: str
    """Where other nodes reach this one."""
    metrics: Metrics
    samples: Samples
    """The last hour, for the operator's page."""
    verification: Verification
    """The same page starts it."""
    peers: PeerHandler
    """Decides what other nodes forward to this one."""
    seals: SealFile
    """The seals that this node made."""
    gate: AnyGate
    login: Login | None
    """None: ``STAKELOG_AUTH=off``."""
    limiter: Limiter | None
    """The same."""
    hub: Hub
    """The live feeds."""
    keys: Keys | None
    """None: there is no master key, so nothing is signed, and commands have no private texts."""
    webhooks: Webhooks | None = None
    """None: there is no master key."""
    tracer: Tracer | None = None
    """None: nothing is traced."""
    ask_node: AskNode | None = None
    """Asks another node for its last hour; None: there is no other node."""
    edges: Sequence[EdgeExceeded] = ()
    """The games of this node in which commissions and bonuses can cost more than the game wins."""
