"""Adapters of ``StateStore``: ``memory`` for tests and simulation, ``sqlite`` for one machine."""
