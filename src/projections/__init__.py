"""The read side: folds of the events into tables that client apps read. Its room is kept; it is not built yet."""
