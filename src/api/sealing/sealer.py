"""Makes a seal every ``every_s`` seconds, whatever happens: a failure is logged and tried again, and stops nothing.

Each node seals all partitions, in a chain of its own in its own data folder. So nodes need not agree on who seals, a
chain is complete by itself, and the loss of a node's folder loses none of the others'.

Invariants:
(1) a seal is made when the last one is ``every_s`` old: at the start, too, and also if no event came since. A seal of
    unchanged heads proves that the log still ended there at that time;
(2) the time between two looks at the clock is at most ``_LOOK_S``: a clock that jumps delays a seal by no more;
(3) what is in the file is copied outside, in order, by a task of its own: an outside that is unreachable delays no
    seal;
(4) a seal is signed if the service has keys. While they cannot be read it waits.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from api.sealing.outside import CopyFailed, Outside
from ledger import background
from ledger.core.record import Head
from ledger.errors import LedgerError
from ledger.operations.seals import SealFile, Sign, seal_line
from ledger.ports import Clock

_LOOK_S: Final = 10.0
_PAUSE_S_MAX: Final = 60.0
"""Chosen: so long a full disk may be free again before the next attempt notices it."""

_log = logging.getLogger(__name__)


class Sealer:
    """Started once, in the loop of the service."""

    def __init__(
        self,
        file: SealFile,
        heads: Callable[[], Awaitable[Sequence[Head]]],
        clock: Clock,
        every_s: int,
        outside: Outside | None = None,
        sign: Sign | None = None,
    ) -> None:
        """``sign``: signs each seal; None: they are not signed."""
        self.file = file
        self._heads, self._clock, self._every_us = heads, clock, every_s * 1_000_000
        self._outside, self._sign = outside, sign
        self._more = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [background.keep(self._seal, "seals")]
        if self._outside is not None:
            self._tasks.append(background.keep(partial(self._copy, self._outside), "copies-of-seals"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._outside is not None:
            await self._outside.close()

    async def _seal(self) -> None:
        await self._until_done("the seals cannot be opened", asyncio.to_thread, self.file.open)
        self._more.set()
        while True:
            due_us = self.file.last_sealed_at_us + self._every_us - self._clock()
            if due_us > 0:
                await asyncio.sleep(min(due_us / 1e6, _LOOK_S))
                continue
            await self._until_done("the log is not sealed", self.seal_now)

    async def seal_now(self) -> None:
        """Raises OSError and LedgerError, also where a partition seems to end before its seq in the last seal: a node
        that lost it, and does not know yet, reports that. A seal of it would contradict the log from then on."""
        heads = await self._heads()
        for partition, head in enumerate(heads):
            sealed = self.file.last_seqs.get(partition, 0)
            if head.seq < sealed:
                reason = f"partition {partition} seems to end at seq {head.seq}, and was sealed at seq {sealed}"
                raise LedgerError(reason)
        sealed_at_us = max(self._clock(), self.file.last_sealed_at_us)
        line = seal_line(sealed_at_us, heads, self.file.last_sha256, self._sign)
        await asyncio.to_thread(self.file.append, line)
        self._more.set()

    async def _copy(self, outside: Outside) -> None:
        await self._more.wait()
        last = await self._until_done("the copies of the seals cannot be read", outside.last)
        copied = await asyncio.to_thread(self.file.number_of, last)
        if copied is None:
            _log.error(
                "the last seal outside, %s, is not in %s: that is another ledger's, or the file was changed; no seal "
                "is copied. Name another place in STAKELOG_SEALS, or restore the file",
                last,
                self.file.path,
            )
            return
        while True:
            self._more.clear()
            while copied < len(self.file):
                line = await asyncio.to_thread(self.file.line, copied + 1)
                await self._until_done("a seal is not copied", outside.copy, line)
                copied += 1
            await self._more.wait()

    async def _until_done(self, what: str, call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """The result of the first call that succeeds."""

        def warn(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome is not None else None
            _log.warning("%s: %s; trying again", what, error)

        retrying = AsyncRetrying(
            retry=retry_if_exception_type((OSError, LedgerError, CopyFailed)),
            wait=wait_exponential(multiplier=0.5, max=_PAUSE_S_MAX),
            before_sleep=warn,
        )
        return await retrying(call, *arguments)
