"""A state store's values as MessagePack: each Struct an array that begins with its tag, a seq an integer."""

from typing import cast

import msgspec

from ledger.commands import AnyFollowUp
from ledger.entries import Entry
from ledger.ports import Value
from ledger.wallet import Wallet

# Follow-ups are maps and all else tagged arrays, so one decoder tells them apart.
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(int | bool | Wallet | Entry).decode
_decode_follow_up = msgspec.msgpack.Decoder(AnyFollowUp).decode

_MAPS = range(0x80, 0x90)  # MessagePack's first byte of a map of up to 15 members


def encode_value(value: Value) -> bytes:
    return _encode(value)


def decode_value(value: bytes) -> Value:
    """Raises msgspec.MsgspecError where the bytes are not a value of this version."""
    return cast("Value", _decode_follow_up(value) if value and value[0] in _MAPS else _decode(value))
