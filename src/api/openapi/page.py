"""What ``/schema`` serves: the document as JSON, and a page that shows it, with its script.

All of it comes from files of the package: the page loads nothing from another host, and its Content-Security-Policy
says so to the browser.
"""

import gzip
from functools import cache
from importlib.resources import files
from typing import Final

DOCUMENT: Final = "document.json"
_PAGE: Final = "page.html"
_SCRIPT: Final = "scalar.js.gz"
SCRIPT_PATH: Final = "/schema/scalar.js"
DOCUMENT_PATH: Final = "/schema"

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
)
"""The page has a script of a few lines and styles in itself: hence 'unsafe-inline'."""


@cache
def document() -> bytes:
    """The document, as JSON."""
    return _read(DOCUMENT)


@cache
def page() -> bytes:
    """The page, as HTML."""
    return _read(_PAGE)


@cache
def packed_script() -> bytes:
    """The page's script, compressed with gzip."""
    return _read(_SCRIPT)


def script() -> bytes:
    return gzip.decompress(packed_script())


def _read(name: str) -> bytes:
    return (files("api.openapi") / name).read_bytes()
