"""Writes ``schemas/`` from the code: ``python -m schemas.generate``."""
