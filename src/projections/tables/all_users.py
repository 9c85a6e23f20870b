"""Lists of all users' items, newest first by their first event's (time_us, partition, seq), with a filter on status.

The status of an item changes at most once; its place in the list never changes. So a cursor without a filter on
status is the place of the last item. With such a filter the list contains the items that had the status at the first
page, and an item may get it or lose it while a client reads on. Then the cursor also says which changes of status the
first page knew, in bounded space:

- ``since_us``: the first page knew every change before this time;
- for each partition with a change since then: the seq of the last one that the first page knew. It knew that change
  and the earlier ones of its partition;
- ``is_approximate``: there were too many to name all of them. Then a page may also contain items whose status changed
  since ``since_us``; none is missing.

``since_us`` follows from the times of the events that the first page knew, never from a reader's clock.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, false, not_, or_, select

from projections.tables.queries import (
    CLOCKS_DIFFER_US,
    Conditions,
    Cursor,
    Filters,
    Query,
    Rows,
    newest_first,
    value,
)
from projections.tables.rows import Row
from projections.tables.tables import Tables

CHANGES_MAX: Final = 200
"""Changes of a status that a first page reads. Chosen: 0.2 ms."""
NAMED_PARTITIONS_MAX: Final = 28
"""Partitions that a cursor names. Chosen: a cursor has at most 512 characters."""
_KNOWN: Final = "known="


class AllUsersList:
    """One such list. Its table has the columns ``created_at_us``, ``seq``, ``status``, ``resolved_seq`` and
    ``resolved_at_us``; ``resolved_seq`` is the event that changed the status, null before."""

    place_kinds: Final = "iii"

    def __init__(
        self,
        name: str,
        kind: type[Row],
        *,
        changes_to: Mapping[str, tuple[str, ...]],
        item: Callable[[Sequence[Any]], Any],
        page: Callable[[list[Any], str | None], Any],
    ) -> None:
        """``changes_to``: first status → the statuses that may follow it."""
        self.name, self.table, self.item, self.page = name, kind.table, item, page
        self._kind, self._changes_to = kind, changes_to
        members = ("partition", *kind.__struct_fields__)
        self._time_at, self._seq_at = members.index("created_at_us"), members.index("seq")

    def place(self, row: Sequence[Any]) -> tuple[int, int, int]:
        """(time_us, partition, seq) of a row."""
        return row[self._time_at], row[0], row[self._seq_at]

    # --- statements ------------------------------------------------------------------------------------------------

    def statement(self, tables: Tables, conditions: Conditions) -> Select[Any]:
        """Conditions: names of columns with an equal value; ``after`` a place; ``kept``: the status did not change
        after the first page; ``left``: it did; ``known=<n>``: n partitions have a seq that the first page knew."""
        c = tables[self._kind].c
        wanted = [c[name] == value(f"of_{name}") for name in sorted(conditions) if name in c]
        if "after" in conditions:
            time_us, partition, seq = (value(f"after_{name}") for name in ("time_us", "partition", "seq"))
            older = or_(c.partition < partition, and_(c.partition == partition, c.seq < seq))
            wanted += [c.created_at_us <= time_us, or_(c.created_at_us < time_us, older)]
        if "kept" in conditions:
            wanted.append(not_(_changed_later(c, conditions)))
        if "left" in conditions:
            wanted += [c.resolved_at_us >= value("since_us"), _changed_later(c, conditions)]
        return newest_first(select(*c).where(*wanted), c.created_at_us, c.partition, c.seq)

    def changes_statement(self, tables: Tables, _: Conditions) -> Select[Any]:
        """(partition, resolved_seq, resolved_at_us) of the latest changes to a status."""
        c = tables[self._kind].c
        return (
            select(c.partition, c.resolved_seq, c.resolved_at_us)
            .where(c.status == value("of_status"))
            .order_by(c.resolved_at_us.desc())
            .limit(CHANGES_MAX)
        )

    # --- pages -----------------------------------------------------------------------------------------------------

    def is_snapshot(self, filters: Filters, snapshot: Sequence[int]) -> bool:
        """Whether a cursor of the list with these filters can have it."""
        if "status" not in filters:
            return not snapshot
        return 2 <= len(snapshot) <= 2 + 2 * NAMED_PARTITIONS_MAX and len(snapshot) % 2 == 0

    def page_queries(self, filters: Filters, at: Cursor | None, most: int) -> list[Query]:
        """The queries whose rows, sorted by place, begin with the page."""
        values: dict[str, Any] = {"most": most, **{f"of_{name}": given for name, given in filters.items()}}
        conditions = frozenset(filters)
        if at is None:
            return [Query(self.statement, values, conditions)]
        values |= dict(zip(("after_time_us", "after_partition", "after_seq"), at.after, strict=True))
        conditions |= {"after"}
        status = filters.get("status")
        if status is None:
            return [Query(self.statement, values, conditions)]
        is_approximate, since_us, *known = at.snapshot
        values["since_us"] = since_us
        for number, (partition, seq) in enumerate(zip(known[::2], known[1::2], strict=True)):
            values |= {f"known_partition_{number}": partition, f"known_seq_{number}": seq}
        changed = f"{_KNOWN}{len(known) // 2}"
        next_statuses = self._changes_to.get(str(status))
        if next_statuses is None:  # no status follows: items get it while the client reads on, and keep it
            return [Query(self.statement, values, conditions if is_approximate else conditions | {"kept", changed})]
        left = [
            Query(self.statement, {**values, "of_status": next_status}, conditions | {"left", changed})
            for next_status in next_statuses
        ]
        return [Query(self.statement, values, conditions), *left]

    def changes_queries(self, filters: Filters, at: Cursor | None) -> list[Query]:
        """The queries of ``snapshot``, for the first page."""
        status = filters.get("status")
        if status is None or at is not None:
            return []
        next_statuses = self._changes_to.get(str(status), (str(status),))
        return [Query(self.changes_statement, {"of_status": next_status}) for next_status in next_statuses]

    def snapshot(self, changes: Sequence[Rows], first: Sequence[Any], unfolded_us: int | None) -> tuple[int, ...]:
        """What the cursor after the first page contains besides the place. ``changes``: the rows of
        ``changes_queries``; ``first``: the first row of the page; ``unfolded_us``: the time of the oldest event that
        this process knows and the tables do not have."""
        if not changes:
            return ()
        known_us = [row[2] for rows in changes for row in rows]
        # An event that this process does not know comes from a writer whose clock is right within this difference.
        since_us = max([self.place(first)[0], *known_us]) - CLOCKS_DIFFER_US
        if unfolded_us is not None:
            since_us = min(since_us, unfolded_us)
        seqs: dict[int, int] = {}
        for rows in changes:
            for partition, seq, time_us in rows:
                if time_us >= since_us:
                    seqs[partition] = max(seqs.get(partition, 0), seq)
        is_approximate = len(seqs) > NAMED_PARTITIONS_MAX or any(
            len(rows) == CHANGES_MAX and rows[-1][2] >= since_us for rows in changes
        )
        named = sorted(seqs.items())[:NAMED_PARTITIONS_MAX]
        return (int(is_approximate), since_us, *(number for pair in named for number in pair))


def _changed_later(c: Any, conditions: Conditions) -> ColumnElement[bool]:
    """Whether the status changed after the first page."""
    count = next(int(text.removeprefix(_KNOWN)) for text in conditions if text.startswith(_KNOWN))
    known = [
        and_(c.partition == value(f"known_partition_{number}"), c.resolved_seq <= value(f"known_seq_{number}"))
        for number in range(count)
    ]
    return and_(c.resolved_seq.is_not(None), c.resolved_at_us >= value("since_us"), not_(or_(false(), *known)))
