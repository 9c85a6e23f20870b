"""``/v1/clients``: list, add, rotate, disable."""

import logging
from typing import Any, Final

from api.http.bodies import encode
from api.http.identity_bodies import (
    AddedClient,
    ListedClient,
    ListedClients,
    NewClientBody,
    RotateBody,
    RotatedClient,
)
from api.http.problems import Problem
from api.http.requests import NO_STORE, Request, Response
from api.http.service import Service
from api.identity.clients import ClientExists, ClientRefused
from api.identity.ports import ChangedBy, Client, IdentityUnavailable, LastAdmin
from api.routes.auth import login_of
from api.routes.parameters import OfClient, RotateQuery

_log: Final = logging.getLogger(__name__)


async def get_clients(service: Service, _request: Request[Any, Any]) -> Response:
    clients = await login_of(service).clients.listed()
    return Response(encode(ListedClients([listed(client) for client in clients])), headers=NO_STORE)


async def post_client(service: Service, request: Request[Any, Any]) -> Response:
    body: NewClientBody = request.body
    try:
        client, secret = await login_of(service).clients.add(
            body.client_id, body.role, body.games, body.types, public_key=body.public_key, by=_by(request)
        )
    except ClientExists as refused:
        raise Problem("client_exists", refused.detail, client_id=body.client_id) from None
    except ClientRefused as refused:
        raise Problem("malformed_request", refused.detail, field=refused.field) from None
    _log.info("%s added the client %s, %s", request.identity.client_id, client.client_id, client.role)
    added = AddedClient(client.client_id, client.role, client.games, client.types, client.public_key, secret)
    return Response(encode(added), 201, NO_STORE)


async def post_rotate(service: Service, request: Request[OfClient, RotateQuery]) -> Response:
    body: RotateBody = request.body
    client_id, grace_s = request.path.client_id, request.query.grace_s
    if grace_s is not None and body.grace_s not in (0, grace_s):
        raise Problem("malformed_request", "grace_s is given twice, in the query and in the body", field="grace_s")
    login = login_of(service)
    secret = await login.clients.rotate(client_id, body.grace_s if grace_s is None else grace_s, _by(request))
    if secret is None:
        raise Problem("not_found", f"there is no client {client_id}, or it is disabled")
    _log.info("%s gave the client %s a new secret", request.identity.client_id, client_id)
    try:
        await login.revocations.read()
    except IdentityUnavailable as error:  # this process reads them later, as the others do; the secret is shown once
        _log.warning("the client %s has a new secret; revocations cannot be read now: %s", client_id, error)
    return Response(encode(RotatedClient(client_id, secret)), headers=NO_STORE)


async def delete_client(service: Service, request: Request[OfClient, Any]) -> Response:
    login = login_of(service)
    client_id = request.path.client_id
    try:
        found = await login.clients.disable(client_id, _by(request))
    except LastAdmin as refused:
        raise Problem("last_admin", str(refused), client_id=client_id) from None
    if not found:
        raise Problem("not_found", f"there is no client {client_id}")
    _log.info("%s disabled the client %s", request.identity.client_id, client_id)
    await login.revocations.read()
    return Response(b"", 204, (), None)


def _by(request: Request[Any, Any]) -> ChangedBy:
    return ChangedBy(request.identity.client_id, "http")


def listed(client: Client) -> ListedClient:
    """The client without its hashes."""
    return ListedClient(
        client.client_id,
        client.role,
        client.games,
        client.types,
        client.public_key,
        client.created_at_us,
        client.secret_since_us,
        client.old_secret_until_us,
        client.disabled_at_us,
    )
