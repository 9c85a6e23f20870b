"""The read model's storage: the port ``ReadModelStore`` and one adapter for each database."""
