"""A comparison as Parquet files, one for each kind of row. Amounts are int64 in the asset's minor unit.

``totals``, ``games`` and ``users`` have, for each figure, the columns ``<figure>_actual``, ``<figure>_what_if`` and
``<figure>_difference``; ``refused`` has the commands that the other rules refuse. A file under its final name is
whole.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ledger.files import sync
from ledger.operations.what_if.figures import NAMES, Comparison, Pair

FIGURES: Final = (*NAMES, "house")
OF_GAMES: Final = ("bets", "staked", "fees", "paid_out", "house")


class TooLarge(Exception):
    """A sum does not fit into int64: the text names it."""


def write_parquet(comparison: Comparison, folder: Path) -> None:
    """Raises TooLarge, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "totals.parquet", _schema((), FIGURES), (_row(pair, (), FIGURES) for pair in comparison.totals))
    _write(
        folder / "games.parquet",
        _schema(("game",), OF_GAMES),
        (_row(pair, ("game",), OF_GAMES) for pair in comparison.games),
    )
    of_users = _schema(("user_id",), FIGURES).append(pa.field("refused", pa.int64(), nullable=False))
    _write(
        folder / "users.parquet",
        of_users,
        ({**_row(pair, ("user_id",), FIGURES), "refused": pair.refused} for pair in comparison.users),
    )
    refused = pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in (("command", pa.string()), ("code", pa.string()))]
    ).append(pa.field("count", pa.int64(), nullable=False))
    rows = ({"command": command, "code": code, "count": count} for command, code, count in comparison.refused)
    _write(folder / "refused.parquet", refused, rows)


def _schema(named: tuple[str, ...], figures: tuple[str, ...]) -> Any:
    texts = [pa.field(name, pa.string(), nullable=False) for name in (*named, "asset")]
    return pa.schema(
        texts
        + [
            pa.field(f"{figure}_{column}", pa.int64(), nullable=False)
            for figure in figures
            for column in ("actual", "what_if", "difference")
        ]
    )


def _row(pair: Pair, named: tuple[str, ...], figures: tuple[str, ...]) -> dict[str, Any]:
    row: dict[str, Any] = {**dict.fromkeys(named, pair.name), "asset": pair.asset}
    for figure in figures:
        row[f"{figure}_actual"] = getattr(pair.actual, figure)
        row[f"{figure}_what_if"] = getattr(pair.what_if, figure)
        row[f"{figure}_difference"] = pair.difference(figure)
    return row


def _write(path: Path, schema: Any, rows: Iterable[dict[str, Any]]) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        try:
            table = pa.Table.from_pylist(list(rows), schema=schema)
        except (pa.ArrowException, OverflowError) as error:
            raise TooLarge(f"a sum does not fit into {path.name}: {error}") from error
        pq.write_table(table, temporary, compression="zstd")
        sync(temporary)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
