"""The processes, logs, folders and servers of one run.

`one_node` and `distributed` are the laboratories of the two modes, `programs` starts and stops processes, `jobs` is
the process that makes load, and `servers` has the addresses of databases, Redis and Kafka.
"""
