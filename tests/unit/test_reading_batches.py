"""A batch is decoded at once where nothing in it is unusual. Its commands and its problems are those of
elements that are read one by one.
"""

import tracemalloc

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
PRIVATE = BET[:-1] + b',"private":{"iban":"DE02"}}'
SEALED = BET[:-1] + b',"private":"c2VhbGVk"}'
IN_PRIVATE = BET[:-1] + b',"private":{"MARKER":"1","MARKER":"2"}}'
ODD = [
    PRIVATE,
    SEALED,
    IN_PRIVATE,
    NULL,
    DEFAULT,
    TWICE,
    TEXT_TWICE,
    IN_METADATA,
    ESCAPED,
    DELETE,
    NOT_ASCII,
    HUGE,
    UNKNOWN,
    b"5",
    b"{}",
]


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


@pytest.mark.parametrize("bad", [IN_PRIVATE, SEALED, BET[:-1] + b',"private":{"k":["MARKER"]}}'])
def test_malformed_private_texts_are_refused_and_not_repeated(bad: bytes) -> None:
    with pytest.raises(Problem) as refused:
        read_command(bad)
    assert b"private" in refused.value.encoded()
    assert b"MARKER" not in refused.value.encoded()
    (in_batch,) = read_batch(b"[" + bad + b"]")
    assert isinstance(in_batch, Problem)


def test_a_plain_batch_is_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(_body: bytes) -> HashedCommand:
        raise AssertionError("an element is read by itself")

    plain = [OPEN, BET, PRIVATE, NULL.replace(b',"bonus":null', b"")]
    expected = [read_command(element) for element in plain]
    monkeypatch.setattr(commands, "read_command", alone)
    assert read_batch(b"[" + b",".join(plain) + b"]") == expected


def test_a_long_text_beside_a_deep_element_takes_little_memory() -> None:
    deep, text = b"[" * 5_000 + b"]" * 5_000, b'"' + b"a" * 1_000_000 + b'"'
    tracemalloc.start()
    try:
        read = read_batch(b"[" + deep + b"," + text + b"," + OPEN + b"]")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [isinstance(one, Problem) for one in read] == [True, True, False]
    assert peak < 30_000_000


DEEP = b"[" * 5_000 + b"]" * 5_000
FILLED = [
    (b"[%b]", b"1,"),
    (b"[%b]", b"{},"),
    (b"[%b", b"1,"),
    (b"[[%b1]]", b"1,"),
    (b'["\\ud800",%b1]', b"1,"),
    (b'["\\ud800",%b1]', b"{},"),
    (b'["\\ud800",{"a":[%b1]}]', b"{},"),
    (b"[" + DEEP + b",%b1]", b"{},"),
    (b"[" + DEEP + b",[%b1]]", b"{},"),
    (b"[%b1]", DEEP + b","),
    (b"[" + OPEN[:-1] + b',"metadata":{%b"a":"b"}}]', b'"a":"b",'),
    (b"[" + OPEN[:-1] + b',"metadata":{"a":"\\ud800"},"b":[%b1]}]', b"{},"),
    (b"[" + BET[:-2] + b"9" * 30 + b',"b":[%b1]}]', b"{},"),
]


@pytest.mark.parametrize(("body", "piece"), FILLED, ids=range(len(FILLED)))
@pytest.mark.system
def test_whatever_a_body_of_8_mb_contains_reading_it_makes_few_objects(body: bytes, piece: bytes) -> None:
    filled = body % (piece * (commands.BODY_MAX // len(piece) - 10_000 // len(piece) - 100))
    tracemalloc.start()
    try:
        refused: list[HashedCommand | Problem] = [*read_batch(filled)]
    except Problem as problem:
        refused = [problem]
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert {one.code for one in refused if isinstance(one, Problem)} == {"malformed_request"}
    assert not [one for one in refused if isinstance(one, HashedCommand)]
    assert peak < 40_000_000  # the body several times; without bounds up to 500 MB


def test_a_batch_has_a_bound() -> None:
    with pytest.raises(Problem, match="1–1,000"):
        read_batch(b"[" + b",".join([OPEN] * 1_001) + b"]")
    with pytest.raises(Problem, match="1–1,000"):
        read_batch(b"[]")
    assert len(read_batch(msgspec.json.encode([msgspec.Raw(OPEN)] * 1_000))) == 1_000


def test_a_lone_surrogate_in_one_element_of_a_batch_stops_no_other() -> None:
    good = b'{"type":"open_wallet","command_id":"x","user_id":"zv"}'
    bad = b'{"type":"open_wallet","command_id":"x","user_id":"zw","metadata":{"a":"\\ud800"}}'
    body = b" [ " + bad + b" ,\n" + good + b", [1, 2] , 5 ] "
    first, second, third, fourth = read_batch(body)
    assert isinstance(first, Problem)
    assert first.fields == {"field": "metadata"}
    assert isinstance(second, HashedCommand)
    assert second == read_command(good)
    assert isinstance(third, Problem)
    assert isinstance(fourth, Problem)


@pytest.mark.parametrize("value", [b"[" * 5_000 + b"]" * 5_000, b'{"a":' * 5_000 + b'"]},{"' + b"}" * 5_000])
def test_an_element_of_a_batch_that_is_nested_too_deeply_stops_no_other(value: bytes) -> None:
    good = b'{"type":"open_wallet","command_id":"x","user_id":"zv"}'
    deep = b'{"type":"open_wallet","command_id":"x","user_id":"zw","metadata":' + value + b"}"
    first, second, third = read_batch(b" [" + good + b", " + deep + b" ,\n" + good + b"] ")
    assert first == third == read_command(good)
    assert isinstance(second, Problem)
    assert second.code == "malformed_request"


@pytest.mark.parametrize(
    "body", [b"[%b", b"[%b]]", b"[%b,]", b"[%b,x]", b'{"a":%b}', b"%b", b"[" + b"1," * 200_000 + b"%b]"]
)
def test_a_body_that_is_no_array_is_refused_whole_however_deep_its_elements_are(body: bytes) -> None:
    with pytest.raises(Problem):
        read_batch(body % (b'{"a":' * 5_000 + b"1" + b"}" * 5_000))


def test_a_misspelled_id_is_explained_in_words() -> None:
    with pytest.raises(Problem) as caught:
        read_command(b'{"type":"open_wallet","command_id":"x","user_id":"game:x"}')
    assert "regex" not in caught.value.detail
    assert "reserved" in caught.value.detail
    with pytest.raises(Problem, match="unknown command type; the known ones are open_wallet, deposit"):
        read_command(b'{"type":"zap","command_id":"x","user_id":"u"}')


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ('"type":"claim_gift","code":"a:b"', "code"),
        ('"type":"open_wallet","referral_code":""', "referral_code"),
        ('"type":"open_wallet","comment":"x"', "comment"),
        ('"type":"record_result","period":"20261123T150000Z","result":"7","proof":{"x":1}', "proof.x"),
    ],
)
def test_the_field_that_is_wrong_is_named_and_how_it_is_spelled(members: str, field: str) -> None:
    user_id = "game:wingo_30s" if "record_result" in members else "u1"
    with pytest.raises(Problem) as raised:
        read_command(f'{{"command_id":"c","user_id":"{user_id}",{members}}}'.encode())
    assert raised.value.fields["field"] == field
    assert "spelled otherwise" not in raised.value.detail
