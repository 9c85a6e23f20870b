"""The service log on stderr: lines for people, or one JSON object a line for a log store.

Every module logs through the standard library; this module sets the format of a line. A line that was written while a
request was served has the id of the request (``api.http.request_id``), and that of its trace if it is traced. In JSON
the values of ``extra`` are fields of their own; lines for people leave them out, because the message says the same.

Not structlog: it imports rich, and takes 8 MiB of memory in each of the service's three processes.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Final, TextIO

from api.http.request_id import REQUEST_ID, TRACE_ID

LOG_FORMAT: Final = "STAKELOG_LOG_FORMAT"
JSON: Final = "json"

_FIELDS: Final = ("levelname", "name", "message", "request_id")


def set_up_logs(environment: Mapping[str, str]) -> None:
    """Let all loggers of this process write to stderr, from INFO on. Call once, before the first line.

    Each value of ``STAKELOG_LOG_FORMAT`` but ``json`` means text. A wrong value is refused later, when the settings
    are read, with a message that must be readable.
    """
    logging.basicConfig(level=logging.INFO, handlers=[handler_for(environment, sys.stderr)])


def handler_for(environment: Mapping[str, str], stream: TextIO) -> logging.Handler:
    """A handler that writes lines in the format of ``STAKELOG_LOG_FORMAT`` to ``stream``."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_json_lines() if environment.get(LOG_FORMAT) == JSON else _LinesForPeople())
    handler.addFilter(_add_request_id)
    return handler


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = REQUEST_ID.get()
    trace_id = TRACE_ID.get()
    if trace_id is not None:
        record.trace_id = trace_id
    return True


class _LinesForPeople(logging.Formatter):
    """``2026-12-01 09:30:00,123 INFO the message [request id, trace id]``, and the stack of an exception below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s%(in_request)s")

    def format(self, record: logging.LogRecord) -> str:
        request_id, trace_id = getattr(record, "request_id", None), getattr(record, "trace_id", None)
        in_trace = "" if trace_id is None else f", trace {trace_id}"
        record.in_request = "" if request_id is None else f" [request {request_id}{in_trace}]"
        return super().format(record)


def _json_lines() -> logging.Formatter:
    """One JSON object a line. Fields: ``time`` (UTC), ``level``, ``logger``, ``message``, ``request_id`` (null
    outside of requests), ``trace_id`` in traced requests, ``exception`` if the line has one, and the values of
    ``extra``."""
    from pythonjsonlogger.msgspec import MsgspecFormatter

    return MsgspecFormatter(
        _FIELDS,
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
        timestamp="time",
    )
