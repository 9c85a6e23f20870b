"""A read model as a value, and the lists of tables and folds that follow from several read models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from ledger.core.event_base import Data
from ledger.core.events import Event
from ledger.core.position import Position
from projections.tables.row_buffer import RowBuffer
from projections.tables.rows import Row, is_of_user

Needs = Callable[[Event, RowBuffer], None]
"""Requests the rows that the fold of an event reads (``TableBuffer.want``)."""
Fold = Callable[[Event, Position, RowBuffer], None]
"""Changes the rows by one event."""

F = TypeVar("F")


class Model(Struct, frozen=True):
    """One read model: its tables, and the pure functions that fill them from a partition's events, in order.

    For each event, all models' ``needs`` run first, then the wanted rows are loaded; ``then_needs`` wants the rows
    whose keys are known only from the loaded ones. Then all models' ``fold`` run. A fold never refuses: an event is a
    fact. If a fold raises an exception, the event's user is quarantined.
    """

    rows: tuple[type[Row], ...]
    fold: Fold
    needs: Needs | None = None
    then_needs: Needs | None = None
    of: tuple[type[Data], ...] = ()
    """The types of the events that its functions handle, so that they are not called for others; () for all."""


class ByType(dict[type[Data], tuple[F, ...]]):
    """Type of an event's data → those of the functions that handle it, in their order."""

    def __init__(self, functions: Sequence[F], types_of: Mapping[F, tuple[type[Data], ...]]) -> None:
        """``types_of``: the types that a function handles; a function that is not in it handles all."""
        super().__init__()
        self._functions, self._types_of = functions, types_of

    def __missing__(self, kind: type[Data]) -> tuple[F, ...]:
        handle = tuple(one for one in self._functions if kind in self._types_of.get(one, (kind,)))
        self[kind] = handle
        return handle


class Models:
    """All read models of a database, in the order in which their folds run."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.row_types: tuple[type[Row], ...] = tuple(kind for model in models for kind in model.rows)
        self.by_user = tuple(kind for kind in self.row_types if is_of_user(kind))
        """The tables whose rows belong to one user each."""
        self.by_partition = tuple(kind for kind in self.row_types if not is_of_user(kind))
        """The tables whose rows belong to the partition as a whole."""
        self.needs = tuple(model.needs for model in models if model.needs is not None)
        self.then_needs = tuple(model.then_needs for model in models if model.then_needs is not None)
        self.folds = tuple(model.fold for model in models)
        self.types_of: Mapping[Any, tuple[type[Data], ...]] = {
            function: model.of
            for model in models
            if model.of
            for function in (model.fold, model.needs, model.then_needs)
            if function is not None
        }
        """The types of events that a function of a model handles; functions that handle all are left out."""
