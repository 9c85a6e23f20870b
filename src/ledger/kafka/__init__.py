"""Adapters on Kafka: the event log, its readers, snapshots, declarations and the consumer group of the nodes.

================  ===================================================================================================
``address``       where Kafka is, and how to reach it
``topic``         creates and checks topics
``log``           the event log; ``client``: its requests to brokers; ``clock``: the broker's time
``reader``        the log for followers; ``records``: for programs that only read
``snapshots``     the snapshot store
``declarations``  the assets' exponents
``owners``        the consumer group of the nodes; ``assignor``: how it assigns; ``members``: who is in it
``connection``    makes every client of aiokafka; ``retry``: repeats a request
================  ===================================================================================================
"""
