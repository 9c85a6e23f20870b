"""The cache of aggregates: the port, its adapters, and the reads that use it."""
