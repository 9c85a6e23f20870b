"""What the commands of the day must lead to, from the rules of the contract alone. No I/O.

`books` applies the day's responses, `wallets` has one user's wallet, `payouts` what a bet of a game with rules pays,
`edges` what the house kept of such bets, `expected_reads` what reads must return.
"""
