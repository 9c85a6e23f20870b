"""The endpoints, each a few lines: decode, ask the ledger, encode.

``table``, ``codes_table``, ``games_table``, ``identity_table``, ``webhooks_table`` and ``page_table`` have one row
per route, ``parameters`` their paths and queries. The handlers are in ``commands``, ``wallets`` (what client apps
read), ``codes`` (gifts and referral codes), ``games``, ``live``, ``private``, ``auth``, ``clients``, ``webhooks``,
``audit``, ``operation``, ``page`` (the operator's page and its login) ``now`` (what it shows first) and ``work``
(its lists of gifts and of users in quarantine); ``peers`` has the routes for other nodes.
"""
