"""Calls between nodes: the ``client``, the ``messages`` as bytes, the ``proof`` of who calls.

The routes are in ``api/routes/peers.py``.
"""
