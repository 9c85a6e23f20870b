"""Adapters of ``cluster.Owners``: one technology each."""
