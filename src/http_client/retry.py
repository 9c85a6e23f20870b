"""How a client sends requests: which responses it retries, and when. Pure, except for the random part of a pause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from tenacity import RetryCallState, retry_if_exception, stop_after_delay
from tenacity.wait import wait_base, wait_random_exponential

from http_client.responses import NoUsableResponse

BUSY: Final = frozenset({429, 502, 503, 504})
"""The service, or a balancer before it, cannot respond yet; a later response may differ."""
NOT_DEFINITE: Final = BUSY | frozenset(range(500, 600))
"""After these a command may or may not be in the log: only a retry under the same `command_id` settles it."""


class Policy(Struct, frozen=True):
    """How a client sends requests. `statuses` are retried, for at most `within_s`.

    `first_connection`: whether the first request is retried too if no connection is made. False suits a person who
    waits: a mistyped address fails at once.
    """

    within_s: float
    statuses: frozenset[int] = BUSY
    pause_s: float = 0.05
    pause_s_max: float = 5.0
    first_connection: bool = True
    timeout_s: float = 60.0
    connections: int = 64


class _Pause(wait_base):
    """`Retry-After` if the service names one, else a random pause that grows."""

    def __init__(self, policy: Policy) -> None:
        self._pause_s_max = policy.pause_s_max
        self._otherwise = wait_random_exponential(multiplier=policy.pause_s, max=policy.pause_s_max)

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        if isinstance(error, NoUsableResponse) and error.response is not None:
            named_s = error.response.retry_after_s
            if named_s is not None:
                return min(named_s, self._pause_s_max)
        return self._otherwise(retry_state)


def options(
    policy: Policy, may_retry: Callable[[BaseException], bool], on_retry: Callable[[], None] | None
) -> dict[str, Any]:
    """The arguments for tenacity's `Retrying` and `AsyncRetrying`. The last error is raised as it is."""
    return {
        "stop": stop_after_delay(policy.within_s),
        "wait": _Pause(policy),
        "retry": retry_if_exception(lambda error: isinstance(error, NoUsableResponse) and may_retry(error)),
        "before_sleep": None if on_retry is None else lambda _: on_retry(),
        "reraise": True,
    }
