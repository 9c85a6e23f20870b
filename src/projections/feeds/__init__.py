"""The adapters of the live feed: in this process, and over Redis."""
