"""The one table of problems is complete, and says of each what the contract says."""

import typing

import msgspec
import pytest

from api.http.consistency import DETAILS
from api.http.problems import KINDS, NOT_THERE, NotThere, Problem, problem_of
from ledger.core.rejections import Code, Rejection
from ledger.writer.requests import Failed, IdReused, Refused

CONFLICTS = ("_reused", "already_resolved", "already_recorded", "already_claimed")
STATUS_OF_REASON = {code: 409 if code.endswith(CONFLICTS) else 422 for code in Code}


@pytest.mark.parametrize("code", list(Code))
def test_every_rejection_has_its_problem(code: Code) -> None:
    assert KINDS[code.value].status == STATUS_OF_REASON[code]


def test_every_way_a_writer_fails_is_a_503_that_says_when_to_retry() -> None:
    for reason in typing.get_args(Failed.__annotations__["reason"]):
        assert KINDS[reason].status == 503
        assert KINDS[reason].retry_after_s


def test_a_rejections_fields_reach_the_caller() -> None:
    refused = Refused(Rejection(Code.INSUFFICIENT_FUNDS, "too little", {"available": 7}))
    body = problem_of(refused).body()
    assert body == {
        "type": "urn:stakelog:problem:insufficient_funds",
        "title": "Insufficient funds",
        "status": 422,
        "detail": "too little",
        "code": "insufficient_funds",
        "available": 7,
    }


def test_a_reused_command_id_names_the_fields_that_differ() -> None:
    problem = problem_of(IdReused(("amount", "asset"), "3:42"))
    assert problem.status == 409
    assert problem.body()["fields"] == ["amount", "asset"]
    assert problem.body()["position"] == "3:42"


def test_a_problem_encodes_as_its_body() -> None:
    problem = Problem("not_found", "there is nothing", field="x")
    assert msgspec.json.decode(problem.encoded()) == problem.body()


def test_what_a_read_misses_is_a_404_also_where_a_command_gets_422() -> None:
    assert set(DETAILS) == NOT_THERE
    for code in NOT_THERE:
        missed = NotThere(code, DETAILS[code])
        assert (missed.status, missed.body()["status"]) == (404, 404)
        assert missed.body()["title"] == Problem(code, "").body()["title"], "the title belongs to the code"
        assert KINDS[code].status in (404, 422)
    with pytest.raises(AssertionError):
        NotThere("insufficient_funds", "")
