"""The kinds of games by name: the first part of a game's name, as in ``wingo_30s``."""

from collections.abc import Mapping
from typing import Final

from ledger.core.games import five_d, k3, trx_wix, wingo
from ledger.core.games.kinds import KindOfGame

KINDS: Final[Mapping[str, KindOfGame]] = {
    "wingo": wingo.KIND,
    "trx_wix": trx_wix.KIND,
    "k3": k3.KIND,
    "5d": five_d.KIND,
}
