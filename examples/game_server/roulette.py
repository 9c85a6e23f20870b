"""A roulette table. The ledger has the money; the server has the rules and the number of each spin."""

from typing import Final

from stakelog_client import AsyncClient, refusals

GAME: Final = "external"
"""The ledger's name for games whose rules the game server keeps."""
PAYS: Final = 36
"""A number that comes up pays its stake this many times."""
RESERVED_S: Final = 60


class NotEnoughMoney(Exception):
    """The player has `available`, in the asset's minor unit."""

    def __init__(self, available: int) -> None:
        super().__init__(f"only {available} left")
        self.available = available


class Table:
    """One table. Amounts are in the asset's minor unit."""

    def __init__(self, ledger: AsyncClient, asset: str = "INR") -> None:
        self._ledger, self._asset = ledger, asset

    async def join(self, player: str) -> None:
        """Open the player's wallet, unless it is open."""
        try:
            await self._ledger.open_wallet(player, command_id="join")
        except refusals.WalletAlreadyOpen:
            return

    async def reserve(self, player: str, ticket: str, stake: int, now_us: int) -> None:
        """Set a stake aside for a minute, while the player chooses a number."""
        try:
            await self._ledger.hold(
                player,
                hold_id=ticket,
                asset=self._asset,
                amount=stake,
                expires_at_us=now_us + RESERVED_S * 1_000_000,
                command_id=f"reserve-{ticket}",
            )
        except refusals.InsufficientFunds as refused:
            raise NotEnoughMoney(refused.fields["available"]) from refused

    async def bet(self, player: str, ticket: str, spin: str, number: int, stake: int) -> None:
        """Bet the reserved stake on a number. Raises HoldExpired if the minute is over."""
        assert 0 <= number <= 36, "the wheel has the numbers 0 to 36"
        await self._ledger.release_hold(player, hold_id=ticket, command_id=f"release-{ticket}")
        await self._ledger.place_bet(
            player,
            bet_id=ticket,
            game=GAME,
            period=spin,
            selection=str(number),
            asset=self._asset,
            stake=stake,
            command_id=f"bet-{ticket}",
        )

    async def pay(self, spin: str, number: int, players: list[str]) -> dict[str, int]:
        """Settle the open bets of a spin; returns what each player has won. It may be called again after a crash."""
        won: dict[str, int] = {}
        for player in players:
            bets = [bet async for bet in self._ledger.list_bets(player, game=GAME, period=spin)]
            for bet in bets:
                payout = bet.stake * PAYS if bet.selection == str(number) else 0
                await self._ledger.settle_bet(
                    player, bet_id=bet.bet_id, payout=payout, command_id=f"pay-{bet.bet_id}"
                )
                won[player] = won.get(player, 0) + payout
        return won
