"""The processes, logs, folders and servers of one run."""
