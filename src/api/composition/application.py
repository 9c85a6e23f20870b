"""The ASGI applications of a node: one for clients, and one for other nodes and for operators."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from api.http.application import RequestLog, Rim
from api.http.browsers import SECURITY, WITH_TLS, Cors
from api.http.gate import AnyGate, Gate, OpenGate
from api.http.limiter import Limiter
from api.http.metrics import Metrics, ReadModelGauges
from api.http.routing import Router
from api.http.samples import Samples
from api.http.service import AskNode, Service
from api.http.sockets import Sockets
from api.http.tracing import Tracer
from api.http.verification import Verification
from api.identity.keys import Keys
from api.identity.login import Login
from api.nodes.proof import NodeProofs
from api.routes.peers import PEER_ROUTES
from api.routes.table import ROUTES
from api.webhooks.webhooks import Webhooks
from ledger.core.games.edges import exceeded_edges
from ledger.node.node import Node
from ledger.operations.seals import SealFile
from ledger.peers.handler import PeerHandler
from ledger.peers.log_view import LogView
from projections.live.hub import Hub
from projections.reads.queries import Reads

_METRICS: Final = "/metrics"
_OPERATION: Final = ("/healthz", "/readyz", _METRICS)
"""The routes for operators. The probes are public too: a balancer sends requests by them."""


class Listening(Struct, frozen=True, kw_only=True):
    """What the settings say about the listeners, and who may use them."""

    internal: bool = False
    """Whether there is one for other nodes and for operators."""
    cluster_secret: str | None = None
    """The cluster's secret; calls from other nodes prove that they know it."""
    tls: bool = False
    """Whether the one for clients has a certificate."""
    origins: frozenset[str] = frozenset()
    """Whose web pages may read responses; ``*``: all."""
    login: Login | None = None
    """None: ``STAKELOG_AUTH=off``."""
    limiter: Limiter | None = None
    """The same."""
    adjust_max: Mapping[str, int] = {}
    """Asset → what an operator may adjust alone, in minor units; an asset without one has no bound."""
    ask_node: AskNode | None = None
    """Asks another node for its last hour; None: there is no other node."""
    log_folder: Path | None = None
    """The folder of the log; None: it is elsewhere."""
    request_log: RequestLog = RequestLog()
    """Which requests get a line in the log."""
    tracer: Tracer | None = None
    """None: nothing is traced."""


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
    listening: Listening,
    hub: Hub,
    keys: Keys | None = None,
    webhooks: Webhooks | None = None,
) -> Applications:
    """The applications that serve ``node``, which other nodes reach at ``address``. ``log``: the log, including the
    partitions that other nodes own. ``hub``: the live feeds. ``keys``, ``webhooks``: None where there is no
    master key."""
    login, limiter = listening.login, listening.limiter
    gate: AnyGate = OpenGate()
    if login is not None:
        assert limiter is not None, "with login there are limits"
        gate = Gate(login.tokens, login.revocations, limiter, listening.adjust_max)
    metrics = Metrics(
        node,
        read_model,
        hub,
        None if limiter is None else limiter.limits,
        None if login is None else login.tokens,
        webhooks,
    )
    service = Service(
        node=node,
        reads=reads,
        log=log,
        address=address,
        metrics=metrics,
        samples=Samples(metrics),
        verification=Verification(listening.log_folder),
        peers=PeerHandler(node),
        seals=seals,
        gate=gate,
        login=login,
        limiter=limiter,
        hub=hub,
        keys=keys,
        webhooks=webhooks,
        tracer=listening.tracer,
        ask_node=listening.ask_node,
        edges=exceeded_edges(node.rules.games, node.rules.money, node.assets),
    )
    routes = [route for route in ROUTES if not listening.internal or route.path != _METRICS]
    cors = Cors(listening.origins) if listening.origins else None
    router, headers = Router(routes), WITH_TLS if listening.tls else SECURITY
    sockets = Sockets(router, service, headers, listening.origins)
    public = Rim(
        router,
        service,
        headers=headers,
        cors=cors,
        sockets=sockets,
        tracer=listening.tracer,
        request_log=listening.request_log,
    )
    if not listening.internal:
        return Applications(public, None)
    inside = [replace(route, roles=()) for route in ROUTES if route.path in _OPERATION]
    if log.among_others:
        inside += PEER_ROUTES
    # Prometheus and other nodes log in nowhere, and are not limited.
    service = service._replace(gate=OpenGate())
    secret = listening.cluster_secret
    proofs = None if secret is None else NodeProofs(secret, address)
    return Applications(public, Rim(Router(inside), service, proofs=proofs))
