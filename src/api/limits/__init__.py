"""How much a client, a user and an address may send, and proof that a request is its client's own.

``limits`` counts requests, commands and failed logins in the token buckets of ``buckets``; ``ports`` is what several
nodes share, in Redis (``redis``) or in one process (``memory``). ``addresses`` finds the address of a client behind
proxies. ``signatures`` checks signed requests.
"""
