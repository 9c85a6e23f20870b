"""The adapters of the cache of aggregates and of the live feed: in this process, and in Redis."""
