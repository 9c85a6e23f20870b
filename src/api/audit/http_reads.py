"""What a running service says of its wallets: ``projections.reconcile.Reads`` over HTTP.

One kept-alive connection for each thread that asks.
"""

import json
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from api.audit.sources import CannotAudit

_TIMEOUT_S: Final = 60
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.2
_PAUSE_MOST_S: Final = 5.0
_PAGE: Final = "200"
_LATER: Final = frozenset({429, 503})
_ABSENT: Final = frozenset(
    {"wallet_not_found", "order_not_found", "bet_not_found", "hold_not_found", "transfer_not_found"}
)

Document = dict[str, Any]


class HttpReads:
    """All raise CannotAudit where the service cannot be asked, does not have the read, or answers something else."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._new = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._prefix = parts.path.rstrip("/")
        self._url = url
        self._own = threading.local()
        self._all: list[HTTPConnection] = []

    def wallet(self, user_id: str) -> Document | None:
        return self._get(f"/v1/wallets/{_id(user_id)}")

    def balance_at(self, user_id: str, at_us: int) -> Document | None:
        return self._get(f"/v1/wallets/{_id(user_id)}/balance?at_us={at_us}")

    def history(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page(f"/v1/wallets/{_id(user_id)}/history", cursor)

    def bets(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page(f"/v1/wallets/{_id(user_id)}/bets", cursor)

    def bet(self, user_id: str, bet_id: str) -> Document | None:
        return self._get(f"/v1/wallets/{_id(user_id)}/bets/{_id(bet_id)}")

    def holds(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page(f"/v1/wallets/{_id(user_id)}/holds", cursor)

    def hold(self, user_id: str, hold_id: str) -> Document | None:
        return self._get(f"/v1/wallets/{_id(user_id)}/holds/{_id(hold_id)}")

    def transfer(self, user_id: str, transfer_id: str) -> Document | None:
        return self._get(f"/v1/wallets/{_id(user_id)}/transfers/{_id(transfer_id)}")

    def order(self, user_id: str, order_id: str) -> Document | None:
        return self._get(f"/v1/orders/{_id(user_id)}/{_id(order_id)}")

    def stats(self, user_id: str) -> Document | None:
        return self._get(f"/v1/wallets/{_id(user_id)}/stats")

    def referrals(self, user_id: str) -> Document | None:
        return self._get(f"/v1/wallets/{_id(user_id)}/referrals")

    def accounts(self, _partition: int) -> None:
        """No route tells them; a folder does."""

    def close(self) -> None:
        for connection in self._all:
            connection.close()

    def _page(self, path: str, cursor: str | None) -> Document | None:
        query = {"limit": _PAGE} | ({"cursor": cursor} if cursor is not None else {})
        return self._get(f"{path}?{urlencode(query)}")

    def _get(self, path: str) -> Document | None:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                status, body, retry_after = self._ask(path)
            except (OSError, HTTPException) as error:
                if attempt == _ATTEMPTS:
                    raise CannotAudit(f"{self._url} cannot be asked any more: {error}") from error
                time.sleep(_PAUSE_S * attempt)
                continue
            if status not in _LATER or attempt == _ATTEMPTS:
                return self._document(path, status, body)
            time.sleep(min(float(retry_after) if retry_after.isdigit() else _PAUSE_S * attempt, _PAUSE_MOST_S))
        raise AssertionError("the last attempt answers or raises")

    def _ask(self, path: str) -> tuple[int, bytes, str]:
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._new(self._host, self._port, timeout=_TIMEOUT_S)
            self._all.append(connection)
        try:
            connection.request("GET", self._prefix + path)
            response = connection.getresponse()
            return response.status, response.read(), response.getheader("retry-after", "")
        except (OSError, HTTPException):
            connection.close()  # the next request opens it again
            raise

    def _document(self, path: str, status: int, body: bytes) -> Document | None:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if isinstance(document, dict):
            if status == 200:
                return document
            if status == 404 and document.get("code") in _ABSENT:
                return None
        shown = body[:200].decode(errors="replace")
        raise CannotAudit(f"GET {path} of {self._url} answered {status}: {shown}")


def _id(text: str) -> str:
    return quote(text, safe="")
