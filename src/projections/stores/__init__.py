"""Adapters of ``projections.store.ReadModelStore`` and ``projections.queries.ReadModel``, one a database."""
