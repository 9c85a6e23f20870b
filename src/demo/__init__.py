"""`stakelog demo`: a day of several game servers, played over real HTTP and then checked.

The day's parts, from pure to worldly. Nothing here imports the ledger: the demo knows the public contract only, so
that what it finds, a customer would have found.

- `traffic`: which commands the game servers send; seeded, no I/O.
- `books`: what every wallet must hold afterwards, kept naively from the contract's rules; no I/O.
- `views`: what reads must say, from the books; no I/O.
- `play`: posts the traffic, with duplicates, lost answers and retries; reads the wallets back.
- `apps`: reads as client apps do, during the day and in the end, and checks each answer.
- `proof`: checks the day's records as any auditor may, over HTTP.
- `service`: the child process, its folder, and its end.
- `report`: the summary on the screen.
- `command`: the `click` command.
"""
