"""Money is an integer in the asset's minor unit; there are no floats and no rounding here.

An amount is valid if and only if it is an integer in 1 … ``AMOUNT_MAX``. ``AMOUNT_MAX`` is 2^53 − 1, the largest
integer that every JSON reader keeps exact. The sum that a wallet owns, plus what can still come back to it, stays
within ±``AMOUNT_MAX``.
"""

import re
from collections.abc import Mapping

AMOUNT_MAX = 2**53 - 1

Assets = Mapping[str, int]
"""Asset code → exponent of its minor unit, as declared in the settings: ``{"INR": 2}`` counts paise."""

_ASSET = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):([0-9]|1[0-8])")


def parse_assets(text: str) -> dict[str, int]:
    """Read ``INR:2,USDT:6,GOLD:0``.

    Raises ValueError, with a text for the operator, if an item is malformed, an asset is named twice (also in another
    case), or there is none.
    """
    assets: dict[str, int] = {}
    for item in text.split(","):
        match = _ASSET.fullmatch(item.strip())
        if match is None:
            raise ValueError(
                f"{item.strip()!r} is not an asset: write CODE:EXPONENT, such as INR:2, with an exponent from 0 to 18"
            )
        if match[1] in assets:
            raise ValueError(f"the asset {match[1]} is declared twice")
        same = next((asset for asset in assets if asset.lower() == match[1].lower()), None)
        if same is not None:
            raise ValueError(f"the assets {same} and {match[1]} differ in upper and lower case only")
        assets[match[1]] = int(match[2])
    return assets


def lacking(assets: Assets, declared: Assets) -> str | None:
    """A sentence for the operator if ``assets`` lacks an asset that a log declares; None if it lacks none.

    A wallet could not use the missing asset any more.
    """
    missing = sorted(declared.keys() - assets.keys())
    if not missing:
        return None
    all_assets = ",".join(f"{asset}:{exponent}" for asset, exponent in sorted({**declared, **assets}.items()))
    return f"has the asset {missing[0]}, which STAKELOG_ASSETS lacks: set STAKELOG_ASSETS={all_assets}"


def is_amount(value: int) -> bool:
    """Whether ``value`` is an amount: 1 … 2^53 − 1."""
    return 1 <= value <= AMOUNT_MAX


def in_bounds(total: int) -> bool:
    """Whether ``total``, what a wallet owns and what can still come back to it, is within ±(2^53 − 1)."""
    return -AMOUNT_MAX <= total <= AMOUNT_MAX


def format_amount(amount: int, asset: str, assets: Assets) -> str:
    """The amount for people, in the asset's own unit: ``50.00 INR`` for 5000. Fields have the minor unit."""
    exponent = assets[asset]
    digits = str(abs(amount)).zfill(exponent + 1)
    whole, part = digits[: len(digits) - exponent], digits[len(digits) - exponent :]
    return f"{'-' if amount < 0 else ''}{whole}{'.' if part else ''}{part} {asset}"
