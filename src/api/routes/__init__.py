"""The endpoints, each a few lines: decode, ask the ledger, encode.

``table``, ``codes_table``, ``games_table`` and ``identity_table`` have one row per route, ``parameters`` their paths
and queries. The handlers are in ``commands``, ``wallets`` (what client apps read), ``codes`` (gifts and referral
codes), ``games``, ``live``, ``private``, ``auth``, ``clients``, ``audit`` and ``operation``; ``peers`` has the routes
for other nodes.
"""
