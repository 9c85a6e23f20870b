"""The sockets of the HTTP server, reached from outside of it.

granian 2.8 has no time limit for a client that does not read its response. It cannot close such a connection, and it
does not stop while one is open. The kernel can do both. The sockets belong to this process, so ``/dev/fd`` lists
them.

No descriptor is copied, because the copy would have to be closed: to close any descriptor of a file drops all POSIX
locks of the process on that file, those of SQLite, too. Then another process deletes the WAL under the service.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

UNREAD_MAX_S: Final = 30.0
"""How long a client may read nothing of what is sent to it. Chosen: below the time limit of a long response."""


def limit_unread(port: int) -> int:
    """Let the kernel reset each later connection to ``port`` whose client takes nothing of what is sent to it for
    ``UNREAD_MAX_S``. Returns the number of listening sockets.

    A connection inherits the option from the listening socket (tcp(7), TCP_USER_TIMEOUT: since Linux 2.6.37).
    """
    number = 0
    for listener in _sockets(port, listening=True):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_MAX_S * 1_000))
        number += 1
    return number


def cut_connections(port: int) -> int:
    """Close all connections to ``port``, whatever is still unsent. Returns their number."""
    number = 0
    for connection in _sockets(port, listening=False):
        with suppress(OSError):  # the client closed it at this moment
            connection.shutdown(socket.SHUT_RDWR)
            number += 1
    return number


def _sockets(port: int, *, listening: bool) -> Iterator[socket.socket]:
    """This process's TCP sockets at the local ``port``. They stay open."""
    for entry in list(Path("/dev/fd").iterdir()):
        try:
            found = socket.socket(fileno=int(entry.name))
        except OSError:
            continue  # no socket, or closed meanwhile
        try:
            listens = bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            is_tcp = found.family in (socket.AF_INET, socket.AF_INET6)
            if is_tcp and listens is listening and found.getsockname()[1] == port:
                yield found
        except OSError:
            continue  # closed meanwhile
        finally:
            found.detach()
