"""The data of a game: its odds, fee and limits, and the digest that names them.

Invariants:
(1) a table is complete: it has the odds of every leg kind of its rules;
(2) two tables have the same digest if and only if they are equal;
(3) a table is never changed: a log keeps each one that a bet was taken under, by its digest.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

CLOSE_MS: Final = 5_000
FEE_BP: Final = 200
ODDS_MAX: Final = 100_000_000
"""A million times the stake. Chosen: far above any game's."""


class PayTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data that a game is played by. ``rules`` names the kind of game.

    ``odds`` are hundredths by leg kind, ``fee_bp`` is the fee in hundredths of a percent, ``close_ms`` is how long
    before the period's end betting closes, ``stake_min`` and ``stake_max`` are the bounds of one bet by asset, and
    ``bets_per_period`` is how many bets of a period a wallet may have; None: any number.
    """

    rules: str
    odds: dict[str, int]
    fee_bp: int = FEE_BP
    close_ms: int = CLOSE_MS
    stake_min: dict[str, int] = {}
    stake_max: dict[str, int] = {}
    bets_per_period: int | None = None


_canonical: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder(PayTable).decode
_decode_all: Final = msgspec.json.Decoder(dict[str, PayTable]).decode


def canonical(table: PayTable) -> bytes:
    """The table as JSON with sorted keys and no spaces: what the digest is made of, and what a log keeps."""
    return _canonical(table)


def digest_of(table: PayTable) -> str:
    """SHA-256 of the canonical form, in hex."""
    return sha256(canonical(table)).hexdigest()


def read_table(digest: str, form: bytes) -> PayTable:
    """The table of a canonical form. Raises ValueError if it is not the one of the digest."""
    try:
        return _checked(digest, _decode(form))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None


def write_tables(tables: Mapping[str, PayTable]) -> str:
    """Tables by their digests, as one JSON object."""
    return _canonical(dict(tables)).decode()


def read_tables(text: str) -> dict[str, PayTable]:
    """What ``write_tables`` wrote. Raises ValueError."""
    try:
        return {digest: _checked(digest, table) for digest, table in _decode_all(text).items()}
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def _checked(digest: str, table: PayTable) -> PayTable:
    if digest_of(table) != digest:
        raise ValueError(f"the table of {table.rules} under {digest} has another digest")
    return table
