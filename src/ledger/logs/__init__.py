"""Adapters of ``EventLog``: ``memory`` for tests and simulation, ``sqlite`` for one machine."""
