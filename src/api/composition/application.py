"""The ASGI applications of a node: one for clients, and one for other nodes and for operators."""

from typing import Final, NamedTuple

from msgspec.structs import replace

from api.http.application import Rim
from api.http.metrics import Metrics, ReadModelGauges
from api.http.routing import Router
from api.http.service import Service
from api.identity.keys import Keys
from api.routes.peers import PEER_ROUTES
from api.routes.table import ROUTES
from ledger.node.node import Node
from ledger.operations.seals import SealFile
from ledger.peers.handler import PeerHandler
from ledger.peers.log_view import LogView
from projections.reads.queries import Reads

_METRICS: Final = "/metrics"
_OPERATION: Final = ("/healthz", "/readyz", _METRICS)
"""The routes for operators. The probes are public too: a balancer sends requests by them."""


class Applications(NamedTuple):
    """One for each listener."""

    public: Rim
    internal: Rim | None
    """Serves metrics, probes and the routes of nodes; None: metrics are public, and no other node can call."""


def build_applications(
    node: Node,
    reads: Reads,
    read_model: ReadModelGauges,
    address: str,
    log: LogView,
    seals: SealFile,
    *,
    keys: Keys | None = None,
    internal: bool = False,
    cluster_secret: str | None = None,
) -> Applications:
    """The applications that serve ``node``, which other nodes reach at ``address``. ``log``: the log, including the
    partitions that other nodes own. ``keys``: None where there is no master key. ``internal``: whether there is an
    internal listener; ``cluster_secret``: what the calls of other nodes must carry there."""
    service = Service(node, reads, log, address, Metrics(node, read_model), PeerHandler(node), seals, keys)
    if not internal:
        return Applications(Rim(Router(ROUTES), service), None)
    public = Rim(Router(route for route in ROUTES if route.path != _METRICS), service)
    inside = [replace(route, roles=()) for route in ROUTES if route.path in _OPERATION]
    if log.among_others:
        inside += PEER_ROUTES
    return Applications(public, Rim(Router(inside), service, cluster_secret))
