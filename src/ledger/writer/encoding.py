"""A state store's values as JSON: each Struct an array that begins with its tag, a follow-up an object.

JSON, because its integers have no bound: what a wallet staked in a day has none either, and MessagePack ends at 2^64.
"""

from typing import Final, cast

import msgspec

from ledger.core.commands import AnyFollowUp
from ledger.core.items import Item
from ledger.core.wallet import Wallet
from ledger.ports import Value

VALUES_FORMAT: Final = 2
"""Changes with every change of the values' shapes."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(int | bool | Wallet | Item).decode
_decode_follow_up = msgspec.json.Decoder(AnyFollowUp).decode


def encode_value(value: Value) -> bytes:
    return _encode(value)


def decode_value(value: bytes) -> Value:
    """Raises msgspec.MsgspecError where the bytes are not a value of this version."""
    if value[:1] == b"{":
        return cast("Value", _decode_follow_up(value))
    return cast("Value", _decode(value))
