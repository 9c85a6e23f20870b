"""The log of a process on stderr: lines for people, or one JSON object a line for a log store.

Every module logs through the standard library; what is set up here decides how a line looks. A line that was written
while a request was served has the request's id (`api.http.request_id`). Values given as ``extra`` are fields of their
own in JSON; lines for people leave them out, because their message says the same.

Not structlog: importing it takes 8 MiB in each of the service's three processes, because it imports rich.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Final, TextIO

from api.http.request_id import REQUEST_ID

LOG_FORMAT: Final = "STAKELOG_LOG_FORMAT"
JSON: Final = "json"

_FIELDS: Final = ("levelname", "name", "message", "request_id")


def set_up_logs(environment: Mapping[str, str]) -> None:
    """Let all loggers of this process write to stderr, from INFO on. Call once, before the first line.

    A value of ``STAKELOG_LOG_FORMAT`` other than ``json`` means text: the settings, which are read later, refuse a
    wrong one with a message that must be readable.
    """
    logging.basicConfig(level=logging.INFO, handlers=[handler_for(environment, sys.stderr)])


def handler_for(environment: Mapping[str, str], stream: TextIO) -> logging.Handler:
    """What writes the lines to ``stream``."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_json_lines() if environment.get(LOG_FORMAT) == JSON else _LinesForPeople())
    handler.addFilter(_add_request_id)
    return handler


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = REQUEST_ID.get()
    return True


class _LinesForPeople(logging.Formatter):
    """``2026-12-01 09:30:00,123 INFO the message [request id]``, and the trace of an exception below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s%(in_request)s")

    def format(self, record: logging.LogRecord) -> str:
        request_id = getattr(record, "request_id", None)
        record.in_request = "" if request_id is None else f" [request {request_id}]"
        return super().format(record)


def _json_lines() -> logging.Formatter:
    """Fields ``time`` (UTC), ``level``, ``logger``, ``message`` and ``request_id`` (null outside of requests);
    ``exception`` where there is one; and the fields that the line was given."""
    from pythonjsonlogger.msgspec import MsgspecFormatter

    return MsgspecFormatter(
        _FIELDS,
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        timestamp="time",
    )
