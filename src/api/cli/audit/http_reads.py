"""The reads of a running service: ``projections.auditing.reconcile.port.Reads`` over HTTP. Threads may share it."""

from http import HTTPStatus
from typing import Any, Final

import msgspec

from api.cli.audit.http_records import RECORDS, client_of
from api.cli.audit.sources import CannotAudit
from http_client.login import Credentials
from http_client.paths import page_path, path_of, with_query
from http_client.responses import ClientError, Response, UnexpectedResponse
from projections.auditing.reconcile.port import LEADERS, Unreadable

READS: Final = msgspec.structs.replace(RECORDS, statuses=frozenset({429, 503, 504}))
"""504: the read model may be behind. 502 is not retried: a read that only a balancer refuses is a finding."""
_PAGE: Final = 200
"""The contract's largest page."""
_ABSENT: Final = frozenset(
    {
        *("wallet_not_found", "order_not_found", "bet_not_found", "hold_not_found", "transfer_not_found"),
        "period_not_found",
    }
)
_ABSENT_CODE: Final = frozenset({"not_found"})
"""Of a gift or a referral code. Of a wallet it would mean that the service does not have the read."""
_BROKEN: Final = {(500, "internal_error"), (400, "malformed_request")}
"""The response to a read whose rows make no document. The second: a cursor came from such a row."""

Document = dict[str, Any]


class HttpReads:
    """All methods raise Unreadable if the service reports an internal error or returns invalid JSON; CannotAudit if
    it cannot be reached, does not have the read, or gives another response."""

    has_private = False

    def __init__(self, url: str, credentials: Credentials | None = None) -> None:
        """Raises CannotAudit."""
        self._url = url
        self._client = client_of(url, READS, credentials)

    def wallet(self, user_id: str) -> Document | None:
        return self._get(path_of("wallets", user_id))

    def balance_at(self, user_id: str, at_us: int) -> Document | None:
        return self._get(with_query(path_of("wallets", user_id, "balance"), {"at_us": at_us}))

    def history(self, user_id: str, cursor: str | None) -> Document | None:
        page = self._page(path_of("wallets", user_id, "history"), cursor)
        items = None if page is None else page.get("items")
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict) and isinstance(item.get("data"), dict):  # else reconcile reports it
                item["data"].pop("private", None)
        return page

    def bets(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page(path_of("wallets", user_id, "bets"), cursor)

    def bet(self, user_id: str, bet_id: str) -> Document | None:
        return self._get(path_of("wallets", user_id, "bets", bet_id))

    def holds(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page(path_of("wallets", user_id, "holds"), cursor)

    def hold(self, user_id: str, hold_id: str) -> Document | None:
        return self._get(path_of("wallets", user_id, "holds", hold_id))

    def transfers(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page(path_of("wallets", user_id, "transfers"), cursor)

    def grants(self, user_id: str, cursor: str | None) -> Document | None:
        return self._page(path_of("wallets", user_id, "grants"), cursor)

    def transfer(self, user_id: str, transfer_id: str) -> Document | None:
        return self._get(path_of("wallets", user_id, "transfers", transfer_id))

    def order(self, user_id: str, order_id: str) -> Document | None:
        return self._get(path_of("orders", user_id, order_id))

    def stats(self, user_id: str) -> Document | None:
        return self._get(path_of("wallets", user_id, "stats"))

    def referrals(self, user_id: str) -> Document | None:
        return self._get(path_of("wallets", user_id, "referrals"))

    def gift(self, code: str) -> Document | None:
        return self._get(path_of("gifts", code), _ABSENT_CODE)

    def referral_code(self, code: str) -> Document | None:
        return self._get(path_of("referral-codes", code), _ABSENT_CODE)

    def orders(self, cursor: str | None) -> Document | None:
        return self._page(path_of("orders"), cursor)

    def adjustments(self, cursor: str | None) -> Document | None:
        return self._page(path_of("adjustments"), cursor)

    def leaderboard(self, name: str, asset: str, at_us: int) -> Document | None:
        query: dict[str, str | int | None] = {"asset": asset, "at_us": at_us, "limit": LEADERS}
        return self._get(with_query(path_of("leaderboards", name), query))

    def games(self) -> set[str] | None:
        document = self._get(path_of("games"))
        try:
            return {str(item["game"]) for item in (document or {})["items"]}
        except (KeyError, TypeError) as error:
            raise CannotAudit(f"GET /v1/games of {self._url} is not a list of games: {error!r}") from error

    def periods(self, game: str, cursor: str | None) -> Document | None:
        return self._page(path_of("games", game, "periods"), cursor)

    def period(self, game: str, period: str) -> Document | None:
        return self._get(path_of("games", game, "periods", period))

    def house(self, asset: str, from_us: int, to_us: int) -> Document | None:
        return self._get(with_query(path_of("house"), {"asset": asset, "from_us": from_us, "to_us": to_us}))

    def accounts(self, _partition: int) -> None:
        """No route returns them; only a folder has them."""

    def users(self, _partition: int) -> None:
        """No route returns them; only a folder has them."""

    def close(self) -> None:
        self._client.close()

    def _page(self, path: str, cursor: str | None) -> Document | None:
        return self._get(page_path(path, {}, limit=_PAGE, cursor=cursor))

    def _get(self, path: str, absent: frozenset[str] = _ABSENT) -> Document | None:
        try:
            response = self._client.get(path)
        except ClientError as error:
            raise CannotAudit(f"{self._url} cannot be read any more: {error}") from error
        if response.status == HTTPStatus.OK and response.is_json:
            return _document(response)
        code = response.problem.code if response.problem is not None else None
        if response.status == HTTPStatus.NOT_FOUND and code in absent:
            return None
        if (response.status, code) in _BROKEN:
            raise Unreadable(f"returned status {response.status}: {response.shown}")
        raise CannotAudit(f"GET {path} of {self._url} returned status {response.status}: {response.shown}")


def _document(response: Response) -> Document:
    """Raises Unreadable."""
    try:
        document = response.json()
    except UnexpectedResponse as error:
        raise Unreadable(f"it is not JSON: {error.__cause__}") from error
    if not isinstance(document, dict):
        raise Unreadable(f"it is not a JSON object: {response.shown}")
    return document
