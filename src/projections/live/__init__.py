"""The live feed: what changed is pushed to subscribers. Its ``port`` and its adapters, ``redis`` and ``memory``."""
