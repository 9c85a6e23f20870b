"""Status of the read model: the live generation, how far it is folded, and the quarantined users."""

from typing import Any

from msgspec import Struct
from sqlalchemy import ColumnElement, Select, bindparam, func, select

from ledger.core.record import Head
from projections.storage.port import Checked, Quarantined, ReadModel
from projections.tables.queries import Query
from projections.tables.tables import CHECKPOINT, DIFFERENCE, GENERATION, LAST_CHECK, QUARANTINE, Tables


class ReadModelStatus(Struct, frozen=True):
    """The live generation: its number, the version of the folds that fill it, and the head of every partition."""

    generation: int
    version: int
    heads: list[Head]
    quarantined: int
    differences: int
    """Fields and rows that differ from the log, as the background check found."""
    checked_at_us: int
    """Time of the oldest of the partitions' last checks. While a partition is unchecked: when the generation was
    made."""


class Details(Struct, frozen=True):
    """Details for an operator: the first quarantined users, the last checks, and the users with wrong rows."""

    quarantined: list[Quarantined]
    checks: list[Checked]
    differing: list[tuple[int, str, str]]
    """Partition, user or account, table."""


_LISTED: int = 100


async def read_model_status(model: ReadModel) -> ReadModelStatus:
    """Raises ReadModelUnavailable, also if no generation is live yet."""
    (generation,), checkpoints, (quarantined,), ((checked, differences, oldest_us),) = await model.fetch(
        [Query(_generation), Query(_checkpoints), Query(_quarantined_count), Query(_check_sums)], quick=True
    )
    number, version, made_at_us = generation
    heads = [Head(seq, sha256) for seq, sha256 in checkpoints]
    checked_at_us = oldest_us if checked == len(heads) else made_at_us
    return ReadModelStatus(number, version, heads, quarantined[0], int(differences or 0), checked_at_us)


async def details_of(model: ReadModel) -> Details:
    """Raises ReadModelUnavailable."""
    quarantined, checks, differing = await model.fetch([Query(_quarantined), Query(_checks), Query(_differing)])
    return Details(
        [Quarantined(*row) for row in quarantined],
        [Checked(*row) for row in checks],
        [(row[0], row[1], row[2]) for row in differing],
    )


def _generation(_: Tables, __: frozenset[str]) -> Select[Any]:
    of = GENERATION.c
    return select(of.generation, of.fold_version, of.made_at_us).where(of.generation == bindparam("generation"))


def _checkpoints(_: Tables, __: frozenset[str]) -> Select[Any]:
    of = CHECKPOINT.c
    return select(of.seq, of.head).where(of.generation == bindparam("generation")).order_by(of.partition)


def _quarantined_count(_: Tables, __: frozenset[str]) -> Select[Any]:
    return select(func.count()).select_from(QUARANTINE).where(QUARANTINE.c.generation == bindparam("generation"))


def _check_sums(_: Tables, __: frozenset[str]) -> Select[Any]:
    of = LAST_CHECK.c
    columns: list[ColumnElement[Any]] = [func.count(), func.sum(of.differences), func.min(of.checked_at_us)]
    return select(*columns).where(of.generation == bindparam("generation"))


def _quarantined(_: Tables, __: frozenset[str]) -> Select[Any]:
    of = QUARANTINE.c
    here = select(of.partition, of.user_id, of.seq, of.time_us, of.reason)
    return here.where(of.generation == bindparam("generation")).order_by(of.partition, of.user_id).limit(_LISTED)


def _checks(_: Tables, __: frozenset[str]) -> Select[Any]:
    of = LAST_CHECK.c
    here = select(of.partition, of.seq, of.checked_at_us, of.differences)
    return here.where(of.generation == bindparam("generation")).order_by(of.partition)


def _differing(_: Tables, __: frozenset[str]) -> Select[Any]:
    of = DIFFERENCE.c
    here = select(of.partition, of.place, of.row_table).distinct()
    return here.where(of.generation == bindparam("generation")).order_by(of.partition, of.place).limit(_LISTED)
