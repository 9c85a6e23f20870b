"""The other nodes: forwarding of commands and reads, delivery of follow-ups, and the receiving end.

``forwarding`` sends requests to owners, ``delivery`` follow-ups, ``owner_queries`` reads; ``handler`` receives them.
``log_view`` is the whole log as one node knows it.
"""
