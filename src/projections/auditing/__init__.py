"""Checks of the read model against the log.

``background_check`` runs beside the follower, and ``refold`` is its thorough comparison, by the folds themselves.
``oracle`` computes the documents from the records alone, without the folds; ``reconcile`` compares the reads with it.
"""
