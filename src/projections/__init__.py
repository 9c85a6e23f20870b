"""The read side: folds of the events into the tables that client apps read.

====================  ==============================================================================================
``models``            the read models: tables, rows and folds
``tables``            what all read models are made of
``projecting``        from the log into the tables: follower, Faust worker, rebuild
``storage``           the port of the tables' store and its adapters: SQLite, PostgreSQL, MySQL
``reads``             the queries behind the reads
``caching``           the cache of aggregates in Redis, and the reads that use it
``live``              the live feed: what changed, pushed to subscribers
``auditing``          the background check, the oracle and ``audit reconcile``
====================  ==============================================================================================
"""
