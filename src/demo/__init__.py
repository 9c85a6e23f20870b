"""`stakelog demo`: a day of several game servers, played over real HTTP and then checked.

A program beside the service: it imports nothing of it and knows the public contract only. So a customer would find
what the demo finds. Nothing of the service imports the demo.

- `traffic`: which commands the game servers send; seeded, no I/O.
- `books`: what each wallet must contain afterwards and what each read must return; no I/O.
- `play`: posts the traffic, with duplicates, lost responses and retries; reads the wallets back.
- `games`: plays games with rules beside the day, in real periods of a few seconds.
- `apps`: reads as client apps do, during the day and at its end, and checks each response.
- `login`: the clients of a service with login, and who of them sends what.
- `log_check`: checks the day's records over HTTP, as any auditor can.
- `house_rules`: the rules file that a day is played by.
- `run`: one run, from the service's start to the last line of the report.
- `service`: starts the service as a child process, and stops it.
- `report`: the summary on the screen.
- `command`: the `click` command.
"""
