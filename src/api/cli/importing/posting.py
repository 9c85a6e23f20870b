"""Posts a plan over HTTP, wallet by wallet, many wallets at a time, and compares the reads with it.

A command is retried under its id until its outcome is known. A refusal ends the import; what was posted stays,
and the next run finds it by its ids.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

from msgspec import Struct

from api.cli.importing.plan import Plan, commands_of
from stakelog_client import AsyncClient, Refused, StakelogError

_AT_ONCE: Final = 64
"""Wallets at a time. Chosen: their commands travel together in one batch."""
_DEADLINE_S: Final = 120.0
"""Chosen: a service that restarts is back by then."""


class Access(Struct, frozen=True):
    """(client_id, client_secret) of a game server, which opens wallets, and of an operator, who adjusts."""

    url: str
    game_server: tuple[str, str] | None = None
    operator: tuple[str, str] | None = None


class Stopped(Exception):
    """The import could not go on: what happened, where, and what to do."""


class Difference(Struct, frozen=True):
    """A wallet whose read differs from the plan, in minor units."""

    user_id: str
    asset: str
    planned: int
    read: int


class Checked(Struct, frozen=True):
    """``totals``: asset → (planned, read), over the wallets of the plan."""

    totals: dict[str, tuple[int, int]]
    differences: tuple[Difference, ...]


async def post(plan: Plan, access: Access, progress: Callable[[int, int], None]) -> Checked:
    """Raises Stopped."""
    async with (
        AsyncClient(access.url, *(access.game_server or ()), deadline_s=_DEADLINE_S) as opener,
        AsyncClient(access.url, *(access.operator or ()), deadline_s=_DEADLINE_S) as adjuster,
    ):
        run = _Run(plan, opener, adjuster, progress)
        wallets = list(plan.wallets)
        if wallets:
            await run.begin_with(wallets[0])
        await run.each(wallets[1:], run.post_wallet)
        await run.each(wallets[1:], run.read_wallet)
    return run.checked()


class _Run:
    def __init__(
        self, plan: Plan, opener: AsyncClient, adjuster: AsyncClient, progress: Callable[[int, int], None]
    ) -> None:
        self._plan, self._opener, self._adjuster, self._progress = plan, opener, adjuster, progress
        self._done, self._total = 0, plan.commands + len(plan.wallets)
        self._read: dict[tuple[str, str], int] = {}

    async def begin_with(self, user_id: str) -> None:
        """One wallet alone shows whether the import can go on: rules may give it a bonus, or it has other money."""
        await self.post_wallet(user_id)
        await self.read_wallet(user_id)
        for difference in self._differences({user_id}):
            raise Stopped(
                f"{user_id} has {difference.read} minor units of {difference.asset}, the source "
                f"{difference.planned}: "
                "it had other money, or a bonus by the service's rules. Import into wallets that nothing else uses, "
                "by a service without rules of money flows. Only this wallet was touched"
            )

    async def each(self, user_ids: list[str], work: Callable[[str], Any]) -> None:
        wallets = iter(user_ids)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(self._some(work, wallets))
        except BaseExceptionGroup as errors:
            # Not ``except*``: before Python 3.11.4 it puts what it raises into a group.
            ours, others = errors.split(Stopped)
            if ours is None or others is not None:
                raise
            raise ours.exceptions[0] from None

    async def _some(self, work: Callable[[str], Any], wallets: Iterator[str]) -> None:
        for user_id in wallets:
            await work(user_id)

    async def post_wallet(self, user_id: str) -> None:
        for line, command in commands_of(self._plan, user_id):
            opens = command["type"] == "open_wallet"
            try:
                await (self._opener if opens else self._adjuster).post(command)
            except Refused as refused:
                if not (opens and refused.code in ("wallet_already_open", "command_id_reused")):
                    raise Stopped(_refusal(line, user_id, command["command_id"], refused)) from None
            except StakelogError as error:
                raise Stopped(f"{error}. Run it again to go on: nothing is posted twice") from error
            self._step()

    async def read_wallet(self, user_id: str) -> None:
        # A client waits until its reads show what it has written itself: a wallet without changes was only opened.
        reader = self._adjuster if self._plan.wallets[user_id] else self._opener
        try:
            wallet = await reader.get_wallet(user_id)
        except StakelogError as error:
            raise Stopped(f"{user_id} cannot be read: {error}. Run it again: nothing is posted twice") from error
        for asset, balance in wallet.balances.items():
            self._read[user_id, asset] = balance.cash + balance.bonus + balance.held
        self._step()

    def _step(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)

    def checked(self) -> Checked:
        totals: dict[str, tuple[int, int]] = {}
        for _, asset in self._plan.balances.keys() | self._read.keys():
            totals[asset] = _sum(self._plan.balances, asset), _sum(self._read, asset)
        return Checked(totals, tuple(self._differences(set(self._plan.wallets))))

    def _differences(self, user_ids: set[str]) -> Iterator[Difference]:
        planned, read = self._plan.balances, self._read
        for key in sorted(planned.keys() | read.keys()):
            if key[0] in user_ids and planned.get(key, 0) != read.get(key, 0):
                yield Difference(*key, planned.get(key, 0), read.get(key, 0))


def _sum(balances: dict[tuple[str, str], int], asset: str) -> int:
    return sum(amount for (_, one), amount in balances.items() if one == asset)


def _refusal(line: int, user_id: str, command_id: str, refused: Refused) -> str:
    advice = "Run it again to go on: nothing is posted twice"
    if refused.code == "command_id_reused":
        advice = "An earlier run has posted another change under this id: the file was changed in between"
    elif refused.code == "forbidden":
        advice = (
            "open_wallet needs --login of a game server, adjust needs --operator-login, and amounts above "
            "STAKELOG_ADJUST_MAX need a higher one while the import runs"
        )
    return f"line {line}, {user_id}, {command_id}: refused, {refused.code}: {refused.detail}. {advice}"
