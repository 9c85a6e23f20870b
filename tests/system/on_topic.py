"""The program on another topic than ``stakelog.events``: `python tests/system/on_topic.py <topic> <arguments>`.

So that tests share a broker. `<topic>/<suffix>`: as a worker of a group of its own, who is assigned all partitions,
whoever else there is. Worker processes run this file again, and are changed too.
"""

import sys

from ledger.logs import kafka
from projections import worker

if __name__ in ("__main__", "__mp_main__"):
    topic, _, suffix = sys.argv[1].partition("/")
    vars(kafka)["TOPIC"] = topic
    vars(worker)["GROUP_SUFFIX"] = suffix or worker.GROUP_SUFFIX

if __name__ == "__main__":
    from api.cli import stakelog

    stakelog(sys.argv[2:])
