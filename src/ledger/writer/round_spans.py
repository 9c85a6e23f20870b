"""The spans of one round: for each traced HTTP request and each traced follow-up in it a ``round``, and below it an
``append``.

A round decides the requests of many clients and appends once, but a span belongs to one trace: so each trace gets
spans of its own. While nothing in the round is traced, all of this is empty.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from ledger.ports import NewRecord
from ledger.tracing import Span
from ledger.writer.requests import FollowUpRequest, Request
from ledger.writer.round import Round


class RoundSpans:
    """Use it with ``with`` around the round: at its end all spans have ended."""

    __slots__ = ("_appended", "_appending", "_rounds")

    def __init__(self, rounds: Mapping[Span, Span]) -> None:
        self._rounds = rounds
        """The span of an HTTP request, or of the round that sent a follow-up → the ``round`` below it."""
        self._appending: Sequence[Span] = ()
        self._appended: Mapping[Span, Span] = {}
        """The same spans → the ``append`` that is durable."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._rounds:
            return
        self._fail_appends()
        for span in self._rounds.values():
            span.end("" if kind is None else kind.__name__)

    def begin_append(self, records: Sequence[NewRecord]) -> None:
        if not self._rounds:
            return
        self._fail_appends()  # the round is decided again
        facts = {"stakelog.events": len(records), "stakelog.last_seq": records[-1].seq}
        self._appending = [span.child("append", facts) for span in self._rounds.values()]

    def end_append(self) -> None:
        """The append is durable."""
        if not self._rounds:
            return
        self._appended = dict(zip(self._rounds, self._appending, strict=True))
        for append in self._appending:
            append.end()
        self._appending = ()

    def _fail_appends(self) -> None:
        for append in self._appending:
            append.end("not durable, or not known to be")
        self._appending = ()

    def watch_visible(self, partition: int, decided: Round) -> None:
        """Watch for the moment when the events that traced requests and follow-ups made are visible."""
        if not decided.spans:
            return
        last_seq_of = {above: seq for seq, above in decided.spans.items()}  # the seqs ascend
        for above, seq in last_seq_of.items():
            self._appended[above].watch_visible(partition, seq)

    def of_event(self, decided: Round, seq: int) -> Span | None:
        """The ``round`` that made the event; None: it is not of a traced request or follow-up."""
        above = decided.spans.get(seq)
        return None if above is None else self._rounds[above]


NOTHING_TRACED: Final = RoundSpans({})


def begin_round(partition: int, requests: Sequence[Request], follow_ups: Sequence[FollowUpRequest]) -> RoundSpans:
    """Begin the spans of a round that decides these. Without traced ones it costs a tenth of a microsecond each."""
    above = dict.fromkeys([request.group.span for request in requests])
    above.update(dict.fromkeys([waiting.span for waiting in follow_ups]))
    above.pop(None, None)
    if not above:
        return NOTHING_TRACED
    facts = {
        "stakelog.partition": partition,
        "stakelog.requests": len(requests),
        "stakelog.follow_ups": len(follow_ups),
    }
    return RoundSpans({span: span.child("round", facts) for span in above if span is not None})
