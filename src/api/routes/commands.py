"""``/v1/commands``: one, a batch, and the first answer of one."""

from time import perf_counter
from typing import Any, Final

from litestar import Request, Response, get
from litestar.types import ASGIApp, Receive, Scope, Send

from api.http.commands import (
    batch_item,
    dry_run_result_of,
    encode_results,
    read_actor,
    read_batch,
    read_command,
    read_command_id,
    read_user_id,
    result_of,
)
from api.http.metrics import Metrics, outcome_of
from api.http.problems import Problem, problem_of
from api.http.query import Query
from api.http.requests import headers_of, http_scope, read_body, require_json, respond, respond_problem, segments_of
from ledger.node.node import Node
from ledger.writer.requests import Accepted, AnyResponse, DryRunAccepted, Failed, IdReused, Refused

_HIT: Final = ((b"idempotency-hit", b"true"),)
_ACTOR: Final = b"stakelog-actor"


def command_routes(node: Node, metrics: Metrics) -> tuple[dict[str, ASGIApp], list[Any]]:
    """The handlers, bound to the node they ask: those that the rim calls by path itself, and those to be routed."""

    async def post_command(scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        headers = _require_post(scope)
        dry_run = Query(scope["query_string"], ("dry_run",)).flag("dry_run")
        asked = read_command(await read_body(receive))
        actor = read_actor(headers.get(_ACTOR))
        answer = await node.post(asked.command, asked.request_sha256, actor, dry_run=dry_run)
        metrics.count(outcome_of(answer))
        metrics.single_took(began)
        await _respond(send, answer)

    async def post_batch(scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        headers = _require_post(scope)
        dry_run = Query(scope["query_string"], ("dry_run",)).flag("dry_run")
        elements = read_batch(await read_body(receive))
        actor = read_actor(headers.get(_ACTOR))
        commands = [element for element in elements if not isinstance(element, Problem)]
        answers = iter(await node.post_many(commands, actor, dry_run=dry_run))
        merged = [element if isinstance(element, Problem) else next(answers) for element in elements]
        metrics.count_all(merged)
        metrics.batch_took(began)
        await respond(send, 200, encode_results([batch_item(answer) for answer in merged]))

    @get("/v1/commands/{user_id:str}/{command_id:path}")
    async def get_command(request: Request[Any, Any, Any]) -> Response[bytes]:
        Query(request.scope["query_string"], ())
        user_id, command_id = segments_of(request.scope, 4)[2:]
        read_user_id(user_id)
        read_command_id(command_id)
        first = await node.first_answer(user_id, command_id)
        if first is None:
            raise Problem("not_found", f"the wallet {user_id} has accepted no command {command_id}")
        if isinstance(first, Failed):
            raise problem_of(first)
        return Response(encode_results(result_of(first)), media_type="application/json")

    return {"/v1/commands": post_command, "/v1/commands/batch": post_batch}, [get_command]


def _require_post(scope: Scope) -> dict[bytes, bytes]:
    if http_scope(scope)["method"] != "POST":
        raise Problem("method_not_allowed", "only POST is allowed here", allow=["POST"])
    headers = headers_of(scope)
    if _ACTOR in headers and sum(name == _ACTOR for name, _ in scope["headers"]) > 1:
        raise Problem("malformed_request", "Stakelog-Actor stands twice", field="Stakelog-Actor")
    require_json(headers)
    return headers


async def _respond(send: Send, answer: AnyResponse) -> None:
    match answer:
        case Accepted(hit=False):
            await respond(send, 201, encode_results(result_of(answer)))
        case Accepted():
            await respond(send, 200, encode_results(result_of(answer)), _HIT)
        case DryRunAccepted():
            await respond(send, 200, encode_results(dry_run_result_of(answer)))
        case Refused() | IdReused() | Failed():
            await respond_problem(send, problem_of(answer))
        case _:
            raise AssertionError(answer)
