"""The statements behind the reads. Each goes by an index: ``tests/conformance/test_query_plans.py`` holds the plans.

``generation`` as a value is filled in by the adapter with the live one. Conditions that a read may or may not have
are named in the set that each builder is handed. A list's order is (time_us, partition, seq), the newest first; what
comes after a cursor is written out, because not every database uses an index for a comparison of row values.
"""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Integer, Select, and_, bindparam, case, cast, func, or_, select

from projections.models.rows import LOW_BITS, LOW_MASK
from projections.models.tables import CHECKPOINT, GENERATION, QUARANTINE, Tables

Conditions = frozenset[str]


def _value(name: str) -> Any:
    return bindparam(name)


def standing(tables: Tables, _: Conditions) -> Select[Any]:
    """One row: how far the user's partition is folded, where the user is quarantined, and the user's wallet."""
    wallet, user = tables.wallet, _value("user")
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
        .where(CHECKPOINT.c.generation == _value("generation"), CHECKPOINT.c.partition == _value("of_partition"))
    )


def identity(_: Tables, __: Conditions) -> Select[Any]:
    """One row, (generation, made_at_us): which of all generations these tables are."""
    return select(GENERATION.c.generation, GENERATION.c.made_at_us).where(
        GENERATION.c.generation == _value("generation")
    )


def checkpoints(_: Tables, __: Conditions) -> Select[Any]:
    """(partition, seq) of every partition, in order."""
    here = CHECKPOINT.c.generation == _value("generation")
    return select(CHECKPOINT.c.partition, CHECKPOINT.c.seq).where(here).order_by(CHECKPOINT.c.partition)


def quarantine(_: Tables, __: Conditions) -> Select[Any]:
    """(partition, user_id, seq, time_us) of every quarantined user."""
    return select(QUARANTINE.c.partition, QUARANTINE.c.user_id, QUARANTINE.c.seq, QUARANTINE.c.time_us).where(
        QUARANTINE.c.generation == _value("generation")
    )


def users(tables: Tables, conditions: Conditions) -> Select[Any]:
    """(user_id) of whoever has a row in one table of one partition. Conditions: the name of the table."""
    (name,) = conditions
    (c,) = (table.c for kind, table in tables.of.items() if kind.table == name)
    return select(c.user_id).where(c.partition == _value("of_partition")).distinct()


def _own(table: Any) -> ColumnElement[bool]:
    return and_(table.c.partition == _value("of_partition"), table.c.user_id == _value("user"))


