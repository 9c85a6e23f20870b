"""What all reads share: the wait for ``min_position``, ``as_of``, ETags, "not found", and suspect rows.

Invariant: a read says "not found" only when the read model includes every event that was durable when the request
arrived. Until then "not yet visible" is the truth, and the read waits as it does for a ``min_position``. If rows of
the user are suspect, the "not found" says so.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from hashlib import blake2b
from typing import Any, Final, Protocol

from api.http.bodies import AsOf, AsOfSeveral, encode
from api.http.problems import NotThere, Problem, problem_of, unavailable
from api.http.requests import Request
from ledger.errors import LogUnavailable
from ledger.writer.requests import Failed
from projections.reads.positions import Positions
from projections.reads.queries import Found, LogEnds, MalformedCursor
from projections.reads.suspects import Suspects
from projections.storage.port import ReadModelUnavailable

_LOOK_AGAIN_S: Final = 0.004
_SLOWER: Final = 1.3
_LOOK_AGAIN_S_MAX: Final = 0.05
"""Each pause is longer than the one before by this factor, up to that bound. Chosen: no read waits more than a third
longer than needed, and a read model that is behind does not get hundreds of queries a second from each read."""
_POSITION: Final = re.compile(r"(0|[1-9][0-9]{0,3}):(0|[1-9][0-9]{0,15})")
_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')
_BETWEEN_TAGS: Final = " \t,"
_ETAG_BYTES: Final = 9

Read = Callable[[], Awaitable[Found]]

DETAILS: Final = {
    "wallet_not_found": "this wallet was never opened",
    "bet_not_found": "this wallet has no such bet",
    "hold_not_found": "this wallet has no such hold",
    "transfer_not_found": "this wallet has sent no such transfer",
    "order_not_found": "this wallet has no such order",
    "not_found": "there is nothing under this code",
    "game_not_found": "there is no such game",
    "period_not_found": "the period has not begun, or the game server keeps the periods of this game",
}

REFUSED: Final = (
    "rows of this response differ from the log, and the service is set to refuse such reads until they are repaired; "
    "a wallet can be read with consistency=strong"
)


class Waited(Protocol):
    """What a read may have to wait for; ``Reads`` has it."""

    @property
    def ends(self) -> LogEnds: ...

    @property
    def positions(self) -> Positions: ...

    @property
    def suspects(self) -> Suspects: ...


async def read_until_visible(
    request: Request[Any, Any],
    reads: Waited,
    partitions: Collection[int] | None,
    read: Read,
    read_from_tables: Read | None = None,
) -> Found:
    """Read until the result is true at ``min_position``, or the request's time is over.

    ``request``: its query is a ``ReadQuery``. ``partitions``: the partitions of the read; None: all of them.
    ``read_from_tables``: the same read from the tables, for when ``read`` returns an older result.

    Raises Problem: ``malformed_request``, ``not_yet_visible``, NotThere, ``log_unavailable``, and the problem
    of a log whose end is unknown now.
    """
    ends = reads.ends
    least = min_positions(request.query.min_position, ends.partitions, partitions)
    now_s = asyncio.get_running_loop().time
    known: dict[int, int] | None = None
    pause_s = 0.0
    while True:
        found = await _once(read)
        if found.document is None and known is None:
            known = {partition: await _end_now(ends, partition) for partition in found.seqs}
        short = {**_short_of(least, found), **(_short_of(known, found) if known and found.document is None else {})}
        if not short:
            break
        if read_from_tables is not None and read is not read_from_tables:
            read = read_from_tables  # without a pause: the tables may be far enough already
            continue
        left_s = request.wait_until_s - now_s()
        if left_s <= 0:
            partition, seq = next(iter(short.items()))
            detail = f"the read model of partition {partition} is at seq {found.seqs[partition]}, not yet at {seq}"
            raise Problem("not_yet_visible", detail, position=f"{partition}:{found.seqs[partition]}")
        await reads.positions.reached(short, left_s)
        # The tables may be far enough and the result not: of a quarantined user, or from a replica that is behind.
        await asyncio.sleep(min(pause_s, max(request.wait_until_s - now_s(), 0.0)))
        pause_s = min(_SLOWER * max(pause_s, _LOOK_AGAIN_S), _LOOK_AGAIN_S_MAX)
    if found.suspect and reads.suspects.refuse:
        raise Problem("log_unavailable", REFUSED)
    if found.document is None:
        raise NotThere(found.missing, DETAILS[found.missing], **({"suspect": True} if found.suspect else {}))
    return found


async def _end_now(ends: LogEnds, partition: int) -> int:
    end = await ends.end_now(partition)
    if isinstance(end, Failed):
        raise problem_of(end)
    return end


async def _once(read: Read) -> Found:
    try:
        return await read()
    except MalformedCursor as error:
        raise Problem("malformed_request", f"the cursor cannot be used: {error}", field="cursor") from None
    except (ReadModelUnavailable, LogUnavailable) as error:
        raise unavailable(error) from error


def _short_of(least: Mapping[int, int], found: Found) -> dict[int, int]:
    return {partition: seq for partition, seq in least.items() if found.seqs[partition] < seq}


def min_positions(text: str | None, log_partitions: int, partitions: Collection[int] | None) -> dict[int, int]:
    """Partition → the seq to wait for. Raises Problem ``malformed_request``."""
    least: dict[int, int] = {}
    for position in text.split(",") if text is not None else ():
        match = _POSITION.fullmatch(position)
        if match is None:
            raise Problem("malformed_request", f"{position!r} is not a position", field="min_position")
        partition = int(match[1])
        if partitions is not None and partition not in partitions:
            only = ", ".join(map(str, sorted(partitions)))
            detail = f"the response is about partition {only} only, not {partition}"
            raise Problem("malformed_request", detail, field="min_position")
        if partition >= log_partitions:
            detail = f"the partitions are 0 to {log_partitions - 1}; {partition} does not exist"
            raise Problem("malformed_request", detail, field="min_position")
        least[partition] = max(least.get(partition, 0), int(match[2]))
    return least


def body_of(found: Found) -> bytes:
    """The document with its ``as_of``."""
    return with_as_of(encode(found.document), found)


def with_as_of(document: bytes, found: Found) -> bytes:
    """An encoded document, ``as_of`` added as its last member."""
    positions = [f"{partition}:{seq}" for partition, seq in found.seqs.items()]
    as_of = (
        AsOfSeveral(positions, found.lag_ms, found.suspect)
        if found.several
        else AsOf(positions[0], found.lag_ms, found.suspect)
    )
    return b'%b,"as_of":%b}' % (document[:-1], encode(as_of))


def etag_of(document: bytes) -> str:
    """The ETag of a document without its ``as_of``, which changes with other wallets' events: so the tag is weak."""
    return f'W/"{blake2b(document, digest_size=_ETAG_BYTES).hexdigest()}"'


def is_known(etag: str, if_none_match: str | None) -> bool:
    """Whether the client has the current version (RFC 9110, weak comparison)."""
    if if_none_match is None:
        return False
    if if_none_match.strip() == "*":
        return True
    if _TAG.sub("", if_none_match).strip(_BETWEEN_TAGS):
        return False  # not a list of tags: ignored
    return etag.removeprefix("W/") in _TAG.findall(if_none_match)
