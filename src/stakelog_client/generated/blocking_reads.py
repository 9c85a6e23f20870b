"""One method for each read, blocking.

Written by `make schemas` from openapi.json: do not edit.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from stakelog_client.generated.models import (
    Adjustment,
    Adjustments,
    BalanceAt,
    Bet,
    Bets,
    BonusGrant,
    BonusGrants,
    Cohorts,
    DeadLetter,
    DeadLetters,
    Games,
    Gift,
    History,
    HistoryItem,
    Hold,
    Holds,
    House,
    Leaderboard,
    ListedBet,
    ListedClients,
    ListedHold,
    ListedOrder,
    ListedPeriod,
    ListedSentTransfer,
    ListedWallet,
    Movers,
    Order,
    Orders,
    OwnedCode,
    Partitions,
    Period,
    Periods,
    Receipt,
    Referrals,
    Seal,
    Seals,
    SentTransfer,
    Statistics,
    Transfers,
    Wallet,
    Wallets,
    Webhooks,
)
from stakelog_client.paths import path_of

T = TypeVar("T")


class BlockingReads:
    """A method that returns a list reads all its pages. A read of a user shows what this client has written for
    that user. `deadline_s`: how long to try, for each page of a list; None: the client's deadline. Raises
    Refused by the code, Unavailable, NotYetVisible.
    """

    def read(
        self, path: str, parameters: Mapping[str, Any], kind: type[T], user_id: str | None, deadline_s: float | None
    ) -> T:
        """Get one document. `user_id`: the user it is about; None: many users."""
        raise NotImplementedError

    def pages(
        self,
        path: str,
        parameters: Mapping[str, Any],
        kind: type[Any],
        item: type[T],
        user_id: str | None,
        deadline_s: float | None,
    ) -> Iterator[T]:
        """The items of all pages of a list. `kind`: a page, with `items` of `item`."""
        raise NotImplementedError

    def list_wallets(
        self,
        *,
        user_id: list[str] | None = None,
        prefix: str | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[ListedWallet]:
        """Read the wallets of named users, or of all users whose id begins with a prefix. `user_id`: The
        wallets of these users: the parameter may be given up to 100 times. `prefix`: The wallets of all
        users whose id begins with this text; empty: of all users.
        """
        return self.pages(
            "/v1/wallets", {"user_id": user_id, "prefix": prefix}, Wallets, ListedWallet, None, deadline_s
        )

    def get_wallet(
        self,
        user_id: str,
        *,
        consistency: str | None = None,
        deadline_s: float | None = None,
    ) -> Wallet:
        """Read a wallet: status, balances, limits, first deposit. `consistency`: `strong` reads the wallet from
        its writer, not from the read model.
        """
        return self.read(
            path_of("/v1/wallets/{user_id}", user_id=user_id),
            {"consistency": consistency},
            Wallet,
            user_id,
            deadline_s,
        )

    def get_balance(
        self,
        user_id: str,
        *,
        at_us: int | None = None,
        deadline_s: float | None = None,
    ) -> BalanceAt:
        """Read the balances, now or at a time. `at_us`: The balances after all events up to this time, in Unix
        microseconds; absent: now.
        """
        return self.read(
            path_of("/v1/wallets/{user_id}/balance", user_id=user_id),
            {"at_us": at_us},
            BalanceAt,
            user_id,
            deadline_s,
        )

    def list_history(
        self,
        user_id: str,
        *,
        event_type: str | None = None,
        asset: str | None = None,
        game: str | None = None,
        from_us: int | None = None,
        to_us: int | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[HistoryItem]:
        """Read what moved the wallet's money. `event_type`: Only events of this type. `asset`: Only this asset.
        `game`: Only bets of this game. `from_us`: Only from this time on, in Unix microseconds. `to_us`:
        Only before this time, in Unix microseconds.
        """
        return self.pages(
            path_of("/v1/wallets/{user_id}/history", user_id=user_id),
            {"type": event_type, "asset": asset, "game": game, "from_us": from_us, "to_us": to_us},
            History,
            HistoryItem,
            user_id,
            deadline_s,
        )

    def list_bets(
        self,
        user_id: str,
        *,
        game: str | None = None,
        period: str | None = None,
        status: str | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[ListedBet]:
        """Read the bets. `game`: Only bets of this game. `period`: Only bets of this period. `status`: Only
        bets that had this status when the first page was read.
        """
        return self.pages(
            path_of("/v1/wallets/{user_id}/bets", user_id=user_id),
            {"game": game, "period": period, "status": status},
            Bets,
            ListedBet,
            user_id,
            deadline_s,
        )

    def get_bet(
        self,
        user_id: str,
        bet_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Bet:
        """Read one bet."""
        return self.read(
            path_of("/v1/wallets/{user_id}/bets/{bet_id}", user_id=user_id, bet_id=bet_id),
            {},
            Bet,
            user_id,
            deadline_s,
        )

    def list_holds(
        self,
        user_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Iterator[ListedHold]:
        """Read the holds."""
        return self.pages(
            path_of("/v1/wallets/{user_id}/holds", user_id=user_id), {}, Holds, ListedHold, user_id, deadline_s
        )

    def get_hold(
        self,
        user_id: str,
        hold_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Hold:
        """Read one hold."""
        return self.read(
            path_of("/v1/wallets/{user_id}/holds/{hold_id}", user_id=user_id, hold_id=hold_id),
            {},
            Hold,
            user_id,
            deadline_s,
        )

    def list_grants(
        self,
        user_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Iterator[BonusGrant]:
        """Read the grants of bonus money, and what remains of each."""
        return self.pages(
            path_of("/v1/wallets/{user_id}/grants", user_id=user_id), {}, BonusGrants, BonusGrant, user_id, deadline_s
        )

    def list_transfers(
        self,
        user_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Iterator[ListedSentTransfer]:
        """Read the transfers that the wallet sent."""
        return self.pages(
            path_of("/v1/wallets/{user_id}/transfers", user_id=user_id),
            {},
            Transfers,
            ListedSentTransfer,
            user_id,
            deadline_s,
        )

    def get_transfer(
        self,
        user_id: str,
        transfer_id: str,
        *,
        deadline_s: float | None = None,
    ) -> SentTransfer:
        """Read one transfer that the wallet sent."""
        return self.read(
            path_of("/v1/wallets/{user_id}/transfers/{transfer_id}", user_id=user_id, transfer_id=transfer_id),
            {},
            SentTransfer,
            user_id,
            deadline_s,
        )

    def get_statistics(
        self,
        user_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Statistics:
        """Read the sums of bets, deposits, withdrawals and bonuses."""
        return self.read(path_of("/v1/wallets/{user_id}/stats", user_id=user_id), {}, Statistics, user_id, deadline_s)

    def get_referrals(
        self,
        user_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Referrals:
        """Read the referrer and the number of members, level by level."""
        return self.read(
            path_of("/v1/wallets/{user_id}/referrals", user_id=user_id), {}, Referrals, user_id, deadline_s
        )

    def list_orders(
        self,
        *,
        user_id: str | None = None,
        kind: str | None = None,
        status: str | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[ListedOrder]:
        """Read the orders of all users, or of one. `user_id`: Only orders of this user. `kind`: Only orders of
        this kind. `status`: Only orders that had this status when the first page was read.
        """
        return self.pages(
            "/v1/orders", {"user_id": user_id, "kind": kind, "status": status}, Orders, ListedOrder, None, deadline_s
        )

    def get_order(
        self,
        user_id: str,
        order_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Order:
        """Read one deposit or withdrawal."""
        return self.read(
            path_of("/v1/orders/{user_id}/{order_id}", user_id=user_id, order_id=order_id),
            {},
            Order,
            user_id,
            deadline_s,
        )

    def list_adjustments(
        self,
        *,
        status: str | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[Adjustment]:
        """Read the proposed adjustments of all users. `status`: Only adjustments that had this status when the
        first page was read.
        """
        return self.pages("/v1/adjustments", {"status": status}, Adjustments, Adjustment, None, deadline_s)

    def get_gift(
        self,
        code: str,
        *,
        deadline_s: float | None = None,
    ) -> Gift:
        """Read a gift and how many of its shares are claimed."""
        return self.read(path_of("/v1/gifts/{code}", code=code), {}, Gift, None, deadline_s)

    def get_referral_code(
        self,
        code: str,
        *,
        deadline_s: float | None = None,
    ) -> OwnedCode:
        """Read the owner of a referral code."""
        return self.read(path_of("/v1/referral-codes/{code}", code=code), {}, OwnedCode, None, deadline_s)

    def get_leaderboard(
        self,
        name: str,
        *,
        asset: str,
        at_us: int | None = None,
        limit: int | None = None,
        deadline_s: float | None = None,
    ) -> Leaderboard:
        """Read who staked, won or netted the most. `asset`: The asset whose amounts are summed up. `at_us`: The
        day, week or month of this time, in Unix microseconds; absent: of now. `limit`: Users at most.
        """
        return self.read(
            path_of("/v1/leaderboards/{name}", name=name),
            {"asset": asset, "at_us": at_us, "limit": limit},
            Leaderboard,
            None,
            deadline_s,
        )

    def get_games(
        self,
        *,
        deadline_s: float | None = None,
    ) -> Games:
        """Read which games take bets."""
        return self.read("/v1/games", {}, Games, None, deadline_s)

    def list_periods(
        self,
        game: str,
        *,
        deadline_s: float | None = None,
    ) -> Iterator[ListedPeriod]:
        """List the periods of a game."""
        return self.pages(path_of("/v1/games/{game}/periods", game=game), {}, Periods, ListedPeriod, None, deadline_s)

    def get_period(
        self,
        game: str,
        period: str,
        *,
        deadline_s: float | None = None,
    ) -> Period:
        """Read one period of a game, and what was bet on each selection."""
        return self.read(
            path_of("/v1/games/{game}/periods/{period}", game=game, period=period), {}, Period, None, deadline_s
        )

    def get_house(
        self,
        *,
        asset: str,
        from_us: int | None = None,
        to_us: int | None = None,
        game: str | None = None,
        by: str | None = None,
        deadline_s: float | None = None,
    ) -> House:
        """Read what the games took in and gave out, by the hour or by the day. `asset`: The asset whose amounts
        are summed up. `from_us`: From the hour or day of this time on, in Unix microseconds; absent: 31
        days. At most 31 days by the hour, 366 by the day. `to_us`: Only hours or days that begin before this
        time, in Unix microseconds. `game`: Only this game, without bonuses and commissions. `by`: What one
        item is.
        """
        return self.read(
            "/v1/house",
            {"asset": asset, "from_us": from_us, "to_us": to_us, "game": game, "by": by},
            House,
            None,
            deadline_s,
        )

    def get_movers(
        self,
        *,
        asset: str,
        at_us: int | None = None,
        limit: int | None = None,
        deadline_s: float | None = None,
    ) -> Movers:
        """Read who won and who lost the most on a day. `asset`: The asset whose amounts are summed up. `at_us`:
        The UTC day of this time, in Unix microseconds; absent: today. `limit`: Users of each list at most.
        """
        return self.read(
            "/v1/house/movers", {"asset": asset, "at_us": at_us, "limit": limit}, Movers, None, deadline_s
        )

    def get_cohorts(
        self,
        *,
        asset: str,
        from_us: int | None = None,
        to_us: int | None = None,
        deadline_s: float | None = None,
    ) -> Cohorts:
        """Read what the wallets of each day of registration bet on each day since. `asset`: The asset whose
        amounts are summed up. `from_us`: Wallets opened from the UTC day of this time on, in Unix
        microseconds; absent: 31 days. At most 31 days. `to_us`: Only days of registration that begin before
        this time, in Unix microseconds; absent: until today.
        """
        return self.read(
            "/v1/house/cohorts", {"asset": asset, "from_us": from_us, "to_us": to_us}, Cohorts, None, deadline_s
        )

    def get_partitions(
        self,
        *,
        deadline_s: float | None = None,
    ) -> Partitions:
        """Read where every partition ends, and which node owns it."""
        return self.read("/v1/partitions", {}, Partitions, None, deadline_s)

    def get_receipt(
        self,
        position: str,
        *,
        deadline_s: float | None = None,
    ) -> Receipt:
        """Get a receipt of one event."""
        return self.read(path_of("/v1/events/{position}/receipt", position=position), {}, Receipt, None, deadline_s)

    def list_seals(
        self,
        *,
        deadline_s: float | None = None,
    ) -> Iterator[Seal]:
        """Read the seals of the log."""
        return self.pages("/v1/seals", {}, Seals, Seal, None, deadline_s)

    def get_clients(
        self,
        *,
        deadline_s: float | None = None,
    ) -> ListedClients:
        """Read all clients."""
        return self.read("/v1/clients", {}, ListedClients, None, deadline_s)

    def get_webhooks(
        self,
        *,
        deadline_s: float | None = None,
    ) -> Webhooks:
        """Read all webhooks, and how far each of them got."""
        return self.read("/v1/webhooks", {}, Webhooks, None, deadline_s)

    def list_dead_letters(
        self,
        webhook_id: str,
        *,
        deadline_s: float | None = None,
    ) -> Iterator[DeadLetter]:
        """Read the events that a webhook did not take."""
        return self.pages(
            path_of("/v1/webhooks/{webhook_id}/dead-letters", webhook_id=webhook_id),
            {},
            DeadLetters,
            DeadLetter,
            None,
            deadline_s,
        )
