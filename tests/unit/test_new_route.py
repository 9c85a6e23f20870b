"""A new route is one row and one function; all else comes from the row. ``CONTRIBUTING.md`` has the same example."""

from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta, Struct
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.http.application import Rim
from api.http.bodies import encode
from api.http.problems import Problem
from api.http.requests import Request, Response
from api.http.routing import Body, Route, Router
from api.http.service import Service
from api.identity.identity import OPERATOR
from api.routes.table import ROUTES
from schemas.generate.document import document
from unit.api_in_memory import InMemoryApi


class OfGreeting(Struct, frozen=True):
    name: Annotated[str, Meta(max_length=20, description="Who is greeted", examples=["meera"])]


class GreetingQuery(Struct, frozen=True):
    times: Annotated[int, Meta(ge=1, le=3, description="How often", examples=[2])] = 1


class Greeting(Struct):
    """A greeting."""

    text: Annotated[str, Meta(description="The text", examples=["hello meera"])]


async def get_greeting(_service: Service, request: Request[OfGreeting, GreetingQuery]) -> Response:
    if request.path.name == "unknown":
        raise Problem("not_found", "there is no such name")
    return Response(encode(Greeting(" ".join([f"hello {request.path.name}"] * request.query.times))))


ROW = Route(
    method="GET",
    path="/v1/greetings/{name}",
    handler=get_greeting,
    parameters=OfGreeting,
    query=GreetingQuery,
    roles=(OPERATOR,),
    returns=(Body(Greeting, "The greeting"),),
    problems=("not_found",),
    tag="operation",
    operation="getGreeting",
    summary="Read a greeting",
    description="A worked example.",
)


async def test_a_row_and_a_function_are_a_route(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path) as api_client:
        api_client.app = Rim(Router((*ROUTES, ROW)), api_client.app.service)
        assert (await api_client.get("/v1/greetings/meera?times=2")).json() == {"text": "hello meera hello meera"}
        assert (await api_client.ask("HEAD", "/v1/greetings/meera")).status == 200
        refused = await api_client.get("/v1/greetings/meera?times=4")
        assert refused.json()["detail"] == "times must be an integer from 1 to 3"
        assert (await api_client.get("/v1/greetings/unknown")).json()["code"] == "not_found"
        assert (await api_client.ask("POST", "/v1/greetings/meera")).headers["allow"] == "GET, HEAD"
        metrics = (await api_client.get("/metrics")).body.decode()
        assert 'route="/v1/greetings/{name}",status="404"' in metrics


@pytest.mark.system
def test_the_row_is_in_the_document() -> None:
    made = document((*ROUTES, ROW))
    OpenAPIV31SpecValidator(made).validate()
    operation = made["paths"]["/v1/greetings/{name}"]["get"]
    assert [(one["in"], one["name"], one["required"]) for one in operation["parameters"]] == [
        ("path", "name", True),
        ("query", "times", False),
    ]
    assert set(operation["responses"]) == {"200", "400", "401", "403", "404", "405", "429", "500", "503"}
    schema = made["components"]["schemas"]["Greeting"]
    Draft202012Validator(schema).validate(msgspec.to_builtins(Greeting("hello")))
    assert not Draft202012Validator(schema).is_valid({"text": 5})
