"""Webhooks: events sent to HTTP endpoints, for those who do not read Kafka or the live feeds.

``ports`` has the endpoint and what is stored of its deliveries; ``store`` keeps these in the database of clients and
keys. ``signing`` signs by the Standard Webhooks specification. ``guard`` says to which addresses a request may go,
and ``requests`` sends it. ``stream`` is what one endpoint has still to get of one partition, ``sender`` sends all of
this for one endpoint, and ``webhooks`` has all endpoints of this process.
"""
