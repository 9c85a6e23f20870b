"""The statements that SQLite and the database servers share, and how a checkpoint is stored.

A statement is a SQLAlchemy clause; ``Compiled`` has its text for one database. A parameter name has one meaning in
all statements: ``number`` is a generation, ``of_partition`` a partition, ``user`` a user.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, Table, bindparam, delete, insert, select, update
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.expression import ClauseElement

from ledger.core.record import Head
from projections.storage.common import Statement, ready
from projections.storage.port import Checkpoint, Differs, OutOfStep, ReadModelUnavailable, Run
from projections.tables.rows import Row, is_of_user
from projections.tables.tables import CHECKPOINT, DIFFERENCE, GENERATION, LAST_CHECK, QUARANTINE, QUARANTINED_EVENT

_NUMBER: Final[Any] = bindparam("number")
_PARTITION: Final[Any] = bindparam("of_partition")
_USER: Final[Any] = bindparam("user")

# --- generations ---------------------------------------------------------------------------------------------------

GENERATIONS: Final = select(
    GENERATION.c.generation, GENERATION.c.fold_version, GENERATION.c.status, GENERATION.c.made_at_us
).order_by(GENERATION.c.generation)
LIVE: Final = select(GENERATION.c.generation).where(GENERATION.c.status == "live")
STATUS: Final = select(GENERATION.c.status).where(GENERATION.c.generation == _NUMBER)
SET_STATUS: Final = (
    update(GENERATION)
    .where(GENERATION.c.generation == _NUMBER, GENERATION.c.status == bindparam("old_status"))
    .values(status=bindparam("new_status"))
)
ADD_GENERATION: Final = insert(GENERATION)
GENERATION_TABLES: Final = (CHECKPOINT, QUARANTINE, QUARANTINED_EVENT, LAST_CHECK, DIFFERENCE, GENERATION)
"""The common tables with rows of a generation. Its row in ``generation`` is deleted last."""
DELETE_GENERATION: Final = {table: delete(table).where(table.c.generation == _NUMBER) for table in GENERATION_TABLES}

# --- checkpoints ---------------------------------------------------------------------------------------------------

CHECKPOINTS: Final = (
    select(CHECKPOINT.c.partition, CHECKPOINT.c.seq, CHECKPOINT.c.head, CHECKPOINT.c.digests)
    .where(CHECKPOINT.c.generation == _NUMBER)
    .order_by(CHECKPOINT.c.partition)
)
LOCKED_CHECKPOINTS: Final = CHECKPOINTS.with_for_update()
CHECKPOINT_OF: Final = select(CHECKPOINT.c.seq, CHECKPOINT.c.head, CHECKPOINT.c.digests).where(
    CHECKPOINT.c.generation == _NUMBER, CHECKPOINT.c.partition == _PARTITION
)
ADD_CHECKPOINT: Final = insert(CHECKPOINT)
ADVANCE: Final = (
    update(CHECKPOINT)
    .where(
        CHECKPOINT.c.generation == _NUMBER,
        CHECKPOINT.c.partition == _PARTITION,
        CHECKPOINT.c.seq == bindparam("old_seq"),
        CHECKPOINT.c.head == bindparam("old_head"),
        CHECKPOINT.c.digests == bindparam("old_digests"),
    )
    .values(seq=bindparam("new_seq"), head=bindparam("new_head"), digests=bindparam("new_digests"))
)
"""The compare-and-set of a checkpoint; its values are ``advance_values``."""

# --- quarantine ----------------------------------------------------------------------------------------------------

QUARANTINED: Final = (
    select(QUARANTINE.c.partition, QUARANTINE.c.user_id, QUARANTINE.c.seq, QUARANTINE.c.time_us, QUARANTINE.c.reason)
    .where(QUARANTINE.c.generation == _NUMBER)
    .order_by(QUARANTINE.c.partition, QUARANTINE.c.user_id)
)
END_QUARANTINE: Final = delete(QUARANTINE).where(
    QUARANTINE.c.generation == _NUMBER, QUARANTINE.c.partition == _PARTITION, QUARANTINE.c.user_id == _USER
)
ADD_EVENT: Final = insert(QUARANTINED_EVENT)
DELETE_EVENT: Final = delete(QUARANTINED_EVENT).where(
    QUARANTINED_EVENT.c.generation == _NUMBER,
    QUARANTINED_EVENT.c.partition == _PARTITION,
    QUARANTINED_EVENT.c.user_id == _USER,
    QUARANTINED_EVENT.c.seq == bindparam("at_seq"),
)
EVENTS: Final = (
    select(QUARANTINED_EVENT.c.user_id, QUARANTINED_EVENT.c.seq, QUARANTINED_EVENT.c.record)
    .where(
        QUARANTINED_EVENT.c.generation == _NUMBER,
        QUARANTINED_EVENT.c.partition == _PARTITION,
        QUARANTINED_EVENT.c.user_id == _USER,
    )
    .order_by(QUARANTINED_EVENT.c.seq)
    .limit(bindparam("most"))
)

# --- results of the background check -------------------------------------------------------------------------------

CHECKED: Final = (
    select(LAST_CHECK.c.partition, LAST_CHECK.c.seq, LAST_CHECK.c.checked_at_us, LAST_CHECK.c.differences)
    .where(LAST_CHECK.c.generation == _NUMBER)
    .order_by(LAST_CHECK.c.partition)
)
DIFFERENCES: Final = (
    select(*(column for column in DIFFERENCE.c if column.name not in ("generation", "found_at_us")))
    .where(DIFFERENCE.c.generation == _NUMBER)
    .order_by(*DIFFERENCE.primary_key)
    .limit(bindparam("most"))
)
CLEAR_DIFFERENCES: Final = delete(DIFFERENCE).where(
    DIFFERENCE.c.generation == _NUMBER, DIFFERENCE.c.partition == _PARTITION
)


def scan(table: Table, kind: type[Row]) -> Select[Any]:
    """A partition's rows in the order of keys; of users from ``first`` on, below ``last``, if each row has a user."""
    fields = [column for column in table.c if column.name != "partition"]
    rows = select(*fields).where(table.c.partition == _PARTITION)
    if is_of_user(kind):
        rows = rows.where(fields[0] >= bindparam("first"), fields[0] < bindparam("last"))
    return rows.order_by(*fields[: kind.key_length])


