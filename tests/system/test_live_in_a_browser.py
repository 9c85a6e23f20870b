"""The browser's own EventSource and WebSocket follow a wallet, also over a restart of the service."""

from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Page

from system.browser import Browser
from system.resetting_proxy import ResettingProxy
from system.service import Service

pytestmark = pytest.mark.system

FOLLOW: Final = """
() => {
  window.seen = { events: [], sockets: [] };
  const source = new EventSource("/v1/live?user_id=u1");
  source.addEventListener("bet", (event) => seen.events.push([event.lastEventId, JSON.parse(event.data)]));
  let last = "";
  const follow = () => {
    const query = `user_id=u1${last && `&last_event_id=${last}`}`;
    const socket = new WebSocket(`ws://${location.host}/v1/live/ws?${query}`, ["stakelog"]);
    socket.onmessage = ({ data }) => {
      const { id, event, data: body } = JSON.parse(data);
      last = id || last;
      if (event === "bet") seen.sockets.push([id, body]);
    };
    socket.onclose = () => setTimeout(follow, 100);
  };
  follow();
}
"""


def post(url: str, command_id: str, **fields: Any) -> None:
    command = {"command_id": command_id, "user_id": "u1", **fields}
    assert httpx.post(f"{url}/v1/commands", json=command).status_code == 201


def bet(url: str, number: int) -> None:
    about: dict[str, Any] = {"game": "external", "period": "p", "selection": "s", "asset": "INR", "stake": 10}
    post(url, f"c{number}", type="place_bet", bet_id=f"b{number}", **about)


def wait_for(page: Page, kind: str, *bet_ids: str) -> None:
    """Until these bets have arrived, each once, in this order, and nothing else."""
    page.wait_for_function("([kind, count]) => seen[kind].length >= count", arg=[kind, len(bet_ids)])
    assert page.evaluate("kind => seen[kind].map(([, bet]) => bet.bet_id)", kind) == list(bet_ids), kind


def test_a_browser_follows_a_wallet_over_a_restart(tmp_path: Path) -> None:
    """The proxy keeps the address while the service changes its port."""
    service = Service(tmp_path / "data", PARTITIONS="1")
    with Browser() as browser, ResettingProxy() as proxy:
        service.start()
        try:
            proxy.to(service.port)
            url = f"http://127.0.0.1:{proxy.port}"
            post(url, "open", type="open_wallet")
            post(url, "pay", type="deposit", order_id="o", asset="INR", amount=1_000)
            with browser.page(url) as opened:
                opened.open()
                page = opened.page
                page.evaluate(FOLLOW)
                bet(url, 1)
                for kind in ("events", "sockets"):
                    wait_for(page, kind, "b1")
                service.stop()
                service.start()
                proxy.to(service.port)
                bet(url, 2)
                bet(url, 3)
                for kind in ("events", "sockets"):
                    wait_for(page, kind, "b1", "b2", "b3")
        finally:
            service.stop()
