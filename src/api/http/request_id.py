"""The id of each request. It is in the response, in the log lines that are written while the request is served, and
in the problem ``internal_error``.

A caller may choose the id, so that a request has the same id in several services. Otherwise this process makes one.
"""

import re
from collections.abc import Iterable
from contextvars import ContextVar
from itertools import count
from secrets import token_hex
from typing import Final

HEADER: Final = b"x-request-id"
_CHOSEN: Final = re.compile(rb"[A-Za-z0-9._:-]{1,64}").fullmatch
"""The ids that are accepted from a caller. Others could forge log lines, or make them long."""

_PROCESS: Final = token_hex(6)
_numbers: Final = count(1)

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("REQUEST_ID", default=None)
"""The id of the request that the current task serves; None outside of requests."""

TRACE_ID: Final[ContextVar[str | None]] = ContextVar("TRACE_ID", default=None)
"""The id of that request's trace; None if it is not traced."""


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns the caller's id if ``_CHOSEN`` matches it, otherwise a new one: a random part that is the same for the
    whole process, and a number.

    ``headers``: of the request, with names in lower case.
    """
    for name, value in headers:
        if name == HEADER and _CHOSEN(value):
            return value.decode()
    return f"{_PROCESS}-{next(_numbers):x}"
