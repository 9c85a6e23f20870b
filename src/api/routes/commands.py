"""``/v1/commands``: one command, a batch, and the first response to a command."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Final

from api.http.bodies import dry_run_result_of, encode_batch, encode_result, encode_results
from api.http.commands import HashedCommand, read_actor, read_batch, read_command, refuse_malformed_period
from api.http.metrics import outcome_of
from api.http.private import Sent, encrypt, refuse_without_keys, visible_responses, withhold
from api.http.problems import Problem, problem_of
from api.http.requests import NO_STORE, Request, Response, headers_of, read_body, require_json, response_of
from api.http.service import Service
from api.routes.parameters import OfCommand, PostQuery
from ledger.writer.requests import Accepted, AnyResponse, DryRunAccepted, Failed, IdReused, OtherGame, Refused

_HIT: Final = ((b"idempotency-hit", b"true"),)
_ACTOR: Final = b"stakelog-actor"
_NOT_KNOWN: Final = (
    "it cannot be determined now whether the command was accepted: ask again, or repeat it with the same command_id"
)


async def post_command(service: Service, request: Request[Any, PostQuery]) -> Response:
    headers = _json_headers(request)
    hashed = read_command(await read_body(request.receive))
    refuse_malformed_period(hashed.command, service.node.rules.games)
    actor = _actor(request, headers)
    if problem := _refusal(service, request, hashed):
        raise problem
    service.gate.count_command(request.identity, hashed.command)
    dry_run = request.query.dry_run
    sent = await encrypt(service.keys, [hashed], actor, dry_run=dry_run)
    command, request_sha256 = sent.commands[0]
    answer = await service.node.post(
        command, request_sha256, actor, dry_run=dry_run, games=request.identity.games, span=request.span
    )
    service.metrics.count(outcome_of(answer))
    (answer,) = await visible_responses(service.keys, request.identity, [answer], sent)
    return _response(answer)


async def post_batch(service: Service, request: Request[Any, PostQuery]) -> Response:
    headers = _json_headers(request)
    elements = [
        element if isinstance(element, Problem) else _refusal(service, request, element) or element
        for element in _checked(service, read_batch(await read_body(request.receive)))
    ]
    actor = _actor(request, headers)
    elements = service.gate.count_commands(request.identity, elements)
    dry_run = request.query.dry_run
    try:
        sent = await encrypt(service.keys, _commands_of(elements), actor, dry_run=dry_run)
    except Problem as problem:
        elements = withhold(elements, problem)
        sent = Sent(_commands_of(elements))
    decided = await service.node.post_many(
        sent.commands, actor, dry_run=dry_run, games=request.identity.games, span=request.span
    )
    answers = iter(await visible_responses(service.keys, request.identity, decided, sent))
    merged = [element if isinstance(element, Problem) else next(answers) for element in elements]
    service.metrics.count_all(merged)
    return Response(encode_batch(merged))


def _commands_of(elements: Iterable[HashedCommand | Problem]) -> list[HashedCommand]:
    return [element for element in elements if not isinstance(element, Problem)]


def _checked(service: Service, elements: list[HashedCommand | Problem]) -> Iterator[HashedCommand | Problem]:
    """The elements; one that names a period that its game does not have is a Problem."""
    for element in elements:
        try:
            if not isinstance(element, Problem):
                refuse_malformed_period(element.command, service.node.rules.games)
            yield element
        except Problem as problem:
            yield problem


async def get_command(service: Service, request: Request[OfCommand, Any]) -> Response:
    """Any failure is ``outcome_unknown``: the other codes say that nothing was written, and a client would take that
    for the outcome of the command that it asks about."""
    path = request.path
    try:
        async with asyncio.timeout_at(request.wait_until_s):
            first = await service.node.first_response(path.user_id, path.command_id)
    except TimeoutError:
        raise Problem("outcome_unknown", _NOT_KNOWN) from None
    if first is None:
        raise Problem("not_found", f"the wallet {path.user_id} has accepted no command {path.command_id}")
    if isinstance(first, Failed):
        raise Problem("outcome_unknown", _NOT_KNOWN)
    (visible,) = await visible_responses(service.keys, request.identity, [first])
    if not isinstance(visible, Accepted):
        raise Problem("outcome_unknown", _NOT_KNOWN)
    return Response(encode_result(visible), headers=NO_STORE)


def _actor(request: Request[Any, Any], headers: dict[bytes, bytes]) -> str:
    """The client of the token; while login is off, the actor in the header. Raises Problem ``malformed_request``."""
    identity = request.identity
    return read_actor(headers.get(_ACTOR)) if identity.role is None else identity.client_id


def _refusal(service: Service, request: Request[Any, Any], hashed: HashedCommand) -> Problem | None:
    """The problem if the service has no keys for the command's private texts, or its sender may not post it."""
    return refuse_without_keys(service.keys, hashed) or service.gate.refuse_command(request.identity, hashed.command)


def _json_headers(request: Request[Any, Any]) -> dict[bytes, bytes]:
    headers = headers_of(request.scope)
    if _ACTOR in headers and sum(name == _ACTOR for name, _ in request.scope["headers"]) > 1:
        raise Problem("malformed_request", "Stakelog-Actor is given twice", field="Stakelog-Actor")
    require_json(headers)
    return headers


def _response(answer: AnyResponse) -> Response:
    match answer:
        case Accepted(hit=False):
            return Response(encode_result(answer), 201)
        case Accepted():
            return Response(encode_result(answer), headers=_HIT)
        case DryRunAccepted():
            return Response(encode_results(dry_run_result_of(answer)))
        case Refused() | OtherGame() | IdReused() | Failed():
            return response_of(problem_of(answer))
        case _:
            raise AssertionError(answer)
