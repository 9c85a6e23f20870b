"""The files of the operator's page.

Invariants:
(1) the name of a file other than the index contains a hash of its bytes, so a browser may keep it without limit;
(2) only the files that are in the folder when it is read for the first time are served: no path is made from a
    request.
"""

import gzip
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

INDEX: Final = "index.html"

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
"""The page loads its own script and style, and sends requests to its own service, and nothing else."""

_MEDIA_TYPES: Final = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
    "txt": b"text/plain; charset=utf-8",
}


class Asset(NamedTuple):
    """One file."""

    body: bytes
    packed: bytes
    """The same, compressed with gzip."""
    media_type: bytes


@cache
def assets() -> dict[str, Asset]:
    """The files by name, compressed once."""
    found = {}
    for file in (files("api.page") / "built").iterdir():
        media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            body = file.read_bytes()
            found[file.name] = Asset(body, gzip.compress(body, mtime=0), media_type)
    return found
