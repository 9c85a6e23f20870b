"""A helper that is away is left alone, tried now and then, and used again at once when it answers."""

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
    return CircuitBreaker("the helper", away_s=0.5, clock_s=clock)


def test_all_ask_a_helper_that_answers(breaker: CircuitBreaker) -> None:
    assert breaker.well
    assert all(breaker.allows() for _ in range(5))
    breaker.answered()
    assert breaker.allows()


def test_after_a_failure_one_asks_at_a_time(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(OSError("gone"))
    assert not breaker.well
    assert not breaker.allows()
    clock.now_s += 0.5
    assert [breaker.allows() for _ in range(4)] == [True, False, False, False]
    clock.now_s += 0.5
    assert [breaker.allows() for _ in range(2)] == [True, False]


def test_one_answer_and_all_ask_again(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.failed(OSError("gone"))
    clock.now_s += 0.5
    assert breaker.allows()
    breaker.answered()
    assert breaker.well
    assert all(breaker.allows() for _ in range(5))


def test_an_outage_is_told_once_and_again_after_a_while(
    breaker: CircuitBreaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(50):
        breaker.failed(OSError("gone"))
        clock.now_s += 0.5
    assert caplog.messages == ["the helper is away, which costs time only: gone"]
    clock.now_s += 10
    breaker.failed(OSError("still gone"))
    breaker.answered()
    breaker.answered()
    assert caplog.messages[1:] == [
        "the helper is away, which costs time only: still gone",
        "the helper is used again",
    ]
    assert breaker.failures == 51
