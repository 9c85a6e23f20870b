"""One method for each command, blocking.

Written by `make schemas` from openapi.json: do not edit.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from stakelog_client.generated.models import Proof, Result


class BlockingCommands:
    """Each method posts one command and returns its event. `command_id`: the command's id; if None, the client
    makes one. If another process may have to post the same command again, pass an id that you have stored.
    `deadline_s`: how long to try; None: the client's deadline. Raises Refused by the code, OutcomeUnknown
    and Unavailable.
    """

    def post(self, command: Mapping[str, Any], *, deadline_s: float | None = None) -> Result:
        """Post a command given as its JSON object."""
        raise NotImplementedError

    def open_wallet(
        self,
        user_id: str,
        *,
        referrer_id: str | None = None,
        referral_code: str | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Opens the user's wallet. Every other command needs an open wallet, but the cancelling of a bet.
        `referrer_id`: The user who invited this one; counted for commissions. `referral_code`: The referral
        code of the user who invited this one, instead of `referrer_id`.
        """
        return self.post(
            {
                "type": "open_wallet",
                "user_id": user_id,
                "referrer_id": referrer_id,
                "referral_code": referral_code,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def deposit(
        self,
        user_id: str,
        *,
        order_id: str,
        asset: str,
        amount: int,
        bonus: int | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Adds money that the user has paid in to cash, and the bonus that comes with it to bonus. `order_id`:
        The client's id of the order, unique among the wallet's deposits and withdrawals. `asset`: Code of a
        declared asset; another gets `unknown_asset`. `amount`: Amount in the asset's minor unit, 1 … 2^53−1;
        another gets `amount_out_of_range`. `bonus`: Bonus money that comes with the deposit, in the asset's
        minor unit, 0 … 2^53−1; a grant under the deposit's order_id.
        """
        return self.post(
            {
                "type": "deposit",
                "user_id": user_id,
                "order_id": order_id,
                "asset": asset,
                "amount": amount,
                "bonus": bonus,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def request_withdrawal(
        self,
        user_id: str,
        *,
        order_id: str,
        asset: str,
        amount: int,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Sets cash aside for a withdrawal, until the order is approved or rejected. `order_id`: The client's
        id of the order, unique among the wallet's deposits and withdrawals. `asset`: Code of a declared
        asset; another gets `unknown_asset`. `amount`: Amount in the asset's minor unit, 1 … 2^53−1; another
        gets `amount_out_of_range`.
        """
        return self.post(
            {
                "type": "request_withdrawal",
                "user_id": user_id,
                "order_id": order_id,
                "asset": asset,
                "amount": amount,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def approve_withdrawal(
        self,
        user_id: str,
        *,
        order_id: str,
        reason: str | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Pays a requested withdrawal out: the money leaves the wallet. `order_id`: The requested withdrawal.
        `reason`: Why, as free text.
        """
        return self.post(
            {
                "type": "approve_withdrawal",
                "user_id": user_id,
                "order_id": order_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def reject_withdrawal(
        self,
        user_id: str,
        *,
        order_id: str,
        reason: str | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Ends a requested withdrawal: the money is cash again. `order_id`: The requested withdrawal. `reason`:
        Why, as free text.
        """
        return self.post(
            {
                "type": "reject_withdrawal",
                "user_id": user_id,
                "order_id": order_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def place_bet(
        self,
        user_id: str,
        *,
        bet_id: str,
        game: str,
        period: str,
        selection: str,
        asset: str,
        stake: int,
        spend: str | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Takes the stake of a bet, from cash, bonus and credit as `spend` says. `bet_id`: The client's id of
        the bet, unique within the wallet. `game`: The game. `external` is a game whose rules the game server
        keeps: `period` and `selection` are free text, and the game server pays with `settle_bet`. The others
        are named by their rules and the length of their periods, as `wingo_30s`: their bets are settled by
        `record_result`. `period`: The round of the game that the bet is on; of `external` any text, for
        reports and filters. Of the other games it is the start of the period in UTC, `YYYYMMDDTHHMMSSZ`, a
        multiple of the game's length since midnight. `selection`: What the bet is on; of `external` any
        text, never interpreted. Of the other games legs joined by `+`, over which the stake is split.
        `asset`: Code of a declared asset; another gets `unknown_asset`. `stake`: The stake, in the asset's
        minor unit, 1 … 2^53−1. `spend`: Which money the stake takes first: `cash_first` (the default) takes
        cash, bonus, credit; `bonus_first` bonus, cash, credit.
        """
        return self.post(
            {
                "type": "place_bet",
                "user_id": user_id,
                "bet_id": bet_id,
                "game": game,
                "period": period,
                "selection": selection,
                "asset": asset,
                "stake": stake,
                "spend": spend,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def settle_bet(
        self,
        user_id: str,
        *,
        bet_id: str,
        payout: int,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Pays a bet out and ends it. A payout of 0 is a lost bet. `bet_id`: An open bet of this wallet.
        `payout`: What the bet pays, in the asset's minor unit, 0 … 2^53−1. It includes the stake: a bet of
        500 at odds of 1.90 pays 950. 0: the bet is lost.
        """
        return self.post(
            {
                "type": "settle_bet",
                "user_id": user_id,
                "bet_id": bet_id,
                "payout": payout,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def cancel_bet(
        self,
        user_id: str,
        *,
        bet_id: str,
        reason: str | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Gives the stake back to where it came from and ends the bet. Cancelling a bet that the wallet does
        not know blocks it: if the bet arrives later, it is refused. So a game server may cancel whenever it
        does not know whether its bet arrived. `bet_id`: The bet; one that the wallet does not know is
        blocked. `reason`: Why, as free text.
        """
        return self.post(
            {
                "type": "cancel_bet",
                "user_id": user_id,
                "bet_id": bet_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def hold(
        self,
        user_id: str,
        *,
        hold_id: str,
        asset: str,
        amount: int,
        expires_at_us: int | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Sets cash aside, until it is captured, released or expires. `hold_id`: The client's id of the hold,
        unique within the wallet. `asset`: Code of a declared asset; another gets `unknown_asset`. `amount`:
        Amount in the asset's minor unit, 1 … 2^53−1; another gets `amount_out_of_range`. `expires_at_us`:
        When the hold expires, in Unix microseconds, UTC: its money is cash again. Absent: never. A time in
        the past expires it at once.
        """
        return self.post(
            {
                "type": "hold",
                "user_id": user_id,
                "hold_id": hold_id,
                "asset": asset,
                "amount": amount,
                "expires_at_us": expires_at_us,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def capture_hold(
        self,
        user_id: str,
        *,
        hold_id: str,
        amount: int | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Takes money out of a hold and ends it. A partial capture releases the rest to cash. `hold_id`: An
        open hold of this wallet. `amount`: How much to take, in the asset's minor unit, at most what is
        held; the rest is released. Absent: all.
        """
        return self.post(
            {
                "type": "capture_hold",
                "user_id": user_id,
                "hold_id": hold_id,
                "amount": amount,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def release_hold(
        self,
        user_id: str,
        *,
        hold_id: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Ends a hold: its money is cash again. `hold_id`: An open hold of this wallet."""
        return self.post(
            {
                "type": "release_hold",
                "user_id": user_id,
                "hold_id": hold_id,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def transfer(
        self,
        user_id: str,
        *,
        transfer_id: str,
        to_user_id: str,
        asset: str,
        amount: int,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Sends cash to another wallet. If that wallet refuses it, the money comes back. `transfer_id`: The
        client's id of the transfer, unique within the sender's wallet. `to_user_id`: The user who receives
        the money; not the sender. `asset`: Code of a declared asset; another gets `unknown_asset`. `amount`:
        Amount in the asset's minor unit, 1 … 2^53−1; another gets `amount_out_of_range`.
        """
        return self.post(
            {
                "type": "transfer",
                "user_id": user_id,
                "transfer_id": transfer_id,
                "to_user_id": to_user_id,
                "asset": asset,
                "amount": amount,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def grant_bonus(
        self,
        user_id: str,
        *,
        grant_id: str,
        asset: str,
        amount: int,
        expires_at_us: int | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Gives the user bonus money, which bets can use and withdrawals cannot. `grant_id`: The client's id of
        the grant, unique within the wallet. `asset`: Code of a declared asset; another gets `unknown_asset`.
        `amount`: Amount in the asset's minor unit, 1 … 2^53−1; another gets `amount_out_of_range`.
        `expires_at_us`: When what is left of the bonus expires, in Unix microseconds, UTC. Absent: never.
        """
        return self.post(
            {
                "type": "grant_bonus",
                "user_id": user_id,
                "grant_id": grant_id,
                "asset": asset,
                "amount": amount,
                "expires_at_us": expires_at_us,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def claim_attendance(
        self,
        user_id: str,
        *,
        asset: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Claims the attendance bonus of the UTC day, which grows with the days in a row, as the rules say.
        `asset`: Code of a declared asset; another gets `unknown_asset`.
        """
        return self.post(
            {
                "type": "claim_attendance",
                "user_id": user_id,
                "asset": asset,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def adjust(
        self,
        user_id: str,
        *,
        asset: str,
        amount: int,
        reason: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Corrects cash by hand, against the house account for adjustments. `asset`: Code of a declared asset;
        another gets `unknown_asset`. `amount`: Amount in the asset's minor unit, ±(1 … 2^53−1); another gets
        `amount_out_of_range`. Above 0 it is added to cash, below 0 taken from it. `reason`: Why, as free
        text.
        """
        return self.post(
            {
                "type": "adjust",
                "user_id": user_id,
                "asset": asset,
                "amount": amount,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def propose_adjustment(
        self,
        user_id: str,
        *,
        adjustment_id: str,
        asset: str,
        amount: int,
        reason: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Proposes a correction of cash that another actor must approve. `adjustment_id`: The client's id of
        the adjustment, unique within the wallet. `asset`: Code of a declared asset; another gets
        `unknown_asset`. `amount`: Amount in the asset's minor unit, ±(1 … 2^53−1); another gets
        `amount_out_of_range`. Above 0 it is added to cash, below 0 taken from it. `reason`: Why, as free
        text.
        """
        return self.post(
            {
                "type": "propose_adjustment",
                "user_id": user_id,
                "adjustment_id": adjustment_id,
                "asset": asset,
                "amount": amount,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def approve_adjustment(
        self,
        user_id: str,
        *,
        adjustment_id: str,
        reason: str | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Approves a proposed adjustment and posts it. The actor must not be its proposer. `adjustment_id`: A
        proposed adjustment of this wallet. `reason`: Why, as free text.
        """
        return self.post(
            {
                "type": "approve_adjustment",
                "user_id": user_id,
                "adjustment_id": adjustment_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def reject_adjustment(
        self,
        user_id: str,
        *,
        adjustment_id: str,
        reason: str | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Ends a proposed adjustment: nothing is posted. `adjustment_id`: A proposed adjustment of this wallet.
        `reason`: Why, as free text.
        """
        return self.post(
            {
                "type": "reject_adjustment",
                "user_id": user_id,
                "adjustment_id": adjustment_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def reverse(
        self,
        user_id: str,
        *,
        position: str,
        reason: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Posts the opposite of an earlier event of this wallet, once. Deposits, bonus grants and adjustments
        can be reversed; a grant only while none of its bonus is spent, staked or expired. A deposit that led
        to a bonus by the rules is reversed only after this bonus was. The reversal of a deposit keeps valid
        referrals, invitation bonuses and commissions that the deposit led to. `position`: Position of the
        event to reverse: a `deposited`, `bonus_granted` or `adjusted` of this wallet. `reason`: Why, as free
        text.
        """
        return self.post(
            {
                "type": "reverse",
                "user_id": user_id,
                "position": position,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def set_limits(
        self,
        user_id: str,
        *,
        asset: str,
        credit_limit: UnsetType | int | None = UNSET,
        balance_max: UnsetType | int | None = UNSET,
        stake_max_per_day: UnsetType | int | None = UNSET,
        withdrawal_max_per_day: UnsetType | int | None = UNSET,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Sets limits of the wallet for one asset. An absent limit stays as it is, `null` sets the default (a
        credit_limit of 0, no other limit), 0 allows nothing. `asset`: Code of a declared asset; another gets
        `unknown_asset`. `credit_limit`: How far bets may take cash below 0, in the asset's minor unit.
        `balance_max`: Upper bound of cash + bonus + held, in the asset's minor unit. `stake_max_per_day`:
        Upper bound of the stakes of one UTC day, in the asset's minor unit. `withdrawal_max_per_day`: Upper
        bound of the withdrawals of one UTC day, in the asset's minor unit.
        """
        return self.post(
            {
                "type": "set_limits",
                "user_id": user_id,
                "asset": asset,
                "credit_limit": credit_limit,
                "balance_max": balance_max,
                "stake_max_per_day": stake_max_per_day,
                "withdrawal_max_per_day": withdrawal_max_per_day,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def freeze_wallet(
        self,
        user_id: str,
        *,
        reason: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Stops the user's bets, holds, captures, withdrawals and transfers. Everything else is still accepted.
        `reason`: Why, as free text.
        """
        return self.post(
            {
                "type": "freeze_wallet",
                "user_id": user_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def unfreeze_wallet(
        self,
        user_id: str,
        *,
        reason: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Ends a freeze. `reason`: Why, as free text."""
        return self.post(
            {
                "type": "unfreeze_wallet",
                "user_id": user_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def close_wallet(
        self,
        user_id: str,
        *,
        reason: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Closes the wallet permanently. It must be empty and have nothing open. `reason`: Why, as free text."""
        return self.post(
            {
                "type": "close_wallet",
                "user_id": user_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def set_agent_level(
        self,
        user_id: str,
        *,
        level: int,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Sets the user's level as an agent: commissions that are paid to the user from then on have that
        level's rates. A level without rates of its own gets the common rates. `level`: The level of an
        agent, 0 … 10; the rules may pay commissions by it.
        """
        return self.post(
            {
                "type": "set_agent_level",
                "user_id": user_id,
                "level": level,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def record_result(
        self,
        user_id: str,
        *,
        period: str,
        result: str,
        proof: Proof | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Records the result of a game's period, once. Every open bet of the period is settled by it. `period`:
        The period: its start in UTC, `YYYYMMDDTHHMMSSZ`, a multiple of the game's length since midnight.
        `result`: The result: Wingo, TrxWix `7`; K3 `135`, the dice as rolled; 5D `01234`. `proof`: The block
        of the result; TrxWix needs it.
        """
        return self.post(
            {
                "type": "record_result",
                "user_id": user_id,
                "period": period,
                "result": result,
                "proof": proof,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def cancel_period(
        self,
        user_id: str,
        *,
        period: str,
        reason: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Cancels a game's period instead of recording its result. Every open bet of it gets its stake and fee
        back. `period`: The period: its start in UTC, `YYYYMMDDTHHMMSSZ`, a multiple of the game's length
        since midnight. `reason`: Why, as free text.
        """
        return self.post(
            {
                "type": "cancel_period",
                "user_id": user_id,
                "period": period,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def create_gift(
        self,
        user_id: str,
        *,
        asset: str,
        amount: int,
        claims: int,
        expires_at_us: int | None = None,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Creates a gift: an amount of bonus money, divided into shares. Each user may claim one share by its
        code. `asset`: Code of a declared asset; another gets `unknown_asset`. `amount`: The whole gift, in
        the asset's minor unit, 1 … 2^53−1. `claims`: How many shares the amount is divided into, 1 … amount;
        the remainder of the division goes to the first shares, one unit each. Another number gets
        `amount_out_of_range`. `expires_at_us`: No share is granted from this time on, in Unix microseconds,
        UTC. Absent: no expiry.
        """
        return self.post(
            {
                "type": "create_gift",
                "user_id": user_id,
                "asset": asset,
                "amount": amount,
                "claims": claims,
                "expires_at_us": expires_at_us,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def close_gift(
        self,
        user_id: str,
        *,
        reason: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Ends a gift: no more of its shares are granted. `reason`: Why, as free text."""
        return self.post(
            {
                "type": "close_gift",
                "user_id": user_id,
                "reason": reason,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def claim_gift(
        self,
        user_id: str,
        *,
        code: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Claims a share of a gift, once. The share, or the refusal with its reason, is a later event of this
        wallet. `code`: The code of the gift.
        """
        return self.post(
            {
                "type": "claim_gift",
                "user_id": user_id,
                "code": code,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )

    def claim_referral_code(
        self,
        user_id: str,
        *,
        code: str,
        command_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        private: Mapping[str, str] | None = None,
        deadline_s: float | None = None,
    ) -> Result:
        """Claims a referral code for this wallet. The first wallet that claims a code has it permanently; a
        wallet has one code. The grant or the refusal is a later event of this wallet. `code`: The code.
        """
        return self.post(
            {
                "type": "claim_referral_code",
                "user_id": user_id,
                "code": code,
                "command_id": command_id,
                "metadata": metadata,
                "private": private,
            },
            deadline_s=deadline_s,
        )
