"""``stakelog what-if``: the commands of a past window, decided once more under other rules. Nothing is written.

``replay`` reads the log and decides, ``world`` is the state of all wallets, ``figures`` counts what was played and
paid in each of the two, and ``tables`` writes the differences as Parquet.
"""
