"""``audit reconcile``: compares every document that the reads return with the oracle's.

``run`` goes through all wallets, ``wallets`` compares the documents of one, ``streams`` those of gifts and referral
codes; ``totals`` compares the queues and leaderboards, ``games`` the periods and the house view, both by ``as_of``.
``records`` has the records by wallet, and ``port`` the reads that are compared.
"""
