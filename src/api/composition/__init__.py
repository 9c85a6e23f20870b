"""Settings, and the container that opens the adapters they name.

``settings`` checks the environment, with ``network`` for addresses, ``container`` opens all parts in order, and
``access`` those of login, keys and limits among them, ``application`` makes the ASGI applications with all routes,
``keys`` finds the master key, ``child_process`` runs the children of a service, ``first_client`` creates the first
client that may log in, ``scratch`` opens a store that is deleted at the end.
"""
