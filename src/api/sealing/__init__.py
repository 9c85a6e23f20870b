"""Seals on time: ``sealer`` makes them, ``outside`` copies them to a folder or a URL outside of the data folder."""
