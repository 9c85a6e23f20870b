"""The partitions of this process: which it owns, which it stands by for, and their checkpoints."""
