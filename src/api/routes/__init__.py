"""The endpoints, each a few lines: decode, ask the ledger, encode.

``table`` has one row per route, ``parameters`` their paths and queries. The handlers are in ``commands``, ``wallets``
(what client apps read), ``private``, ``audit`` and ``operation``; ``peers`` has the routes for other nodes.
"""
