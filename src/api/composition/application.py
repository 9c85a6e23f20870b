"""The ASGI application with all routes of a node."""

from api.http.application import Rim
from api.http.metrics import Metrics, ReadModelGauges
from api.http.routing import Router
from api.http.service import Service
from api.routes.peers import PEER_ROUTES
from api.routes.table import ROUTES
from ledger.node.node import Node
from ledger.operations.seals import SealFile
from ledger.peers.handler import PeerHandler
from ledger.peers.log_view import LogView
from projections.reads.queries import Reads


def build_app(
    node: Node, reads: Reads, read_model: ReadModelGauges, address: str, log: LogView, seals: SealFile
) -> Rim:
    """The application that serves ``node``, which other nodes reach at ``address``. ``log``: the log, including the
    partitions that other nodes own."""
    service = Service(node, reads, log, address, Metrics(node, read_model), PeerHandler(node), seals)
    return Rim(Router((*ROUTES, *PEER_ROUTES) if log.among_others else ROUTES), service)
