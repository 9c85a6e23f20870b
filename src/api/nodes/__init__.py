"""Calls between nodes: the ``client``, and the ``messages``' bytes. The routes are in ``api/routes/peers.py``."""
