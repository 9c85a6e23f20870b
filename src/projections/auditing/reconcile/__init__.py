"""``audit reconcile``: compares every document that the reads return with the oracle's.

``run`` goes through all wallets, ``wallets`` compares the documents of one, ``streams`` those of gifts and referral
codes, ``totals`` the reads over all users. ``records`` has the records by wallet, and ``port`` the reads that are
compared.
"""
