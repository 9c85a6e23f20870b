"""Tasks post commands of the same wallets at random moments, while connections are lost before and after the service
has carried a request out. The ledger is the real one, in memory."""

import asyncio
import random

import httpx
import pytest

from stakelog_client import AsyncClient
from stakelog_client.testing import URL, Ledger

WALLETS = 6
COMMANDS = 25


class Dropping(httpx.AsyncBaseTransport):
    """Loses every second request: in turns before the service gets it, and after."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.requests % 4 == 0:
            raise httpx.WriteError("lost")
        response = await self._inner.handle_async_request(request)
        if self.requests % 4 == 2:
            await response.aclose()
            raise httpx.ReadError("lost")
        return response


@pytest.mark.parametrize("seed", range(5))
def test_every_command_is_written_once_in_the_order_in_which_its_wallet_was_posted_to(seed: int) -> None:
    chooser = random.Random(seed)
    order = [f"w{number}" for number in range(WALLETS) for _ in range(COMMANDS)]
    chooser.shuffle(order)
    posted: dict[str, list[str]] = {f"w{number}": [] for number in range(WALLETS)}

    async def post_all(ledger: Ledger, transport: Dropping) -> None:
        async with AsyncClient(URL, transport=transport, deadline_s=300) as client:
            await asyncio.gather(*(client.open_wallet(user_id, command_id="open") for user_id in posted))
            waiting = []
            for number, user_id in enumerate(order):
                name = f"c{number}"
                posted[user_id].append(name)
                call = client.deposit(user_id, order_id=name, asset="INR", amount=1, command_id=name)
                waiting.append(asyncio.create_task(call))
                for _ in range(chooser.randrange(4)):
                    await asyncio.sleep(0)
                if number % 20 == 19:
                    await chooser.choice(waiting)
            await asyncio.gather(*waiting)

    with Ledger() as ledger:
        transport = Dropping(ledger.transport())
        asyncio.run(post_all(ledger, transport))
        assert transport.requests > 4, "some were lost before the service, some after"
        written: dict[str, list[str]] = {user_id: [] for user_id in posted}
        for partition in range(4):
            for event in ledger.events(partition):
                written[event.user_id].append(event.command_id)
    assert written == {user_id: ["open", *names] for user_id, names in posted.items()}
