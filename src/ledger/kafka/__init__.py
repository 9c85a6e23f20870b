"""Adapters on Kafka: the event log, its readers, snapshots, declarations and the consumer group of the nodes."""
