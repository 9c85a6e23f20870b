"""Who sends a request, and what they may do: clients, their secrets and tokens, and the database that has them.

``identity`` is the sender of a request, ``roles`` says which role may post which commands. ``clients`` adds,
rotates and disables clients, ``hashing`` checks their secrets, ``tokens`` makes and checks access and refresh
tokens, ``waiting`` bounds those who wait for it, ``revocations`` knows which are revoked; ``login`` is all of
these. By the ports in ``ports``, ``store`` has clients and tokens in the tables of ``tables``, which ``database``
opens on SQLite, PostgreSQL or MySQL.

``master_key`` wraps all other keys: those that sign, in ``keys``, and those of the users' private texts, in
``private``. Their port is in ``key_store``, its adapters are in ``database_keys`` and ``memory_keys``.

``receipts`` checks what was signed by public keys alone, ``receipt_keys`` reads these from a data folder.
``copying`` copies all tables into another database.
"""
