"""Settings, and the container that opens the adapters they name.

``settings`` checks the environment, with ``network`` for addresses, ``container`` opens all parts in order, and
``access`` those of login, keys and limits among them, ``read_side`` opens log and tables for the programs of the
read side, ``clock`` is the clock of the machine, ``application`` makes the ASGI applications with all routes,
``keys`` finds the master key, ``child_process`` runs the children of a service, ``first_client`` creates the first
client that may log in, ``in_memory`` puts a whole ledger together without files, for tests, ``scratch`` opens a
store that is deleted at the end.
"""
