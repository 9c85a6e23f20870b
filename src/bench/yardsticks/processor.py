"""The yardstick of processor time: to decode one command, encode one record and hash it, on this machine.

It calls nothing of the ledger, so that it stays the same when the ledger changes.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from time import perf_counter, process_time
from typing import Final

import msgspec

from bench.figures import Slice, slice_of

COMMAND: Final = (
    b'{"type":"place_bet","command_id":"c-s1-0000001","user_id":"w-0000001","bet_id":"b-s1-0000001","game":"external",'
    b'"period":"20261101-0042","selection":"red","asset":"INR","stake":1}'
)
RECORD: Final = {
    "v": 1,
    "partition": 3,
    "seq": 123_456,
    "prev": "6c1f0d6b0f7a4c5d9e8b7a695847362514035f6e7d8c9bab0c1d2e3f40516273",
    "time_us": 1_793_500_000_000_000,
    "user_id": "w-0000001",
    "command_id": "c-s1-0000001",
    "request_sha256": "0d6b0f7a4c5d9e8b7a695847362514035f6e7d8c9bab0c1d2e3f405162736c1f",
    "type": "bet_placed",
    "data": json.loads(COMMAND),
    "postings": [
        {"account": "w-0000001/cash", "asset": "INR", "amount": -1},
        {"account": "house/stakes", "asset": "INR", "amount": 1},
    ],
    "balances": {"INR": {"cash": 999_999, "bonus": 0, "credit": 0, "held": 0}},
}
_ROUNDS: Final = 1_000


def command_loop(limit_s: float) -> Slice:
    """Decode ``COMMAND`` with the standard library's json, encode ``RECORD`` and hash it, for ``limit_s`` seconds.

    ``took_s`` is processor time, which does not depend on what else the machine does; ``done`` is repetitions.
    """
    encode, sha256 = msgspec.json.Encoder().encode, hashlib.sha256
    laps_s = array("d")
    end_s = perf_counter() + limit_s
    began_s = process_time()
    while not laps_s or perf_counter() < end_s:
        lap_s = process_time()
        for _ in range(_ROUNDS):
            json.loads(COMMAND)
            sha256(encode(RECORD)).digest()
        laps_s.append((process_time() - lap_s) / _ROUNDS)
    return slice_of(len(laps_s) * _ROUNDS, process_time() - began_s, laps_s)
