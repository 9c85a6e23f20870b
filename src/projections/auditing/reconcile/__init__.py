"""``audit reconcile``: compares every document that the reads return with the oracle's."""
