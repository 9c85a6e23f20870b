"""The reads of the contract, and what all of them share.

``queries`` has all reads, ``statements`` and ``cursors`` what they share, ``positions`` the wait for
``min_position``, ``suspects`` the users with wrong rows; ``status`` is for operators, ``supply`` has the sums of the
accounts.
"""
