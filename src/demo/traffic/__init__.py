"""Which commands the game servers send. Seeded, no I/O.

`plan` has the values of a day, `actions`, `withdrawals` and `campaigns` what players and operators do, `server` the
day of one game server, and `games` what the servers of games with rules send.
"""
