"""The single writer of a partition.

``writer`` is its life: it takes ``requests`` from its ``mailbox``, has a ``round`` decide them against the ``state``,
appends the records, and responds. ``replay`` brings the state up to the end of the log, ``opening`` takes a partition
of a log that other processes may write to, ``store_writes`` makes checkpoints, and ``key_filter`` spares look-ups on
disk. ``repeated`` responds to repeated commands, ``open_seqs`` has the events whose follow-ups are open, and
``open_bets`` the bets that wait for the outcome of their period; ``settlement_turn`` says which partition settles
now, ``kept_rules`` gets rules that the log keeps, ``counts`` are of rounds, for metrics, and ``round_spans`` are for
traces.
"""
