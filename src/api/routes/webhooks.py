"""``/v1/webhooks``: list, add, change, rotate, delete; dead letters and replays."""

import logging
from typing import Any, Final

from api.http.bodies import encode
from api.http.problems import Problem, unavailable
from api.http.requests import NO_STORE, Request, Response
from api.http.service import Service
from api.http.webhook_bodies import (
    AddedWebhook,
    DeadLetter,
    DeadLetters,
    ListedWebhook,
    NewWebhookBody,
    ReplayBody,
    Revived,
    RevivedBody,
    RotatedWebhook,
    Webhook,
    WebhookBody,
    WebhookRotateBody,
)
from api.http.webhook_bodies import Webhooks as WebhooksBody
from api.routes.parameters import DeadLettersQuery, OfWebhook
from api.webhooks.guard import AddressRefused
from api.webhooks.ports import Endpoint, Letter
from api.webhooks.webhooks import Listed, TooManyEndpoints, Webhooks
from ledger.core.position import Position
from ledger.errors import LogDamaged, LogUnavailable
from projections.reads.cursors import List, MalformedCursor, read_cursor, write_cursor
from projections.tables.queries import Cursor

_log: Final = logging.getLogger(__name__)


async def get_webhooks(service: Service, _request: Request[Any, Any]) -> Response:
    listed = await _webhooks(service).listed()
    return Response(encode(WebhooksBody([_listed(one) for one in listed])), headers=NO_STORE)


async def post_webhook(service: Service, request: Request[Any, Any]) -> Response:
    body: NewWebhookBody = request.body
    try:
        endpoint, secret = await _webhooks(service).add(
            body.url, body.types, body.give_up_s, body.enabled, from_start=body.from_start
        )
    except AddressRefused as refused:
        raise Problem("malformed_request", f"url: {refused}", field="url") from None
    except TooManyEndpoints as refused:
        raise Problem("too_many_webhooks", str(refused)) from None
    except (LogUnavailable, LogDamaged) as error:
        raise unavailable(error) from error
    _log.info("%s added the webhook %s", request.identity.client_id, endpoint.endpoint_id)
    added = AddedWebhook(**_members(endpoint), secret=secret)
    return Response(encode(added), 201, NO_STORE)


async def post_webhook_change(service: Service, request: Request[OfWebhook, Any]) -> Response:
    body: WebhookBody = request.body
    webhook_id = request.path.webhook_id
    try:
        changed = await _webhooks(service).change(webhook_id, body.url, body.types, body.give_up_s, body.enabled)
    except AddressRefused as refused:
        raise Problem("malformed_request", f"url: {refused}", field="url") from None
    if changed is None:
        raise _not_found(webhook_id)
    _log.info("%s changed the webhook %s", request.identity.client_id, webhook_id)
    return Response(encode(Webhook(**_members(changed))), headers=NO_STORE)


async def delete_webhook(service: Service, request: Request[OfWebhook, Any]) -> Response:
    webhook_id = request.path.webhook_id
    if not await _webhooks(service).delete(webhook_id):
        raise _not_found(webhook_id)
    _log.info("%s deleted the webhook %s", request.identity.client_id, webhook_id)
    return Response(b"", 204, (), None)


async def post_webhook_rotation(service: Service, request: Request[OfWebhook, Any]) -> Response:
    body: WebhookRotateBody = request.body
    webhook_id = request.path.webhook_id
    secret = await _webhooks(service).rotate(webhook_id, body.grace_s)
    if secret is None:
        raise _not_found(webhook_id)
    _log.info("%s gave the webhook %s a new secret", request.identity.client_id, webhook_id)
    return Response(encode(RotatedWebhook(webhook_id, secret)), headers=NO_STORE)


async def get_dead_letters(service: Service, request: Request[OfWebhook, DeadLettersQuery]) -> Response:
    webhook_id, query = request.path.webhook_id, request.query
    of: List = ("dead-letters", webhook_id, {})
    after = None
    if query.cursor is not None:
        try:
            partition, seq = read_cursor(query.cursor, of, "ii", 0).after
        except MalformedCursor as error:
            raise Problem("malformed_request", f"cursor: {error}", field="cursor") from None
        after = (int(partition), int(seq))
    found = await _webhooks(service).dead_letters(webhook_id, after, query.limit + 1)
    if found is None:
        raise _not_found(webhook_id)
    page, cursor = found[: query.limit], None
    if len(found) > query.limit:
        cursor = write_cursor(of, Cursor((page[-1].partition, page[-1].seq), ()))
    return Response(encode(DeadLetters([_dead(letter) for letter in page], cursor)), headers=NO_STORE)


async def post_dead_letters(service: Service, request: Request[OfWebhook, Any]) -> Response:
    body: RevivedBody = request.body
    webhook_id = request.path.webhook_id
    positions: set[Position] | None = None
    if body.positions is not None:
        positions = {*map(Position.parse, body.positions)}
    revived = await _webhooks(service).revive(webhook_id, positions)
    if revived is None:
        raise _not_found(webhook_id)
    _log.info("%s sends %d dead letters of %s again", request.identity.client_id, revived, webhook_id)
    return Response(encode(Revived(revived)))


async def post_replay(service: Service, request: Request[OfWebhook, Any]) -> Response:
    body: ReplayBody = request.body
    webhook_id, partitions = request.path.webhook_id, service.node.partitions
    positions = [Position.parse(text) for text in body.positions]
    from_seqs = dict(positions)
    if len(from_seqs) < len(positions):
        raise Problem("malformed_request", "positions names a partition twice", field="positions")
    if max(from_seqs) >= partitions:
        detail = f"positions: partitions are 0 to {partitions - 1}"
        raise Problem("malformed_request", detail, field="positions")
    if not await _webhooks(service).rewind(webhook_id, from_seqs):
        raise _not_found(webhook_id)
    _log.info("%s replays %s from %s", request.identity.client_id, webhook_id, ", ".join(body.positions))
    return Response(b"", 204, (), None)


def _webhooks(service: Service) -> Webhooks:
    """Raises Problem ``not_found``."""
    if service.webhooks is None:
        raise Problem("not_found", "the service has no master key, so it cannot keep the secrets of webhooks")
    return service.webhooks


def _not_found(webhook_id: str) -> Problem:
    return Problem("not_found", f"there is no webhook {webhook_id}")


def _members(endpoint: Endpoint) -> dict[str, Any]:
    """Of ``Webhook``."""
    members = {name: getattr(endpoint, name) for name in Webhook.__struct_fields__ if name != "webhook_id"}
    return {"webhook_id": endpoint.endpoint_id, **members}


def _listed(one: Listed) -> ListedWebhook:
    totals = one.totals
    cursors = [str(Position(partition, seq)) for partition, seq in enumerate(totals.cursors)]
    return ListedWebhook(**_members(one.endpoint), waiting=totals.waiting, dead_letters=totals.dead, cursors=cursors)


def _dead(letter: Letter) -> DeadLetter:
    return DeadLetter(
        str(Position(letter.partition, letter.seq)),
        letter.user_id,
        letter.type,
        letter.time_us,
        letter.attempts,
        letter.first_at_us,
        letter.next_at_us,
        letter.error,
    )
