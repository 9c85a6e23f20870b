"""Sums without a bound that databases can add up and sort. Each has two integer columns, ``<name>_high`` and
``<name>_low``.

A thousand amounts of the largest size exceed 64 bits, and texts can neither be added up nor sorted. So a sum is
high × 2^48 + low, 0 ≤ low < 2^48. A database may add up the lows of at most 32,768 rows, and their highs, separately.
"""

from typing import Final

from projections.tables.rows import Row

LOW_BITS: Final = 48
LOW_MASK: Final = (1 << LOW_BITS) - 1


def add(row: Row, high: str, low: str, amount: int) -> None:
    """Add to a sum of a row. ``high``, ``low``: the names of its columns."""
    total = getattr(row, low) + amount
    if not 0 <= total <= LOW_MASK:
        setattr(row, high, getattr(row, high) + (total >> LOW_BITS))
    setattr(row, low, total & LOW_MASK)


def total_of(high: int, low: int) -> int:
    """The sum of a pair of columns, or of the sums of these columns. Databases return sums as integers or
    decimals."""
    return (int(high) << LOW_BITS) + int(low)
