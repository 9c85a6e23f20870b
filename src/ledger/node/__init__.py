"""The partitions of this process: the owned ones, those it stands by for, and their checkpoints."""
