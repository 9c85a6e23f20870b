"""What operators and auditors do with a log.

``audit`` proves a log, by the code in ``verifying``; ``replay`` shows a record as one line; ``export`` writes files,
with ``parquet`` for one format; ``seals`` keeps where the partitions ended; ``backup`` copies a folder; ``migrate``
moves a log to another technology; ``upgrade`` turns an older format into the present one; ``what_if`` decides a past
window again under other rules.
"""
