"""What a running service says of its wallets: ``projections.auditing.reconcile.run.Reads`` over HTTP.

One kept-alive connection for each thread that asks.
"""

import json
import threading
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from api.cli.audit.sources import CannotAudit
from projections.auditing.reconcile.port import LEADERS
from projections.auditing.reconcile.run import Unreadable

_TIMEOUT_S: Final = 60
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.2
_PAUSE_MOST_S: Final = 5.0
_PAGE: Final = "200"
_SHOWN_MOST: Final = 200
_LATER: Final = frozenset({429, 503})
_ABSENT: Final = frozenset(
    {"wallet_not_found", "order_not_found", "bet_not_found", "hold_not_found", "transfer_not_found"}
)

_BROKEN: Final = {(500, "internal_error"), (400, "malformed_request")}
"""What a read answers whose rows make no document; the second, where a cursor came from one of them."""

Document = dict[str, Any]


class _Answer(NamedTuple):
    status: int
    body: bytes
    is_json: bool
    retry_after: str


class HttpReads:
    """All raise Unreadable where the service says that it is broken, or answers what should be JSON and is not;
    CannotAudit where it cannot be asked, does not have the read, or answers something else."""

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

    def orders(self, cursor: str | None) -> Document | None:
        return self._page("/v1/orders", cursor)

    def leaderboard(self, name: str, asset: str, at_us: int) -> Document | None:
        query = {"asset": asset, "at_us": at_us, "limit": LEADERS}
        return self._get(f"/v1/leaderboards/{_id(name)}?{urlencode(query)}")

    def accounts(self, _partition: int) -> None:
        """No route tells them; a folder does."""

    def users(self, _partition: int) -> None:
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
                answer = self._ask(path)
            except (OSError, HTTPException) as error:
                if attempt == _ATTEMPTS:
                    raise CannotAudit(f"{self._url} cannot be asked any more: {error}") from error
                time.sleep(_PAUSE_S * attempt)
                continue
            if answer.status not in _LATER or attempt == _ATTEMPTS:
                return self._document(path, answer)
            after = answer.retry_after
            time.sleep(min(float(after) if after.isdigit() else _PAUSE_S * attempt, _PAUSE_MOST_S))
        raise AssertionError("the last attempt answers or raises")

    def _ask(self, path: str) -> _Answer:
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._new(self._host, self._port, timeout=_TIMEOUT_S)
            self._all.append(connection)
        try:
            connection.request("GET", self._prefix + path)
            response = connection.getresponse()
            header = response.getheader
            is_json = "json" in header("content-type", "")
            return _Answer(response.status, response.read(), is_json, header("retry-after", ""))
        except (OSError, HTTPException):
            connection.close()  # the next request opens it again
            raise

    def _document(self, path: str, answer: _Answer) -> Document | None:
        status, body, is_json, _ = answer
        shown = body[:_SHOWN_MOST].decode(errors="replace")
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            if status == HTTPStatus.OK and is_json:
                raise Unreadable(f"it is no JSON: {error}") from error
            document = None
        if isinstance(document, dict):
            if status == HTTPStatus.OK:
                return document
            code = document.get("code")
            if status == HTTPStatus.NOT_FOUND and code in _ABSENT:
                return None
            if (status, code) in _BROKEN:
                raise Unreadable(f"answered {status}: {shown}")
        raise CannotAudit(f"GET {path} of {self._url} answered {status}: {shown}")


def _id(text: str) -> str:
    return quote(text, safe="")
