"""Access tokens of one client: made when the first request needs one, and again before they end."""

from __future__ import annotations

import ssl
import threading
import time
from pathlib import Path
from typing import Final

import httpx
import msgspec
from msgspec import Struct

from http_client.responses import BadLogin, NoUsableResponse, Response
from http_client.retry import BUSY

_PATH: Final = "/v1/auth/token"
_MARGIN_S: Final = 60.0
"""A token is renewed this long before it ends. Chosen: longer than a request takes."""
_TIMEOUT_S: Final = 30.0


class Credentials(Struct, frozen=True):
    """A client's, as the service shows them once: other members of that response are ignored."""

    client_id: str
    client_secret: str


class _Token(Struct):
    access_token: str
    expires_in: float


def read_credentials(path: Path) -> Credentials:
    """From a file with ``{"client_id":…,"client_secret":…}``. Raises BadLogin."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Credentials)
    except OSError as error:
        raise BadLogin(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise BadLogin(
            f'{path} is not {{"client_id":…,"client_secret":…}}, as `POST /v1/clients` returns it'
        ) from error


class Login:
    """Threads may share it: one of them logs in, the others wait."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        """``url``: http(s)://host:port."""
        self._url, self._credentials = url.rstrip("/"), credentials
        self._lock = threading.Lock()
        self._header = ""
        self._until_s = 0.0

    @property
    def is_current(self) -> bool:
        """Whether ``header`` returns at once."""
        return time.monotonic() < self._until_s

    def header(self) -> str:
        """The value of ``Authorization``. Blocks while it logs in. Raises NoUsableResponse, UnexpectedResponse."""
        with self._lock:
            if not self.is_current:
                token = self._log_in()
                self._header = f"Bearer {token.access_token}"
                self._until_s = time.monotonic() + token.expires_in - _MARGIN_S
            return self._header

    def _log_in(self) -> _Token:
        # The machine's own certificates, as `Client` uses them.
        verify = ssl.create_default_context() if self._url.startswith("https") else False
        try:
            with httpx.Client(verify=verify, trust_env=False, timeout=_TIMEOUT_S) as client:
                got = client.post(f"{self._url}{_PATH}", json=msgspec.to_builtins(self._credentials))
        except httpx.HTTPError as error:
            raise NoUsableResponse(
                f"the login at {self._url} failed: {type(error).__name__} {error}".rstrip()
            ) from error
        headers = {name.lower(): value for name, value in got.headers.items()}
        response = Response("POST", _PATH, got.status_code, headers, got.content)
        if response.status in BUSY:
            raise NoUsableResponse(f"the login returned status {response.status}: {response.shown}", response)
        return msgspec.json.decode(response.expect(200).body, type=_Token)
