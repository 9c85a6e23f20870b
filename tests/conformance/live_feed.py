"""What every live feed must do. An adapter passes if a subclass of ``LiveFeedContract`` passes.

The subclass has a fixture ``live``.
"""

import asyncio
from typing import Final

from projections.live.port import Heard, Live, Lost, Moved

WITHIN_S: Final = 20.0
BET: Final = {"u1": ("balance", "bet")}


async def next_of(heard: Heard) -> Moved | Lost:
    async with asyncio.timeout(WITHIN_S):
        return await anext(heard)


class LiveFeedContract:
    """The tests; ``live`` comes from the subclass."""

    async def test_what_is_published_after_the_subscription_is_heard_in_order(self, live: Live) -> None:
        await live.publish([Moved(0, 0, 1, BET, ("external",))])
        async with live.subscribe([0, 1]) as heard:
            messages = [
                Moved(0, 1, 2, BET, ("external",)),
                Moved(1, 5, 9, {"u2": ("balance",)}),
                Moved(0, 2, 3, {"größer 🪔": ("balance",)}),
                Moved(0, 3, 4, anybody=True),
            ]
            await live.publish(messages[:1])
            await live.publish(messages[1:])
            assert [await next_of(heard) for _ in messages] == messages

    async def test_only_what_was_asked_for_is_heard(self, live: Live) -> None:
        async with live.subscribe([1]) as heard:
            await live.publish([Moved(0, 1, 2, BET), Moved(1, 1, 2, BET)])
            assert await next_of(heard) == Moved(1, 1, 2, BET)

    async def test_every_subscriber_hears_all(self, live: Live) -> None:
        async with live.subscribe([0]) as one, live.subscribe([0]) as other:
            await live.publish([Moved(0, 1, 2, BET)])
            assert await next_of(one) == await next_of(other) == Moved(0, 1, 2, BET)

    async def test_what_was_never_published_is_told_by_the_positions(self, live: Live) -> None:
        async with live.subscribe([0]) as heard:
            await live.publish([Moved(0, 1, 2, BET), Moved(0, 4, 5, BET)])
            assert await next_of(heard) == Moved(0, 1, 2, BET)
            assert await next_of(heard) == Lost(0, 4)
            assert await next_of(heard) == Moved(0, 4, 5, BET)

    async def test_a_word_of_where_a_partition_is_tells_of_a_loss_too(self, live: Live) -> None:
        async with live.subscribe([0]) as heard:
            await live.publish([Moved(0, 2, 2), Moved(0, 2, 3, BET), Moved(0, 3, 3), Moved(0, 5, 5)])
            assert await next_of(heard) == Moved(0, 2, 3, BET)
            assert await next_of(heard) == Lost(0, 5)

    async def test_what_is_heard_twice_or_late_is_told_once(self, live: Live) -> None:
        async with live.subscribe([0]) as heard:
            first, second, third = (Moved(0, seq, seq + 1, {f"u{seq}": ("bet",)}) for seq in (1, 2, 3))
            await live.publish([first, first, second, first, second, third])
            assert [await next_of(heard) for _ in range(3)] == [first, second, third]

    async def test_rows_that_moved_while_the_seq_stayed_are_heard(self, live: Live) -> None:
        async with live.subscribe([0]) as heard:
            await live.publish([Moved(0, 1, 2, BET), Moved(0, 2, 2, {"u9": ("balance",)})])
            assert await next_of(heard) == Moved(0, 1, 2, BET)
            assert await next_of(heard) == Moved(0, 2, 2, {"u9": ("balance",)})

    async def test_nobody_needs_to_listen(self, live: Live) -> None:
        await live.publish([])
        async with live.subscribe([0]):
            pass
        await live.publish([Moved(0, 1, 2, BET)])

    async def test_closing_again_is_harmless(self, live: Live) -> None:
        await live.close()
        await live.close()
