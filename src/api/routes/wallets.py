"""``/v1/wallets``: for now the wallet as its writer knows it."""

import asyncio
import re
import time
from typing import Any, Final

from litestar import Request, Response, get

from api.contract import encode, read_user_id, wallet_body
from api.http import ids_of
from api.problems import Problem, problem_of
from api.query import Query
from ledger.node import Node
from ledger.tickets import Failed

_POSITION: Final = re.compile(r"(0|[1-9][0-9]{0,3}):(0|[1-9][0-9]{0,15})")
_LOOK_AGAIN_S: Final = 0.005


def wallet_routes(node: Node) -> list[Any]:
    """The handlers, bound to the node they ask."""

    @get("/v1/wallets/{user_id:str}")
    async def get_wallet(request: Request[Any, Any, Any]) -> Response[bytes]:
        query = Query(request.scope["query_string"], ("consistency", "min_position", "timeout_ms"))
        query.choice("consistency", ("strong",))
        (user_id,) = ids_of(request.scope, "/v1/wallets/", 1)
        read_user_id(user_id)
        await _reach(node, user_id, query)
        read = await node.wallet(user_id)
        if isinstance(read, Failed):
            raise problem_of(read)
        if read.wallet.status == "none":
            raise Problem("wallet_not_found", f"the wallet {user_id} was never opened")
        return Response(encode(wallet_body(read)), media_type="application/json")

    return [get_wallet]


async def _reach(node: Node, user_id: str, query: Query) -> None:
    """Wait until the wallet's partition has reached ``min_position``. Raises Problem ``not_yet_visible``."""
    timeout_ms = query.integer("timeout_ms", 2_000, 0, 10_000)
    asked = query.text("min_position")
    if asked is None:
        return
    writer = node.writer_of(user_id)
    least = 0
    for text in asked.split(","):
        match = _POSITION.fullmatch(text)
        if match is None:
            raise Problem("malformed_request", f"{text!r} is not a position", field="min_position")
        if int(match[1]) != writer.partition:
            detail = f"the answer draws on partition {writer.partition} only, not on {match[1]}"
            raise Problem("malformed_request", detail, field="min_position")
        least = max(least, int(match[2]))
    deadline = time.monotonic() + timeout_ms / 1000
    while writer.head.seq < least:
        if time.monotonic() >= deadline:
            detail = f"partition {writer.partition} is at seq {writer.head.seq}, {least} was asked for"
            raise Problem("not_yet_visible", detail, position=f"{writer.partition}:{writer.head.seq}")
        await asyncio.sleep(_LOOK_AGAIN_S)