class Compiled:
    """The statements as texts for one database; each is compiled when it is first used."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._ready: dict[ClauseElement, Statement] = {}

    def __getitem__(self, clause: ClauseElement) -> Statement:
        statement = self._ready.get(clause)
        if statement is None:
            statement = self._ready[clause] = ready(clause, self._dialect)
        return statement


# --- checkpoints as rows -------------------------------------------------------------------------------------------


def checkpoint_of(seq: int, head: str, digests: str) -> Checkpoint:
    """Raises ReadModelUnavailable if the digests cannot be decoded."""
    try:
        texts = msgspec.json.decode(digests, type=dict[str, str])
        return Checkpoint(Head(seq, head), {table: int(text, 16) for table, text in texts.items()})
    except (msgspec.MsgspecError, ValueError) as error:
        raise ReadModelUnavailable(
            f"a checkpoint of the read model is damaged, at seq {seq}: {error}. "
            "Rebuild the read model from the log with `stakelog project rebuild`"
        ) from error


def digests_text(checkpoint: Checkpoint) -> str:
    texts = {table: f"{digest:032x}" for table, digest in checkpoint.digests.items()}
    return msgspec.json.encode(texts, order="sorted").decode()


def advance_values(generation: int, run: Run) -> Mapping[str, Any]:
    return {
        "number": generation,
        "of_partition": run.partition,
        "old_seq": run.before.head.seq,
        "old_head": run.before.head.sha256,
        "old_digests": digests_text(run.before),
        "new_seq": run.after.head.seq,
        "new_head": run.after.head.sha256,
        "new_digests": digests_text(run.after),
    }


def refuse_switch(
    old: int, new: int, at_old: Sequence[Checkpoint], at_new: Sequence[Checkpoint], *, accept: bool
) -> None:
    """Raises OutOfStep if the heads of the generations differ; Differs, unless ``accept``, if their rows differ.

    Both name the first such partition.
    """
    if len(at_new) != len(at_old):
        raise OutOfStep(f"generations {old} and {new} are of different logs")
    for partition, (theirs, ours) in enumerate(zip(at_old, at_new, strict=True)):
        if ours.head != theirs.head:
            raise OutOfStep(
                f"partition {partition}: generation {new} is at {ours.head.seq}, {old} at {theirs.head.seq}"
            )
        if not accept and ours != theirs:
            raise Differs(f"partition {partition}: the rows of generations {old} and {new} differ")
