"""No cache: nothing is kept, so everything is read from the tables."""

from collections.abc import Mapping, Sequence

from projections.caching.port import (
    NO_BOARD,
    NOTHING,
    Board,
    BoardTicket,
    Fields,
    Kind,
    Looked,
    LookedBoard,
    Position,
    Step,
    Ticket,
)


class NoCache:
    async def step(self, steps: Sequence[Step]) -> None: ...

    async def confirm(self, generation: str, places: Mapping[int, Position]) -> None: ...

    async def look(self, kind: Kind, partition: int, user_id: str) -> Looked:  # noqa: ARG002
        return NOTHING

    async def keep(
        self, kind: Kind, partition: int, user_id: str, ticket: Ticket, seq: int, fields: Fields
    ) -> None: ...

    async def look_board(self, board: Board, partitions: int) -> LookedBoard:  # noqa: ARG002
        return NO_BOARD

    async def keep_board(self, board: Board, ticket: BoardTicket, seqs: Sequence[int], document: bytes) -> None: ...

    async def close(self) -> None: ...
