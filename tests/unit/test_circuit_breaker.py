"""A failed helper is not used, then tried by one caller per pause, and used again as soon as it responds."""

import logging

import pytest

from projections.caching.circuit_breaker import CircuitBreaker


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("the helper", pause_s=0.5, clock_s=clock)


def test_every_caller_uses_a_helper_that_responds(breaker: CircuitBreaker) -> None:
    assert breaker.is_closed
    assert all(breaker.allows() for _ in range(5))
    breaker.succeeded()
    assert breaker.allows()


def test_after_a_failure_one_caller_per_pause_tries_again(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(OSError("gone"))
    assert not breaker.is_closed
    assert not breaker.allows()
    clock.now_s += 0.5
    assert [breaker.allows() for _ in range(4)] == [True, False, False, False]
    clock.now_s += 0.5
    assert [breaker.allows() for _ in range(2)] == [True, False]


def test_after_one_success_every_caller_uses_it_again(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(OSError("gone"))
    clock.now_s += 0.5
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.is_closed
    assert all(breaker.allows() for _ in range(5))


def test_an_outage_is_logged_once_and_again_after_a_while(
    breaker: CircuitBreaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(50):
        breaker.failed(OSError("gone"))
        clock.now_s += 0.5
    assert caplog.messages == ["the helper unavailable; reads take longer, nothing is lost: gone"]
    clock.now_s += 10
    breaker.failed(OSError("still gone"))
    breaker.succeeded()
    breaker.succeeded()
    assert caplog.messages[1:] == [
        "the helper unavailable; reads take longer, nothing is lost: still gone",
        "the helper available again",
    ]
    assert breaker.failures == 51
