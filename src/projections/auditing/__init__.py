"""Checks of the read model against the log, with code that the folds do not share."""
