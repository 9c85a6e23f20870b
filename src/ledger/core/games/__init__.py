"""The games whose rules the ledger keeps: pure functions over tables of odds. Standard library and msgspec only.

In the order of reading: ``kinds`` (what the rules of a game are), ``wingo``, ``trx_wix``, ``k3``, ``five_d`` (one
module for each), ``catalog`` (all of them by name), ``tables`` (the data of a game: odds, fee, margins, and their
digest), ``payout`` (how a stake is split and paid), ``periods`` (the clock of a game), ``rules`` (the games of a
process, and the rules file), ``edges`` (what a game wins beside what commissions and bonuses cost).
"""
