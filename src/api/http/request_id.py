"""The id of each request: in its response, in the log lines that are written while it is served, and in the problem
of an unforeseen failure.

A caller may choose it, so that one id follows a request through several services; else this process makes one.
"""

import re
from collections.abc import Iterable
from contextvars import ContextVar
from itertools import count
from secrets import token_hex
from typing import Final

HEADER: Final = b"x-request-id"
_CHOSEN: Final = re.compile(rb"[A-Za-z0-9._:-]{1,64}").fullmatch
"""Ids that are taken over. Others could forge log lines, or fill them."""

_PROCESS: Final = token_hex(6)
_numbers: Final = count(1)

REQUEST_ID: Final[ContextVar[str | None]] = ContextVar("REQUEST_ID", default=None)
"""The id of the request that the current task serves; None outside of requests."""


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's id if it is usable, else a new one: a random part of this process, and a number.

    ``headers``: of the request, with names in lower case.
    """
    for name, value in headers:
        if name == HEADER and _CHOSEN(value):
            return value.decode()
    return f"{_PROCESS}-{next(_numbers):x}"
