"""The client library's live feeds and receipts, on the ledger in memory."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from re import DOTALL, findall
from typing import Any

import httpx
import msgspec
import pytest

from stakelog_client import AsyncClient, ReceiptInvalid, Unavailable, refusals
from stakelog_client.generated.models import ChangedBet, Outcome, Period, Wallet
from stakelog_client.receipts import check_receipt
from stakelog_client.testing import START, URL, Ledger

README = Path(__file__).parents[2] / "src" / "stakelog_client" / "README.md"
BETS = 30
PERIOD = f"{START:%Y%m%dT%H%M%SZ}"


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger() as ledger:
        yield ledger


class Breaking(httpx.AsyncBaseTransport):
    """Sends events in halves, and breaks each stream after some, also in the middle. `refusing`: opens none."""

    def __init__(self, inner: httpx.AsyncBaseTransport, seed: int) -> None:
        self._inner, self._random = inner, random.Random(seed)
        self.breaks, self.refusing = 0, False
        self.continued_after: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.refusing:
            raise httpx.ConnectError("refused")
        response = await self._inner.handle_async_request(request)
        if request.url.path == "/v1/live":
            self.continued_after.append(request.headers.get("Last-Event-ID", ""))
            return httpx.Response(response.status_code, headers=response.headers, stream=_Broken(self, response))
        return response

    def part_of(self, piece: bytes) -> bytes:
        return piece[: self._random.randrange(len(piece) + 1)]

    def breaks_now(self) -> bool:
        return self._random.random() < 0.3


class _Broken(httpx.AsyncByteStream):
    def __init__(self, transport: Breaking, response: httpx.Response) -> None:
        self._transport, self._response = transport, response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._response.stream, httpx.AsyncByteStream)
        async for piece in self._response.stream:
            if self._transport.breaks_now():
                self._transport.breaks += 1
                yield self._transport.part_of(piece)
                raise httpx.ReadError("broken")
            middle = len(piece) // 2
            yield piece[:middle]
            yield piece[middle:]

    async def aclose(self) -> None:
        await self._response.aclose()


async def play(client: AsyncClient) -> None:
    for number in range(BETS):
        await client.place_bet(
            "meera",
            bet_id=f"b{number}",
            game="external",
            period="1",
            selection="größer\u2028🪔",
            asset="INR",
            stake=1,
        )
        await client.settle_bet("meera", bet_id=f"b{number}", payout=2)


@pytest.mark.parametrize("seed", range(4))
async def test_each_bet_comes_once_and_in_order_however_often_the_connection_breaks(
    ledger: Ledger, seed: int
) -> None:
    ledger.open_wallet("meera")
    ledger.deposit("meera", order_id="d", asset="INR", amount=BETS)
    transport = Breaking(ledger.transport(), seed)
    async with AsyncClient(URL, transport=transport) as client, ledger.async_client() as player:
        seen: list[tuple[str, str]] = []
        playing: asyncio.Task[None] | None = None
        async with asyncio.timeout(120), aclosing(client.live(users=["meera"])) as events:
            async for event in events:
                if playing is None:  # the first event is the wallet: the feed has begun
                    assert isinstance(event.data, Wallet)
                    playing = asyncio.create_task(play(player))
                if isinstance(event.data, ChangedBet):
                    assert event.data.selection == "größer\u2028🪔"
                    seen.append((event.data.bet_id, event.data.status))
                if len(seen) == 2 * BETS:
                    break
        assert playing is not None
        await playing
    assert seen == [(f"b{number}", status) for number in range(BETS) for status in ("open", "won")]
    assert transport.breaks > 0
    ids = [one for one in transport.continued_after if one]
    assert transport.continued_after[-len(ids) :] == ids, "once an id is known, it is sent"


def test_a_feed_of_a_game_has_its_results_and_what_is_bet_and_continues_in_another_client(ledger: Ledger) -> None:
    ledger.open_wallet("meera")
    ledger.deposit("meera", order_id="d", asset="INR", amount=100)
    feed = ledger.live(games=["wingo_1m"])
    first = next(feed)
    assert isinstance(first.data, Period)
    ledger.advance(seconds=62)
    ledger.record_result("game:wingo_1m", period=PERIOD, result="7")
    found = next(event for event in feed if isinstance(event.data, Outcome))
    assert isinstance(found.data, Outcome)
    assert (found.data.period, found.data.result, found.data.cancelled) == (PERIOD, "7", False)
    feed.close()
    again = ledger.live(games=["wingo_1m"], after=first.id)
    repeated = next(event for event in again if isinstance(event.data, Outcome))
    assert repeated.data == found.data


async def test_a_feed_ends_with_what_is_wrong(ledger: Ledger) -> None:
    transport = Breaking(ledger.transport(), 1)
    async with AsyncClient(URL, transport=transport) as client:
        with pytest.raises(refusals.MalformedRequest):
            await anext(client.live(users=["meera"], after="an id of another feed"))
        transport.refusing = True
        with pytest.raises(Unavailable, match="cannot be continued"):
            await anext(client.live(users=["meera"], deadline_s=0.2))
    with pytest.raises(Unavailable, match="closed"):
        await anext(client.live(users=["meera"]))


def test_a_receipt_is_checked_and_any_change_of_it_is_found(ledger: Ledger) -> None:
    opened = ledger.open_wallet("meera")
    ledger.deposit("meera", order_id="d", asset="INR", amount=100)
    receipt, event = ledger.checked_receipt(opened.position)
    assert (event.user_id, event.type, event.head) == ("meera", "wallet_opened", opened.head)
    keys = ledger.public_keys()
    assert ledger.checked_receipt(opened.position, keys=keys)[1] == event
    other = ledger.get_receipt(f"{opened.partition}:{opened.seq + 1}")
    changes: list[dict[str, Any]] = [
        {"record": receipt.record.replace("meera", "aruna")},
        {"record": receipt.record.replace("meera", "aruna"), "head": "0" * 64},
        {"record": other.record, "head": other.head},
        {"record": other.record, "head": other.head, "seq": other.seq},
        {"signed_at_us": receipt.signed_at_us + 1},
        {"signature": other.signature},
        {"signature": "no base64"},
        {"kid": "unknown"},
    ]
    for change in changes:
        with pytest.raises(ReceiptInvalid):
            check_receipt(msgspec.structs.replace(receipt, **change), keys)
    with Ledger() as another, pytest.raises(ReceiptInvalid, match="not among"):
        check_receipt(receipt, another.public_keys())


def readme_blocks(name: str) -> dict[str, Any]:
    """What the block of the README that defines `name` defines."""
    blocks: list[str] = findall(r"```python\n(.*?)```", README.read_text(), DOTALL)
    (block,) = (one for one in blocks if f"def {name}(" in one)
    defined: dict[str, Any] = {}
    exec(compile(block, str(README), "exec"), defined)  # noqa: S102
    return defined


def test_the_examples_of_the_readme_run(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    opened = ledger.open_wallet("meera")
    readme_blocks("prove")["prove"](ledger, opened.position)
    assert capsys.readouterr().out.startswith("wallet_opened of meera is signed by ")
    ledger.deposit("meera", order_id="d", asset="INR", amount=100)

    async def follow_bets() -> None:
        async with ledger.async_client() as client, asyncio.timeout(60):
            following = asyncio.create_task(readme_blocks("follow")["follow"](client, "meera"))
            number = 0
            while not following.done():  # bets that were settled before the feed began are not in it
                number += 1
                await client.place_bet(
                    "meera",
                    bet_id=f"b{number}",
                    game="external",
                    period="1",
                    selection="red",
                    asset="INR",
                    stake=5,
                )
                await client.settle_bet("meera", bet_id=f"b{number}", payout=5)
            await following

    asyncio.run(follow_bets())
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} >= {"balance", "bets", "bet"}
    assert lines[-1].endswith(" won")
