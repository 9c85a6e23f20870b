"""The statements that all reads share: how far the rows are folded, and which users are quarantined.

``tests/conformance/test_query_plans.py`` checks that each statement uses an index, and those of the read models too.
"""

from typing import Any

from sqlalchemy import Select, and_, func, select

from projections.models.wallets import WalletRow
from projections.tables.queries import Conditions, value
from projections.tables.tables import CHECKPOINT, GENERATION, QUARANTINE, Tables


def user_status(tables: Tables, _: Conditions) -> Select[Any]:
    """One row: the seq of the user's partition, where the user is quarantined, and the user's wallet."""
    wallet, user = tables[WalletRow], value("user")
    quarantined = and_(
        QUARANTINE.c.generation == CHECKPOINT.c.generation,
        QUARANTINE.c.partition == CHECKPOINT.c.partition,
        QUARANTINE.c.user_id == user,
    )
    owned = and_(wallet.c.partition == CHECKPOINT.c.partition, wallet.c.user_id == user)
    return (
        select(
            CHECKPOINT.c.seq,
            QUARANTINE.c.seq.label("quarantined_seq"),
            QUARANTINE.c.time_us,
            *(column for column in wallet.c if column.name != "partition"),
        )
        .select_from(CHECKPOINT.outerjoin(QUARANTINE, quarantined).outerjoin(wallet, owned))
        .where(CHECKPOINT.c.generation == value("generation"), CHECKPOINT.c.partition == value("of_partition"))
    )


def identity(_: Tables, __: Conditions) -> Select[Any]:
    """One row, (generation, made_at_us): the identity of the generation that is read."""
    return select(GENERATION.c.generation, GENERATION.c.made_at_us).where(
        GENERATION.c.generation == value("generation")
    )


def checkpoints(_: Tables, __: Conditions) -> Select[Any]:
    """(partition, seq) of every partition, in order."""
    of_generation = CHECKPOINT.c.generation == value("generation")
    return select(CHECKPOINT.c.partition, CHECKPOINT.c.seq).where(of_generation).order_by(CHECKPOINT.c.partition)


def quarantine(_: Tables, __: Conditions) -> Select[Any]:
    """(partition, user_id, seq, time_us) of every quarantined user."""
    return select(QUARANTINE.c.partition, QUARANTINE.c.user_id, QUARANTINE.c.seq, QUARANTINE.c.time_us).where(
        QUARANTINE.c.generation == value("generation")
    )


def quarantined_users(_: Tables, __: Conditions) -> Select[Any]:
    """(user_id, partition, seq, time_us, reason) of at most ``most`` quarantined users, in the order of the key."""
    c = QUARANTINE.c
    page = select(c.user_id, c.partition, c.seq, c.time_us, c.reason).where(c.generation == value("generation"))
    return page.order_by(c.partition, c.user_id).limit(value("most"))


def oldest_quarantine(_: Tables, __: Conditions) -> Select[Any]:
    """One row, (time_us): the time of the oldest event that is quarantined; null if there is none."""
    return select(func.min(QUARANTINE.c.time_us)).where(QUARANTINE.c.generation == value("generation"))


def users(tables: Tables, conditions: Conditions) -> Select[Any]:
    """(user_id) of each user with a row in one table of one partition. Conditions: the name of the table."""
    (name,) = conditions
    (c,) = (table.c for kind, table in tables.of.items() if kind.table == name)
    return select(c.user_id).where(c.partition == value("of_partition")).distinct()
