"""An audit over HTTP meets a service that cannot answer for a moment, as when a partition changes its owner."""

import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from api.cli.audit.http_records import HttpRecords
from api.cli.audit.sources import CannotAudit
from deploy.local.server import free_port

PARTITIONS = (
    b'{"items":[{"partition":1,"seq":7,"head":"","owner":null},{"partition":0,"seq":3,"head":"","owner":null}]}'
)


class Answers:
    """The service's responses in order; then always the partitions. None: it hangs up."""

    def __init__(self) -> None:
        self.next: list[int | None] = []
        self.asked = 0


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def url(answers: Answers) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.asked += 1
            status = answers.next.pop(0) if answers.next else 200
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", str(len(PARTITIONS)))
            self.end_headers()
            self.wfile.write(PARTITIONS)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's name for it
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_request_to_a_service_that_cannot_respond_yet_is_repeated(url: str, answers: Answers, status: int) -> None:
    answers.next = [status, status]
    with closing(HttpRecords(url)) as records:
        assert records.ends() == [3, 7]
    assert answers.asked == 3


def test_a_request_to_a_service_that_closes_the_connection_is_repeated(url: str, answers: Answers) -> None:
    with closing(HttpRecords(url)) as records:
        records.ends()
        answers.next = [None]
        assert records.ends() == [3, 7]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_any_other_status_ends_the_audit(url: str, answers: Answers, status: int) -> None:
    answers.next = [status]
    with closing(HttpRecords(url)) as records, pytest.raises(CannotAudit, match=f"returned status {status}"):
        records.ends()
    assert answers.asked == 1


def test_a_service_with_login_asks_for_the_option(url: str, answers: Answers) -> None:
    answers.next = [401]
    with closing(HttpRecords(url)) as records, pytest.raises(CannotAudit, match="give --login FILE"):
        records.ends()


def test_a_service_that_was_never_there_is_not_waited_for() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with closing(HttpRecords(url)) as records, pytest.raises(CannotAudit, match="cannot be read"):
        records.ends()
