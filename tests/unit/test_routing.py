"""A path finds its route as it was sent, whatever an id holds; each request is counted under its route."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from api.http.parameters import QueryReader
from api.http.problems import Problem
from api.http.requests import Request, Response
from api.http.routing import Route, Router
from api.http.service import Service
from unit.api_in_memory import InMemoryApi
from unit.given import open_wallet


class One(Struct, frozen=True):
    a: str


class Two(Struct, frozen=True):
    a: str
    b: str


async def nothing(_service: Service, _request: Request[Any, Any]) -> Response:
    return Response(b"{}")


def route(path: str, parameters: Any = None, **more: Any) -> Any:
    return Route(
        method="GET", path=path, handler=nothing, **({"parameters": parameters} if parameters else {}), **more
    )


ROUTER = Router(
    (
        route("/"),
        route("/things"),
        route("/things/{a}", One),
        route("/things/{a}/parts", One),
        route("/things/{a}/parts/{b}", Two, rest=True),
    )
)


@pytest.mark.parametrize(
    ("path", "template", "values"),
    [
        ("/", "/", {}),
        ("/things", "/things", {}),
        ("/%74hings", "/things", {}),
        ("/things/x", "/things/{a}", {"a": "x"}),
        ("/things/x%2Fparts", "/things/{a}", {"a": "x/parts"}),
        ("/things/%2F", "/things/{a}", {"a": "/"}),
        ("/things/parts", "/things/{a}", {"a": "parts"}),
        ("/things/x/parts", "/things/{a}/parts", {"a": "x"}),
        ("/things/x/parts/y", "/things/{a}/parts/{b}", {"a": "x", "b": "y"}),
        ("/things/x/parts/y/z", "/things/{a}/parts/{b}", {"a": "x", "b": "y/z"}),
        ("/things/x/parts/y%2Fz%25", "/things/{a}/parts/{b}", {"a": "x", "b": "y/z%"}),
    ],
)
def test_a_path_finds_its_route_and_its_parameters(path: str, template: str, values: dict[str, str]) -> None:
    found = ROUTER.find(path)
    assert found is not None
    assert (found[0].template, found[1]) == (template, values)


@pytest.mark.parametrize(
    "path",
    ["//", "/thing", "/things/", "/things//", "/things/x/", "/things/x/y", "/things//parts", "/things/x/parts//y"],
)
def test_a_path_of_no_route_finds_nothing(path: str) -> None:
    assert ROUTER.find(path) is None


def test_rows_that_could_match_the_same_path_or_do_not_fit_their_structs_are_refused() -> None:
    for rows in (
        (route("/a/b/{a}", One), route("/a/{a}/{b}", Two)),
        (route("/a/{a}", One), route("/a/{b}/c", One)),
        (route("/a"), route("/a")),
        (route("/a/{a}", Two),),
        (route("/a", problems=("no_such_code",)),),
    ):
        with pytest.raises(AssertionError):
            Router(rows)


class Query(Struct, frozen=True):
    number: Annotated[int, Meta(ge=1, le=5)]
    flag: bool = False
    text: Annotated[str, Meta(max_length=3, extra={"must": "short"})] | None = None


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        (b"number=6", "number", "number must be an integer from 1 to 5"),
        (b"number=null", "number", "number must be an integer from 1 to 5"),
        (b"number= 1", "number", "number must be an integer from 1 to 5"),
        (b"number=1&flag=1", "flag", "flag must be false or true"),
        (b"number=1&flag=True", "flag", "flag must be false or true"),
        (b"number=1&text=long%20", "text", "text must be short"),
        (b"number=1&number=1", "number", "the query parameter number is given twice"),
        (b"number=1&other=1", "other", "unknown query parameter other; the known ones are number, flag, text"),
        (b"flag=true", "number", "the query parameter number is missing"),
        (b"", "number", "the query parameter number is missing"),
    ],
)
def test_a_malformed_parameter_is_named_with_what_it_must_be(query: bytes, field: str, said: str) -> None:
    with pytest.raises(Problem) as refused:
        QueryReader(Query)(query)
    assert (refused.value.code, refused.value.fields, refused.value.detail) == (
        "malformed_request",
        {"field": field},
        said,
    )


def test_a_query_is_read_into_its_struct() -> None:
    read = QueryReader(Query)
    assert read(b"number=5") == Query(5)
    assert read(b"&number=5&&flag=true&text=a+b") == Query(5, True, "a b")
    assert read(b"text=&number=1") == Query(1, text="")
    assert read(b"text&number=1") == Query(1, text="")


async def test_each_request_is_counted_once_by_method_template_and_status(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path) as api_client:
        await api_client.world.given(open_wallet())
        await api_client.fold()
        for target in ("/v1/wallets/u1", "/v1/wallets/u1?x=1", "/v1/wallets/nobody", "/no/such", "/v1/wallets/u1"):
            await api_client.get(target)
        await api_client.ask("HEAD", "/v1/wallets/u1")
        await api_client.ask("PURGE", "/v1/wallets/u1")
        text = (await api_client.get("/metrics")).body.decode()
        again = (await api_client.get("/metrics")).body.decode()
    name = "stakelog_http_request_duration_seconds"

    def number(text: str, method: str, route: str, status: int) -> float:
        labels = f'{{method="{method}",route="{route}",status="{status}"}} '
        (line,) = (line for line in text.splitlines() if line.startswith(f"{name}_count{labels}"))
        assert f'{name}_bucket{{le="+Inf",{labels[1:-1]} {line.split()[-1]}' in text
        return float(line.split()[-1])

    wallet = "/v1/wallets/{user_id}"
    assert number(text, "GET", wallet, 200) == 2
    assert number(text, "GET", wallet, 400) == 1
    assert number(text, "GET", wallet, 404) == 1
    assert number(text, "HEAD", wallet, 200) == 1
    assert number(text, "other", wallet, 405) == 1
    assert number(text, "GET", "unmatched", 404) == 1
    assert number(again, "GET", "/metrics", 200) == 1
    assert f"# TYPE {name} histogram" in text
