"""Every way in which the world outside of the ledger can fail. One tree, so that one ``except`` covers it.

::

    LedgerError
    ├── LogUnavailable            nothing was written; retry later
    ├── StaleHead                 nothing was written: the partition has another head than the writer expected
    ├── OutcomeUnknown            the append may or may not be in the log; only reading the log again shows it
    ├── LogDamaged                a record is not what the chain says; names partition, seq and reason
    ├── PartitionsDisagree        a partition's events contradict those of another one; the partition stops alone
    ├── LogUnreadable             the log's file is not a log, is truncated, or is of a newer version
    ├── LogOutdated               the log has the format of an earlier version: run `stakelog upgrade`
    ├── LogMisconfigured          the log's address or settings would lose or change records; names what to change
    ├── CheckpointAhead           a checkpoint names an event that is not in the log: the log lost records
    │   └── ForeignCheckpoint     the log is long enough, but has another record at the checkpoint
    ├── Superseded                a writer of a higher generation has opened the partition
    ├── WrongPartitions           the log was created with another number of partitions
    ├── WrongAssets               the log has another exponent of an asset, or an asset that the settings lack
    ├── RulesMissing              open bets were taken under a pay table that the log does not have
    ├── FolderInUse               another process has locked the folder
    ├── FolderMigrated            the folder's log was moved to Kafka
    ├── FolderUnusable            the folder, or a file in it, cannot be created, read or written
    ├── PeerUnreachable           (node.ports) the request did not reach the other node
    ├── PeerSilent                (node.ports) the other node may have acted on the request; its response is lost
    ├── SnapshotBroken            (snapshots.format) a snapshot cannot be read; the state is rebuilt from the log
    ├── NotThisLog                (operations.migrate) the topic has records of another ledger
    └── Interleaved               (operations.migrate) another program writes to the topic during the move

The read side (``projections``) adds its own errors under ``LedgerError``. A broken invariant of our own is no
``LedgerError``: it is an ``AssertionError``, and stops the partition.

The text of a ``LedgerError`` is one sentence for the operator: what happened, where, and what to do. It may name
paths, hosts and what a driver says, so it goes to the service log only. A client gets ``for_clients`` of its class.
"""

from typing import ClassVar, Final

DELETE_STATE: Final = (
    "stop the service, delete state.sqlite3, its -wal and its -shm in the data folder, and start it again; the log "
    "rebuilds the state"
)
"""The one way to delete a node's state, for every message that advises it."""


class LedgerError(Exception):
    """The outside world failed. The text is one sentence for the operator: what happened, where, and what to do."""

    for_clients: ClassVar[str] = "the service has a fault that its operator must repair"
    """What a client gets instead of the text."""


class LogUnavailable(LedgerError):
    """Nothing was written."""

    for_clients = "the log is unavailable"


class StaleHead(LedgerError):
    """Nothing was written: the partition's head is not the one that the append names."""

    for_clients = "another writer appended to the partition"


class OutcomeUnknown(LedgerError):
    """The append may or may not be in the log. Only reading the log again shows it."""

    for_clients = "it is unknown whether the command was written"


class LogDamaged(LedgerError):
    """The record at ``partition``, ``seq`` is not what the chain says."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        super().__init__(f"the log is damaged at partition {partition}, seq {seq}: {reason}")
        self.partition, self.seq, self.reason = partition, seq, reason

    def __reduce__(self) -> tuple[type["LogDamaged"], tuple[int, int, str]]:
        return type(self), (self.partition, self.seq, self.reason)  # it also crosses process boundaries


class PartitionsDisagree(LedgerError):
    """The events of two partitions contradict each other: one of them lost, changed or gained a record."""

    def __init__(self, partition: int, seq: int, reason: str) -> None:
        super().__init__(
            f"partition {partition}, at seq {seq}, and another one contradict each other: {reason}. One of the two "
            "lost or changed records, or has one that no ledger wrote. No money was moved. This partition accepts no "
            "commands in this process; the others go on. After a restart it accepts commands until it meets the "
            "contradiction again: restore the log first. `stakelog audit verify` names the record"
        )


class LogUnreadable(LedgerError):
    """The file of the log is not a log, is truncated, or is of a newer version."""


class LogOutdated(LedgerError):
    """The log has the format of an earlier version: `stakelog upgrade` turns it into this one."""


class LogMisconfigured(LedgerError):
    """The log's address or settings are wrong; nothing was written."""


class CheckpointAhead(LedgerError):
    """A checkpoint names an event that is not in the log: the log lost records, or was replaced."""


class ForeignCheckpoint(CheckpointAhead):
    """The log has another record at the checkpoint: one of the two belongs to another ledger."""


class Superseded(LedgerError):
    """A writer of a higher generation has opened the partition. Commands not yet appended are not decided."""

    for_clients = "another node has taken over the partition"


class WrongPartitions(LedgerError):
    """The settings name another number of partitions than the log was created with. The number is fixed."""


class WrongAssets(LedgerError):
    """The settings give an asset another exponent than the log has. It is fixed once declared: with another one,
    every amount in the log would mean another sum."""


class RulesMissing(LedgerError):
    """Open bets were taken under a pay table that is not kept with the log, so they cannot be paid."""


class FolderInUse(LedgerError):
    """Another process has the folder's lock."""


class FolderMigrated(LedgerError):
    """The folder's log was moved to Kafka. The text says where to, and how to take the move back. Writing to the
    folder again would split the ledger in two."""


class FolderUnusable(LedgerError):
    """The folder or a file in it cannot be created, read or written."""


DISASTERS: Final = (CheckpointAhead, LogDamaged, LogUnreadable)
"""The log lost or changed records. The program that finds this stops and reports it."""
