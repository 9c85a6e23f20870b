"""Checks of the read model against the log, by code that the folds do not share: the background check, the oracle,
``audit reconcile``.
"""
