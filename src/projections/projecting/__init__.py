"""From the log into the tables: the follower, the Faust worker, and the rebuild."""
