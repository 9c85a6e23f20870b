"""Compares every document that is read with what the log says."""
