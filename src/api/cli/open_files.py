"""How many connections this process may have: each is an open file, and so is each file of the ledger.

A process at its limit of open files can neither accept a connection nor open a file of SQLite. So the limit is raised
as far as the system allows, and connections get what the other files leave.
"""

import resource
from typing import Final

FOR_OTHERS: Final = 1_024
"""Files of the ledger, and connections to databases, brokers and other nodes. Chosen: some times what is used."""


def allow_connections(wanted: int) -> int:
    """Raise the limit of open files. Returns how many of the wanted connections fit. ``FOR_OTHERS`` files are kept
    free for the ledger, but connections always get at least half of the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + FOR_OTHERS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return min(wanted, max(soft - FOR_OTHERS, soft // 2))
