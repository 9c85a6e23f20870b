"""Adapters on SQLite: the event log, the state store and the data folder.

``log`` is the event log, ``log_file`` its file, ``readers`` read it from other processes, ``format_1`` is its earlier
format; ``state_store`` is the state store, ``runs`` its ids; ``folder`` is the data folder; ``wal`` keeps any
database's WAL small.
"""
