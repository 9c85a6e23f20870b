"""The cache of aggregates: its port, the Redis adapter, and the reads that use it."""
