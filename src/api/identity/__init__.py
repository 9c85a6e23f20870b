"""Who sends a request, and what they may do: clients, their secrets and tokens, and the database that has them.

``identity`` is the sender of a request, ``database`` opens the tables of this package, which are in ``tables``, on
SQLite, PostgreSQL or MySQL; ``store`` has the clients and tokens there, by the port in ``ports``. ``process_keys``
makes a key that signs tokens.

``master_key`` wraps all other keys: those that sign, in ``keys``, and those of the users' private texts, in
``private``. Their port is in ``key_store``, its adapter in ``database_keys``.
"""
