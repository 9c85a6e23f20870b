"""What every live feed must do. An adapter passes if a subclass of ``LiveFeedContract`` passes.

The subclass has a fixture ``live``.
"""

import asyncio
from typing import Final

from projections.live.port import Change, Gap, LiveFeed, Messages

WITHIN_S: Final = 20.0
BET: Final = {"u1": ("balance", "bet")}


async def next_of(feed: Messages) -> Change | Gap:
    async with asyncio.timeout(WITHIN_S):
        return await anext(feed)


class LiveFeedContract:
    """The tests; ``live`` comes from the subclass."""

    async def test_messages_published_after_the_subscription_arrive_in_order(self, live: LiveFeed) -> None:
        await live.publish([Change(0, 0, 1, BET, ("external",))])
        async with live.subscribe([0, 1]) as feed:
            messages = [
                Change(0, 1, 2, BET, ("external",)),
                Change(1, 5, 9, {"u2": ("balance",)}),
                Change(0, 2, 3, {"größer 🪔": ("balance",)}),
                Change(0, 3, 4, all_users=True),
            ]
            await live.publish(messages[:1])
            await live.publish(messages[1:])
            assert [await next_of(feed) for _ in messages] == messages

    async def test_a_subscriber_gets_its_own_partitions_only(self, live: LiveFeed) -> None:
        async with live.subscribe([1]) as feed:
            await live.publish([Change(0, 1, 2, BET), Change(1, 1, 2, BET)])
            assert await next_of(feed) == Change(1, 1, 2, BET)

    async def test_every_subscriber_gets_every_message(self, live: LiveFeed) -> None:
        async with live.subscribe([0]) as one, live.subscribe([0]) as other:
            await live.publish([Change(0, 1, 2, BET)])
            assert await next_of(one) == await next_of(other) == Change(0, 1, 2, BET)

    async def test_a_lost_message_is_detected_by_the_seqs(self, live: LiveFeed) -> None:
        async with live.subscribe([0]) as feed:
            await live.publish([Change(0, 1, 2, BET), Change(0, 4, 5, BET)])
            assert await next_of(feed) == Change(0, 1, 2, BET)
            assert await next_of(feed) == Gap(0, 4)
            assert await next_of(feed) == Change(0, 4, 5, BET)

    async def test_a_published_position_reveals_a_lost_message(self, live: LiveFeed) -> None:
        async with live.subscribe([0]) as feed:
            await live.publish([Change(0, 2, 2), Change(0, 2, 3, BET), Change(0, 3, 3), Change(0, 5, 5)])
            assert await next_of(feed) == Change(0, 2, 3, BET)
            assert await next_of(feed) == Gap(0, 5)

    async def test_repeated_and_late_messages_arrive_once(self, live: LiveFeed) -> None:
        async with live.subscribe([0]) as feed:
            first, second, third = (Change(0, seq, seq + 1, {f"u{seq}": ("bet",)}) for seq in (1, 2, 3))
            await live.publish([first, first, second, first, second, third])
            assert [await next_of(feed) for _ in range(3)] == [first, second, third]

    async def test_changes_at_the_same_seq_arrive(self, live: LiveFeed) -> None:
        async with live.subscribe([0]) as feed:
            await live.publish([Change(0, 1, 2, BET), Change(0, 2, 2, {"u9": ("balance",)})])
            assert await next_of(feed) == Change(0, 1, 2, BET)
            assert await next_of(feed) == Change(0, 2, 2, {"u9": ("balance",)})

    async def test_publishing_needs_no_subscriber(self, live: LiveFeed) -> None:
        await live.publish([])
        async with live.subscribe([0]):
            pass
        await live.publish([Change(0, 1, 2, BET)])

    async def test_closing_again_is_harmless(self, live: LiveFeed) -> None:
        await live.close()
        await live.close()
