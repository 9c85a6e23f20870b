"""A response of the service, its problem document, and the errors of the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

SHOWN_CHARACTERS: Final = 200
"""How much of a body an error message quotes. Chosen."""


class ClientError(Exception):
    """Base of all errors of this client; the message is one sentence for the operator."""


class BadAddress(ClientError):
    """The URL is not http(s)://host:port."""


class BadLogin(ClientError):
    """The file of a client's credentials cannot be used."""


class NoUsableResponse(ClientError):
    """No connection, no response in time, or a status that asks for a retry (`response`)."""

    def __init__(self, why: str, response: Response | None = None) -> None:
        super().__init__(why)
        self.response = response


class UnexpectedResponse(ClientError):
    """A response that the contract does not have."""

    def __init__(self, why: str, response: Response) -> None:
        super().__init__(why)
        self.response = response


class Problem(Struct, frozen=True):
    """An `application/problem+json` document (RFC 9457). `code` is the contract's name of the problem."""

    code: str
    status: int = 0
    title: str = ""
    detail: str = ""


class Response(Struct, frozen=True):
    """A whole response. The names in `headers` are in lower case."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    def expect(self, *statuses: int) -> Response:
        """This response if its status is one of `statuses`. Raises UnexpectedResponse."""
        if self.status in statuses:
            return self
        raise UnexpectedResponse(f"{self.method} {self.path} returned status {self.status}: {self.shown}", self)

    def json(self) -> Any:
        """The decoded body. Raises UnexpectedResponse."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UnexpectedResponse(f"{self.method} {self.path} did not return JSON: {self.shown}", self) from error

    @property
    def problem(self) -> Problem | None:
        """The problem document of a refusal; None if the body is no such document."""
        try:
            return msgspec.json.decode(self.body, type=Problem)
        except (msgspec.DecodeError, RecursionError):
            return None

    @property
    def is_json(self) -> bool:
        """Whether the service calls the body JSON."""
        return "json" in self.headers.get("content-type", "")

    @property
    def retry_after_s(self) -> float | None:
        """The pause that the service names in `Retry-After`, in seconds; None without one."""
        text = self.headers.get("retry-after", "")
        return float(text) if text.isascii() and text.isdigit() else None

    @property
    def shown(self) -> str:
        """The beginning of the body, for a message."""
        return self.body[:SHOWN_CHARACTERS].decode(errors="replace")
