"""The values of a partition's state, as a state store keeps them under its keys.

They are JSON: each Struct is an array that begins with its tag, a follow-up is an object. JSON, because its integers
have no bound. The sum that a wallet stakes in a day has none either, and MessagePack ends at 2^64.
"""

from typing import Final, cast

import msgspec

from ledger.core.follow_up_commands import AnyFollowUp
from ledger.core.items import Item, OpenBet
from ledger.core.wallet import Wallet

Value = Wallet | Item | OpenBet | AnyFollowUp | int | bool
"""A wallet, an item, an open bet of a game, an open follow-up, a command's seq, or the mark of a timer."""

VALUES_FORMAT: Final = 7
"""Grows with every change of the values' shapes."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(int | bool | Wallet | Item | OpenBet).decode
_decode_follow_up = msgspec.json.Decoder(AnyFollowUp).decode


def encode_value(value: Value) -> bytes:
    return _encode(value)


def decode_value(value: bytes) -> Value:
    """Raises msgspec.MsgspecError where the bytes are not a value of this version."""
    if value[:1] == b"{":
        return cast("Value", _decode_follow_up(value))
    return cast("Value", _decode(value))
