"""The page that shows the OpenAPI document: Litestar's, with the document and the script of the service.

It is generated, because importing Litestar takes longer than importing the whole ledger.
"""

from typing import Any

from litestar.openapi.plugins import ScalarRenderPlugin

from api.openapi.page import DOCUMENT_PATH, SCRIPT_PATH


def documentation_page() -> bytes:
    request: Any = None  # the route of the document does not depend on it
    return _Page().render(request, {"info": {"title": "stakelog"}})


class _Page(ScalarRenderPlugin):
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
