"""What the commands of the day must lead to, from the rules of the contract alone. No I/O.

`books` applies the day's responses, `wallets` has one user's wallet, `expected_reads` what reads must return.
"""
