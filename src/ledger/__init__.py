"""The write side: what may happen to a wallet, and the record of what happened.

==============  =====================================================================================================
``core``        commands, events and rules; ``decide`` and ``evolve``. Pure
``writer``      one partition's single writer: rounds, appends, responses, and the partition's state
``node``        the partitions of this process: which it owns, checkpoints, standbys
``peers``       the other nodes: forwarding of commands, delivery of follow-ups
``snapshots``   a partition's state, kept outside of the node
``sqlite``      adapters on SQLite: the log, the state store, the data folder
``kafka``       adapters on Kafka: the log, the owners' group, snapshots, the broker's clock
``memory``      adapters in memory, for tests
``operations``  audit, export, backup, replay, migration
``ports``       what the ledger needs of the outside; ``cluster_ports``: what it needs beside other nodes
``background``  the tasks that run beside everything else
``pacing``      pauses between attempts, and how often a warning is repeated
``histogram``   counts values by size, for metrics
``tracing``     the spans of traced requests, as the ledger sees them
``files``       what all files of a ledger need of the disk
``histogram``   counts of values in buckets; ``process_metrics``: CPU and memory of the processes
``process_settings``  the settings of the interpreter
``errors``      every way in which the outside can fail
==============  =====================================================================================================

Arrows go one way: ``operations``, ``node`` and ``peers`` import ``writer``, which imports ``core``. Adapters import
``ports``, ``errors``, ``core`` and their own technology.

A *command* is a request to change a wallet, an *event* is a fact, a *record* is an event's exact bytes. *seq* numbers
the events of a partition, a *position* is (partition, seq), written ``"3:42"``; its *head* is the hash of its
last record. A *follow-up* is a command that an event sends to another wallet. An *item* is what a wallet remembers
under an id: an order, a bet, a hold, a transfer, a grant, a proposed adjustment.
"""
