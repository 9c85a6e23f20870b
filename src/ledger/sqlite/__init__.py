"""Adapters on SQLite: the event log, the state store and the data folder."""
