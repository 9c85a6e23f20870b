"""The single writer of a partition: decides commands in rounds, appends them, and answers."""
