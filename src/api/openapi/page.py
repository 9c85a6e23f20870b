"""What ``/schema`` serves: the document as JSON, and a page that shows it, with its script.

All of it comes from files of the package: the page loads nothing from another host, and its Content-Security-Policy
says so to the browser.
"""

import gzip
from functools import cache
from importlib.resources import files
from typing import Any, Final

from litestar.openapi.plugins import ScalarRenderPlugin

DOCUMENT: Final = "document.json"
_SCRIPT: Final = "scalar.js.gz"
SCRIPT_PATH: Final = "/schema/scalar.js"
DOCUMENT_PATH: Final = "/schema"

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"
)
"""The page has a script of a few lines and styles in itself: hence 'unsafe-inline'."""


class _Page(ScalarRenderPlugin):
    """Litestar's page, with the document and the script of this service."""

    def __init__(self) -> None:
        super().__init__(
            js_url=SCRIPT_PATH,
            css_url="data:text/css,",  # without one Litestar's own would be loaded, from another host
            favicon='<link rel="icon" href="data:,">',
            options={
                "withDefaultFonts": False,
                "telemetry": False,
                "agent": {"disabled": True},
                "mcp": {"disabled": True},
                "hideClientButton": True,
            },
        )

    @staticmethod
    def get_openapi_json_route(request: Any) -> str:  # noqa: ARG004 - it is always the same
        return DOCUMENT_PATH


@cache
def document() -> bytes:
    """The document, as JSON."""
    return _read(DOCUMENT)


@cache
def page() -> bytes:
    """The page, as HTML."""
    request: Any = None  # the route of the document does not depend on it
    return _Page().render(request, {"info": {"title": "stakelog"}})


@cache
def packed_script() -> bytes:
    """The page's script, compressed with gzip."""
    return _read(_SCRIPT)


def script() -> bytes:
    return gzip.decompress(packed_script())


def _read(name: str) -> bytes:
    return (files("api.openapi") / name).read_bytes()
