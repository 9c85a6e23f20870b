"""The cache of aggregates: its port, the Redis adapter, and the reads that use it.

``port``; ``redis``, with ``redis_client`` and ``redis_scripts``; ``cached_reads`` look into the cache first;
``shared_reads`` share reads in progress, by ``single_flight``; ``circuit_breaker`` spares a cache that fails.
"""
