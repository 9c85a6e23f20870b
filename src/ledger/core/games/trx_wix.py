"""TrxWix: Wingo, with the digit drawn from the hash of a TRON block.

The digit is the last decimal digit of the hash, scanned from the right: it is exactly uniform, which the last
character alone is not. It is fair only if the block is fixed in advance and later than the last bet, so a block from
before the period's end proves nothing.
"""

from typing import Final

from ledger.core.fields import Proof
from ledger.core.games.kinds import KindOfGame, malformed_proof
from ledger.core.games.wingo import DIGITS
from ledger.core.games.wingo import KIND as WINGO


def digit_of(block_hash: str) -> str | None:
    """The last decimal digit of the hash; None if it has none."""
    return next((character for character in reversed(block_hash) if character in DIGITS), None)


def unproven(result: str, proof: Proof | None, ends_at_us: int) -> str | None:
    if proof is None:
        return "the result needs the proof of its block: height, hash and time_us"
    if (why := malformed_proof(proof)) is not None:
        return why
    if (digit := digit_of(proof.hash)) != result:
        return f"the last decimal digit of the block's hash is {digit}, not {result}"
    if proof.time_us < ends_at_us:
        return "the block is from before the period's end"
    return None


KIND: Final[KindOfGame] = WINGO._replace(number=2, unproven=unproven)
