"""How far a clock is off: only a time outside of request and response shows an error."""

import pytest

from ledger.kafka import clock as broker_clock
from ledger.kafka.clock import BrokerClock

SECOND_US = 1_000_000


class Machine:
    """Its two clocks: the system clock, which may be set, and the monotonic clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = 1_795_600_000 * SECOND_US
        self.steady_us = 77 * SECOND_US
        monkeypatch.setattr(broker_clock, "_now_us", lambda: self.now_us)
        monkeypatch.setattr(broker_clock, "_steady_us", lambda: self.steady_us)

    def goes_on(self, us: int) -> None:
        self.now_us += us
        self.steady_us += us


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def appended(machine: Machine, clock: BrokerClock, *, broker_ahead_us: int, takes_us: int = 4_000) -> None:
    sent_us = clock.sent()
    machine.goes_on(takes_us // 2)
    at_ms = (machine.now_us + broker_ahead_us) // 1_000
    machine.goes_on(takes_us // 2)
    clock.acknowledged(sent_us, at_ms)


@pytest.mark.parametrize("takes_us", [100, 4_000, 9 * SECOND_US])
def test_a_right_clock_is_not_off_even_after_a_slow_append(machine: Machine, takes_us: int) -> None:
    clock = BrokerClock()
    assert clock.off_us() == 0
    appended(machine, clock, broker_ahead_us=0, takes_us=takes_us)
    machine.goes_on(3_600 * SECOND_US)
    assert clock.off_us() == 0


@pytest.mark.parametrize("off_s", [-5, -2, 2, 5])
def test_the_offset_of_a_wrong_clock_is_measured(machine: Machine, off_s: int) -> None:
    clock = BrokerClock()
    appended(machine, clock, broker_ahead_us=-off_s * SECOND_US)
    assert clock.off_us() == pytest.approx(off_s * SECOND_US, abs=5_000)


def test_a_clock_that_is_set_right_is_noticed_before_the_next_append(machine: Machine) -> None:
    clock = BrokerClock()
    appended(machine, clock, broker_ahead_us=3 * SECOND_US)
    machine.goes_on(10 * SECOND_US)
    machine.now_us += 3 * SECOND_US
    assert clock.off_us() == pytest.approx(0, abs=5_000)


def test_a_clock_that_jumps_is_noticed_before_the_next_append(machine: Machine) -> None:
    clock = BrokerClock()
    appended(machine, clock, broker_ahead_us=0)
    machine.now_us -= 60 * SECOND_US
    assert clock.off_us() == -60 * SECOND_US


@pytest.mark.parametrize("silent", [None, -1])
def test_a_response_without_a_time_changes_nothing(machine: Machine, silent: int | None) -> None:
    clock = BrokerClock()
    clock.acknowledged(clock.sent(), silent)
    machine.now_us += 5
    assert clock.off_us() == 0
