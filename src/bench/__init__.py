"""`stakelog bench`: what this machine can do, as ratios against yardsticks measured in the same run.

A rate alone says more about the machine than about the program, so each measure has something bare beside it, and
the two are measured in turns (A B A B …): what disturbs the machine for a while disturbs both.

Numbered truths:

1. Who posts is never who answers: load comes from a process of its own, with requests built before the clock runs,
   and it is the same generator for the service and for the bare route.
2. Every answer is looked at. A refusal, an answer without `Content-Length` or a lost connection ends the run with an
   error: no rate is made of failures.
3. The yardstick runs only while the service is idle (`programs.settle`), so that the service's afterwork (folding)
   is not charged to the yardstick.
4. A missed target is a result, not an error: the exit status is 0. A measure that fails ends with a line of its own
   and status 1; the others of the run are measured and reported.

From pure to worldly:

- `figures`: percentiles, pairs, targets; no I/O.
- `report`: the table and the JSON file.
- `bodies`: the requests, as bytes; which wallets they go to.
- `load`: the generator: HTTP/1.1 over `asyncio.Protocol`.
- `asking`: a client that hands answers out, for what must be looked into; on it
- `paging`: a long history, page by page; and
- `following`: how far the tables are behind the log, and how soon a command shows in them.
- `yardsticks`: the bare fsynced commit, the bare loop over a log, and the verification and the folding of that log.
- `bare_route`: the bare Litestar routes on granian.
- `worker`: a child process that does one of these when asked.
- `programs`: starting, watching and stopping all those processes.
- `lab`: the processes and logs of one run.
- `measures`, `read_measures`: the measures, of the write side and of the read side.
- `servers`: the Kafka, databases and Redis of a distributed run, which must be empty.
- `crowd`: clients that ask until they are answered, while nodes come and go.
- `takeover`, `worker_measures`, `cache_measures`, `yardsticks_kafka`: what a fresh node, a worker, Redis and a bare
  producer do.
- `distributed_lab`, `distributed_measures`: three nodes on those servers, and the measures of the distributed mode.
- `machine`: what the numbers were measured on.
- `run`: one run of either mode, from folder to report.
- `command`: the `click` command.
"""
