"""Debian's Chromium on the operator's page, driven by Playwright.

with Browser() as browser:
    with browser.page(service.url, "meera", "secret", theme="dark", width=390) as page:
        page.tab("Games")
        page.get_by_role("button", name="Send command").click()

A page fails its test where the browser reports an error, or that the Content-Security-Policy was broken. Screenshots
are kept in ``build/page/screenshots``.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from playwright.sync_api import Browser as AnyBrowser
from playwright.sync_api import Locator, Page, Route, expect, sync_playwright

from deploy.local.install import ROOT, find, install

SCREENSHOTS: Final = ROOT / "build" / "page" / "screenshots"
AXE: Final = (ROOT / "tests" / "fixtures" / "axe.min.js").read_text("utf-8")
THEMES: Final = ("light", "dark")
DESK: Final = 1280
PHONE: Final = 390
WITHIN_MS: Final = 30_000
"""Chosen: a loaded machine needs longer than a user would wait."""
_RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")


class OperatorsPage:
    """One tab of the browser, with cookies of its own."""

    def __init__(self, page: Page, url: str, name: str) -> None:
        """``name``: of its screenshots."""
        self.page, self.url, self._name = page, f"{url}/admin", name
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if self._is_error(message) else None)

    def _is_error(self, message: Any) -> bool:
        # The browser reports each response with a problem, and each lost connection; tests look at the page.
        reported = ("Failed to load resource", "WebSocket connection to ")
        return message.type == "error" and not message.text.startswith(reported)

    def open(self, tab: str = "") -> None:
        self.page.goto(f"{self.url}#/{tab}")

    def log_in(self, client_id: str, secret: str) -> None:
        self.field("Client").fill(client_id)
        self.field("Secret").fill(secret)
        self.button("Log in").click()

    def tab(self, title: str) -> None:
        self.page.get_by_role("navigation").get_by_role("link", name=title, exact=True).click()
        expect(self.page.get_by_role("heading", level=1, name=title)).to_be_visible()

    def lose_first_response(self) -> list[Any]:
        """The service gets the next command, and the page gets no response to it. Returns a list: the body of this
        command and of each one after it, as they are sent."""
        sent = list[Any]()

        def lose(route: Route) -> None:
            sent.append(route.request.post_data_json)
            if len(sent) == 1:
                assert route.fetch().status == 201
                route.abort()
            else:
                route.continue_()

        self.page.route("**/v1/commands", lose)
        return sent

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True)

    def table(self, label: str) -> Locator:
        return self.page.get_by_role("region", name=label, exact=True)

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def screenshot(self, what: str) -> Path:
        path = SCREENSHOTS / f"{what}-{self._name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path

    def check(self, what: str) -> None:
        """Take a screenshot; everything fits into the width, and axe finds no violation of WCAG 2.2 AA."""
        self.screenshot(what)
        width = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], f"{what} is {width[0]} px wide on a screen of {width[1]}"
        self.page.evaluate(AXE)
        found = self.page.evaluate("rules => axe.run(document, {runOnly: rules})", list(_RULES))
        assert found["passes"], "axe examined nothing"
        violations = [
            f"{violation['id']}: {node['html']}: {node['failureSummary']}"
            for violation in found["violations"]
            for node in violation["nodes"]
        ]
        assert not violations, "\n".join((what, *violations))


class Browser:
    """The browser. Chromium is installed if it is missing; a browser that cannot start is a failure, never a skip."""

    def __enter__(self) -> Self:
        install(["browser"])
        program = find("chromium")
        assert program is not None
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self._playwright = sync_playwright().start()
        # Without its sandbox, because root may not have one; the only pages it opens are ours.
        arguments: Sequence[str] = ("--no-sandbox",) if os.geteuid() == 0 else ()
        self._browser: AnyBrowser = self._playwright.chromium.launch(executable_path=program, args=[*arguments])
        expect.set_options(timeout=WITHIN_MS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._browser.close()
        self._playwright.stop()

    @contextmanager
    def page(
        self, url: str, client_id: str | None = None, secret: str = "", *, theme: str = "light", width: int = DESK
    ) -> Iterator[OperatorsPage]:
        """``client_id``: who logs in; None: the page is not open yet."""
        scheme: Any = theme
        context = self._browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        context.set_default_timeout(WITHIN_MS)
        found = OperatorsPage(context.new_page(), url, f"{theme}-{width}")
        if client_id is not None:
            found.open()
            found.log_in(client_id, secret)
            expect(found.page.get_by_role("navigation")).to_be_visible()
        try:
            yield found
        except BaseException:
            found.screenshot("failed")
            raise
        finally:
            context.close()
        assert not found.errors, found.errors
