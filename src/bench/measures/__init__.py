"""The measures: each is a function from the laboratory to rows of the report.

`commands` has the write side, `reads` the read side, `cost` the processor time of a command, `feeds` live feeds,
`login` what login and limits add to a command, `games` what games and money flows add to it, `settlement` the open
bets of a period, `commissions` those of a day (both with an `own_node` in this process), `cache` the share of reads
that the cache serves, `takeover` a node without a state, `grown` a long log beside a short one and a minute on end,
`projection_worker` the worker, `leaders` leaderboards of many users, `library` the client library beside plain
requests, `soak` memory over time, `distributed` all of that mode.
"""
