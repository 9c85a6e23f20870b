"""Snapshots: copies of a partition's state that are kept outside of the node."""
