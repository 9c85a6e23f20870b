"""The read model's storage: the port ``ReadModelStore`` and one adapter for each database.

===================  ================================================================================================
``port``             the store, the reader, and all their errors
``sqlite``           the store in a file; ``sqlite_reader``: its reader; ``sqlite_file``: which file it is;
                     ``sqlite_memory``: both without a file, for tests
``server``           the store in a database server; ``server_reader``: its reader
``database``         the port of a server's sessions; ``postgresql`` and ``mysql`` are its adapters
``statements``       the statements that all of them share; ``common``: how a statement is compiled
``slow``             logs reads that take long
===================  ================================================================================================
"""
