"""Adapters in memory, for tests and for the generation of schemas: ``log``, ``state_store``, ``snapshots``."""
