"""``/v1/wallets/{user_id}/private``: destroys the key of a user's private texts."""

import logging
from typing import Any, Final

from api.http.problems import Problem, unavailable
from api.http.requests import Request, Response
from api.http.service import Service
from api.routes.parameters import OfWallet
from ledger.errors import LedgerError

_log: Final = logging.getLogger(__name__)


async def delete_private(service: Service, request: Request[OfWallet, Any]) -> Response:
    """204 also where there is no key: what was asked for is true."""
    if service.keys is None:
        raise Problem("log_unavailable", "the service has no master key, so it does not open the store of keys")
    user_id = request.path.user_id
    try:
        destroyed = await service.keys.private.destroy(user_id)
    except LedgerError as error:
        raise unavailable(error) from error
    if destroyed:
        _log.info("%s destroyed the key of the private texts of %s", request.identity.client_id, user_id)
    return Response(b"", 204, media_type=None)
