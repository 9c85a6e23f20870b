"""The demo's books: what the commands of the day must lead to, by the rules of the contract alone. No I/O.

`books` applies the day's responses, `wallets` has one user's wallet, `payouts` what a bet of a game with rules pays,
`edges` what the house kept of such bets. `rules` reads the rules of money flows, which `flows` and `wagering` follow;
`house` has the accounts of the house. `comparison`, `expected_reads` and `expected_flows`: what reads must return.
"""