def assets(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables.asset
    members = [column for column in table.c if column.name not in ("partition", "user_id")]
    return select(*members).where(_own(table)).order_by(table.c.asset)


def balances_at(tables: Tables, _: Conditions) -> Select[Any]:
    """(asset, cash, bonus, held) as they were at ``at_us``; the buckets are null before the first move."""
    asset, history = tables.asset, tables.history

    def last(column: ColumnElement[Any]) -> Any:
        return (
            select(column)
            .where(
                history.c.partition == asset.c.partition,
                history.c.user_id == asset.c.user_id,
                history.c.asset == asset.c.asset,
                history.c.time_us <= _value("at_us"),
            )
            .order_by(history.c.time_us.desc(), history.c.seq.desc())
            .limit(1)
            .scalar_subquery()
        )

    return (
        select(asset.c.asset, last(history.c.cash), last(history.c.bonus), last(history.c.held))
        .where(_own(asset), asset.c.since_us <= _value("at_us"))
        .order_by(asset.c.asset)
    )


def history(tables: Tables, conditions: Conditions) -> Select[Any]:
    """Conditions: ``type`` ``asset`` ``game`` ``from_us`` ``to_us``, ``after`` a (time_us, seq, asset)."""
    c = tables.history.c
    wanted: list[ColumnElement[bool]] = [_own(tables.history)]
    wanted += [c[name] == _value(f"of_{name}") for name in ("type", "asset", "game") if name in conditions]
    if "from_us" in conditions:
        wanted.append(c.time_us >= _value("from_us"))
    if "to_us" in conditions:
        wanted.append(c.time_us < _value("to_us"))
    if "after" in conditions:
        time_us, seq, asset = _value("after_time_us"), _value("after_seq"), _value("after_asset")
        wanted += [c.time_us <= time_us, or_(c.time_us < time_us, c.seq < seq, and_(c.seq == seq, c.asset < asset))]
    members = [column for column in c if column.name not in ("partition", "user_id")]
    return (
        select(*members).where(*wanted).order_by(c.time_us.desc(), c.seq.desc(), c.asset.desc()).limit(_value("most"))
    )


def _after(time_us: ColumnElement[Any], seq: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """After a cursor inside one partition, where time and seq rise together."""
    return [time_us <= _value("after_time_us"), seq < _value("after_seq")]


def bets(tables: Tables, conditions: Conditions) -> Select[Any]:
    """Conditions: ``game`` ``period``; ``status``: has it now; ``kept``: … and had it at ``as_of_seq``; ``left``: was
    open at ``as_of_seq`` and is not any more; ``after`` a (time_us, seq)."""
    c = tables.bet.c
    wanted: list[ColumnElement[bool]] = [_own(tables.bet)]
    wanted += [c[name] == _value(f"of_{name}") for name in ("game", "period", "status") if name in conditions]
    if "kept" in conditions:
        wanted.append(or_(c.settled_seq.is_(None), c.settled_seq <= _value("as_of_seq")))
    if "left" in conditions:
        wanted.append(c.settled_seq > _value("as_of_seq"))
    if "after" in conditions:
        wanted += _after(c.placed_at_us, c.seq)
    return (
        select(*(column for column in c if column.name not in ("partition", "user_id")))
        .where(*wanted)
        .order_by(c.placed_at_us.desc(), c.seq.desc())
        .limit(_value("most"))
    )


def bet(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables.bet
    members = [column for column in table.c if column.name not in ("partition", "user_id")]
    return select(*members).where(_own(table), table.c.bet_id == _value("id"))


def holds(tables: Tables, conditions: Conditions) -> Select[Any]:
    """Conditions: ``after`` a (time_us, seq)."""
    c = tables.hold.c
    wanted: list[ColumnElement[bool]] = [_own(tables.hold)]
    if "after" in conditions:
        wanted += _after(c.created_at_us, c.seq)
    return (
        select(*(column for column in c if column.name not in ("partition", "user_id")))
        .where(*wanted)
        .order_by(c.created_at_us.desc(), c.seq.desc())
        .limit(_value("most"))
    )


def hold(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables.hold
    members = [column for column in table.c if column.name not in ("partition", "user_id")]
    return select(*members).where(_own(table), table.c.hold_id == _value("id"))


def transfer(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables.transfer
    members = [column for column in table.c if column.name not in ("partition", "user_id")]
    return select(*members).where(_own(table), table.c.transfer_id == _value("id"))


def statistics(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables.statistics
    members = [column for column in table.c if column.name not in ("partition", "user_id")]
    return select(*members).where(_own(table)).order_by(table.c.asset, table.c.game)


def referrals(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables.referral
    return select(table.c.level, table.c.members).where(_own(table)).order_by(table.c.level)


def order(tables: Tables, _: Conditions) -> Select[Any]:
    table = tables.orders
    return select(*table.c).where(_own(table), table.c.order_id == _value("id"))


def orders(tables: Tables, conditions: Conditions) -> Select[Any]:
    """The orders of everybody. Conditions: ``kind``; ``status``: has it now; ``kept``: … and had it at the first
    page; ``left``: was not resolved then and is now; ``after`` a (time_us, partition, seq); ``partitions=<n>``.

    The first page was true at ``as_of_<partition>``; ``since_us`` is before everything that it did not know.
    """
    c = tables.orders.c
    wanted = [c[name] == _value(f"of_{name}") for name in ("kind", "status") if name in conditions]
    if "after" in conditions:
        time_us, partition, seq = _value("after_time_us"), _value("after_partition"), _value("after_seq")
        older = or_(c.partition < partition, and_(c.partition == partition, c.seq < seq))
        wanted += [c.created_at_us <= time_us, or_(c.created_at_us < time_us, older)]
    partitions = next((int(text[11:]) for text in conditions if text.startswith("partitions=")), 0)
    if partitions:
        known = case({number: _value(f"as_of_{number}") for number in range(partitions)}, value=c.partition)
        wanted.append(c.seq <= known)
        if "kept" in conditions:
            wanted.append(or_(c.resolved_seq.is_(None), c.resolved_seq <= known))
        if "left" in conditions:
            wanted += [c.resolved_at_us >= _value("since_us"), c.resolved_seq > known]
    return (
        select(*c)
        .where(*wanted)
        .order_by(c.created_at_us.desc(), c.partition.desc(), c.seq.desc())
        .limit(_value("most"))
    )


def leaders(tables: Tables, conditions: Conditions) -> Select[Any]:
    """(user_id, high, low), the largest first, ties by user_id. Conditions: the one measure, staked, won or net.

    The standings of the days are found by an index and added up: of a month of 10,000 players some 300,000 rows.
    """
    c = tables.standing.c
    (measure,) = conditions
    # A sum of integers is a decimal to some databases, which they cannot shift; PostgreSQL shifts by a small integer
    # only; what MySQL has shifted has no sign, and takes it from what it is added to.
    lows = cast(func.sum(c[f"{measure}_low"]), BigInteger)
    carried = cast(lows.bitwise_rshift(cast(LOW_BITS, Integer)), BigInteger)
    high = cast(func.sum(c[f"{measure}_high"]), BigInteger) + carried
    low = lows.bitwise_and(LOW_MASK)
    return (
        select(c.user_id, high, low)
        .where(c.asset == _value("of_asset"), c.day >= _value("first_day"), c.day < _value("end_day"))
        .group_by(c.user_id)
        .having(or_(high != 0, low != 0))
        .order_by(high.desc(), low.desc(), c.user_id)
        .limit(_value("most"))
    )


def accounts(tables: Tables, _: Conditions) -> Select[Any]:
    """(partition, account, asset, credited, debited) of all partitions."""
    return select(*tables.account.c)
