"""How a writer takes a partition of a log that other processes may write to, and how it notices that it lost it.

Invariants:
(1) nothing is decided before a ``writer_opened`` of this writer, appended alone, has landed: when it takes the
    partition, and again after each append whose outcome is unknown or whose head was stale. After it, every append
    still under way on an older head is a fork;
(2) a writer that reads a higher generation than its own stops;
(3) opened ``strictly``, it also stops if it reads a ``writer_opened`` of its own generation. Its own record
    and another writer's can be equal byte for byte. So two writers never continue with one generation.
"""

from collections.abc import Sequence

from ledger.core.events import LEDGER, NO_REQUEST, Event, WriterOpened
from ledger.core.follow_up_commands import ResolvePeriod, WalletFollowUp
from ledger.core.follow_ups import CONCLUDED, fits, item_needed_by
from ledger.core.position import RESERVED_PARTITION_PREFIX, Position
from ledger.core.record import Head, encode
from ledger.errors import PartitionsDisagree, Superseded
from ledger.ports import NewRecord
from ledger.writer.requests import FollowUpRequest
from ledger.writer.state import PartitionState, command_key


class Opening:
    """Whether a writer must open its partition, and with which generation of its owners' group."""

    def __init__(self, *, shared: bool) -> None:
        """``shared``: other processes may write to the log. If not, nothing is ever opened."""
        self.must_open = shared
        self.generation = 0
        self.strictly = False
        self._shared = shared
        self._read_generation = 0
        self._reopened_for: set[str] = set()  # command_ids of conclusions

    def note_read(self, generation: int) -> None:
        """The log has a ``writer_opened`` of ``generation``."""
        self._read_generation = max(self._read_generation, generation)

    def check_still_owner(self, state: PartitionState) -> None:
        """Raises Superseded if another writer has opened the partition. The state has read the whole log."""
        if not self._shared:
            return
        highest = state.highest_generation
        assert self._read_generation <= highest, (self._read_generation, highest)
        if highest > self.generation or (self.strictly and self._read_generation == self.generation):
            raise Superseded(
                f"partition {state.partition} was opened by a writer of generation {highest}; this one is of "
                f"generation {self.generation}, and stops"
            )

    def is_behind(self, state: PartitionState, end: Head, follow_ups: Sequence[FollowUpRequest]) -> bool:
        """Whether a follow-up concludes something that is not in the state. Then other writers have appended, and
        this writer must read the log and open the partition before it decides. Raises PartitionsDisagree if it is
        still not in the state after that: a conclusion is sent only after what it concludes is durable."""
        if not self._shared:
            return False
        behind = False
        for waiting in follow_ups:
            follow_up = waiting.follow_up
            what = CONCLUDED.get(type(follow_up))
            if what is None or isinstance(follow_up, ResolvePeriod) or _is_known(state, follow_up):
                continue
            if follow_up.command_id in self._reopened_for:
                reason = f"{follow_up.cause} concludes {what} of {follow_up.user_id}, which is not in this one"
                raise PartitionsDisagree(state.partition, end.seq, reason)
            self._reopened_for.add(follow_up.command_id)
            behind = True
        return behind

    def record(self, partition: int, head: Head, time_us: int) -> NewRecord:
        """The ``writer_opened`` after ``head``."""
        assert self._shared, "no other process can write to the log"
        seq = head.seq + 1
        user_id, command_id = f"{RESERVED_PARTITION_PREFIX}{partition}", f"~open:{seq}"
        data = WriterOpened(generation=self.generation)
        event = Event(time_us, user_id, command_id, NO_REQUEST, LEDGER, data, (), {})
        return NewRecord(seq, user_id, command_id, encode(event, Position(partition, seq), head.sha256))


def _is_known(state: PartitionState, follow_up: WalletFollowUp) -> bool:
    """Whether what the follow-up concludes is in the state, or concluded already."""
    user_id = follow_up.user_id
    if state.get(command_key(user_id, follow_up.command_id)) is not None:
        return True
    key = item_needed_by(follow_up)
    item = None if key is None else state.item(user_id, key)
    return fits(follow_up, state.wallet(user_id), item)
