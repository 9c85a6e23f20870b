"""A batch is decoded at once where nothing in it is unusual. Its commands and its problems are those of
elements that are read one by one.
"""

import msgspec
import pytest

from api.http import commands
from api.http.commands import HashedCommand, read_batch, read_command
from api.http.problems import Problem

OPEN = b'{"type":"open_wallet","command_id":"c1","user_id":"u1"}'
BET = (
    b'{"type":"place_bet","command_id":"c2","user_id":"u1","bet_id":"b1","game":"external","period":"p",'
    b'"selection":"red","asset":"INR","stake":5}'
)
NULL = b'{"type":"deposit","command_id":"c3","user_id":"u1","order_id":"o","asset":"INR","amount":5,"bonus":null}'
DEFAULT = BET[:-1] + b',"spend":"cash_first"}'
TWICE = BET[:-1] + b',"stake":6}'
TEXT_TWICE = BET[:-1] + b',"asset":"INR"}'
IN_METADATA = OPEN[:-1] + b',"metadata":{"a":"1","a":"2"}}'
ESCAPED = OPEN[:-1] + b',"metadata":{"a":"\\u0007"}}'
DELETE = OPEN[:-1] + b',"metadata":{"a":"\x7f"}}'
NOT_ASCII = OPEN[:-1] + ',"metadata":{"a":"é\x85"}}'.encode()
HUGE = BET.replace(b'"stake":5', b'"stake":' + b"9" * 5_000)
UNKNOWN = OPEN[:-1] + b',"amount":5}'
ODD = [NULL, DEFAULT, TWICE, TEXT_TWICE, IN_METADATA, ESCAPED, DELETE, NOT_ASCII, HUGE, UNKNOWN, b"5", b"{}"]


def one_by_one(element: bytes) -> HashedCommand | str:
    try:
        return read_command(element)
    except Problem as problem:
        return str(problem.fields) + str(problem)


@pytest.mark.parametrize("odd", ODD)
def test_each_element_is_read_as_if_it_came_alone(odd: bytes) -> None:
    elements = [OPEN, odd, BET]
    read = read_batch(b" [" + b" ,\n".join(elements) + b"]")
    found = [str(one.fields) + str(one) if isinstance(one, Problem) else one for one in read]
    assert found == [one_by_one(element) for element in elements]


def test_a_plain_batch_is_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(_body: bytes) -> HashedCommand:
        raise AssertionError("an element is read by itself")

    plain = [OPEN, BET, NULL.replace(b',"bonus":null', b"")]
    expected = [read_command(element) for element in plain]
    monkeypatch.setattr(commands, "read_command", alone)
    assert read_batch(b"[" + b",".join(plain) + b"]") == expected


def test_a_batch_has_a_bound() -> None:
    with pytest.raises(Problem, match="1–1,000"):
        read_batch(b"[" + b",".join([OPEN] * 1_001) + b"]")
    with pytest.raises(Problem, match="1–1,000"):
        read_batch(b"[]")
    assert len(read_batch(msgspec.json.encode([msgspec.Raw(OPEN)] * 1_000))) == 1_000
