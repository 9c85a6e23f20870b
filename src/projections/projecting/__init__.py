"""From the log into the tables: the follower, the Faust worker, and the rebuild.

==================  =================================================================================================
``partition``       from the records of a partition to its rows: chain rule, folds, quarantine
``projector``       the live generation while a process folds into it
``follower``        folds new records of the log
``worker``          the Faust app; ``worker_metrics``: how far it is behind
``delivery``        folds what the worker's consumer group delivers
``rebuild``         folds the log into a new generation
``post_commit``     updates the cache, publishes to the live feed
``pay_tables``      what the folds price bets with
``log_reader``      the log as the read side needs it
``retry``           while the read model or the log is unavailable
==================  =================================================================================================
"""
