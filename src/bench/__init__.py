"""`stakelog bench`: what this machine can do, as ratios against yardsticks measured in the same run.

A rate alone says more about the machine than about the program. So each measure has a bare yardstick, and the two are
measured in turns (A B A B …): a disturbance of the machine disturbs both.

Invariants:

1. The process that posts is never the process that responds. Load comes from a separate process, with requests built
   before the clock starts. The service and the bare routes get the same generator.
2. Every response is checked. A refusal, a response without `Content-Length` or a lost connection ends the run with an
   error: no rate is made of failures.
3. The yardstick runs only while the service is idle (`programs.settle`), so that the service's later work (folding)
   does not slow the yardstick.
4. A missed target is a result, not an error: the exit status is 0. A measure that fails ends with a line in the
   report and status 1; the other measures of the run are made and reported.

The bench is a program beside the service: it starts the service and uses its public HTTP API. Three places import
parts of the service, because they measure these parts in-process: `yardsticks` (verification and folding of a log
without a service), `measures` (a takeover, a worker, a settlement, commissions) and `lab.servers` (the settings of a
distributed run). `load` takes only the contract's hash from user to partition. Nothing of the service imports the
bench.

- `figures`: percentiles, pairs, targets; no I/O.
- `report`: the table and the JSON file.
- `machine`: what the numbers were measured on.
- `load`: the requests as bytes, the generator, and clients that look into each response.
- `yardsticks`: the bare fsynced commit, the bare loop over a log, the bare send to Kafka, the bare Litestar routes.
- `lab`: the processes, logs and servers of one run.
- `measures`: each a function from the laboratory to rows of the report.
- `run`: one run of either mode, from folder to report.
- `command`: the `click` command.
"""
