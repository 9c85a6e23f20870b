"""Paths and queries of the public API."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode


def path_of(*parts: str) -> str:
    """`/v1/` and the parts, each quoted: an id may contain any ASCII, `/` and `..` included."""
    return "/v1/" + "/".join(map(_quoted, parts))


def _quoted(part: str) -> str:
    # A URL library resolves the segments "." and ".."; quoted dots reach the service.
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def with_query(path: str, query: Mapping[str, str | int | None]) -> str:
    """The path with the members of `query` that are not None."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, safe=':,')}" if given else path


def page_path(path: str, filters: Mapping[str, str | int | None], *, limit: int, cursor: str | None) -> str:
    """One page of a list: the first one without a cursor, the next one with the `next_cursor` of the last page."""
    return with_query(path, {**filters, "limit": limit, "cursor": cursor})


def events_path(partition: int, from_seq: int, limit: int) -> str:
    """One page of a partition's records."""
    return with_query("/v1/events", {"partition": partition, "from_seq": from_seq, "limit": limit})


def records_of(body: bytes) -> list[bytes]:
    """The records of a page of `/v1/events`, byte for byte."""
    return [line for line in body.split(b"\n") if line]
