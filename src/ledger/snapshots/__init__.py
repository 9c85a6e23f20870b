"""Snapshots: copies of a partition's state that are kept outside of the node.

``snapshots`` writes and loads them, ``format`` has their bytes, ``catalogue`` knows which ones the store has.
"""
