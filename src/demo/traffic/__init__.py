"""Which commands the demo's game servers send. Repeatable by a seed, no I/O.

`plan` has the types: a day, its players and commands. `actions`, `withdrawals` and `campaigns` make the commands of
players and operators, `server` the day of one game server, and `games` the commands of the servers of games with
rules.
"""
