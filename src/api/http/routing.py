"""One row per route: what matches it, what its handler reads, what it returns, who may use it.

Everything about a route comes from its row: the dispatch, the check of path and query, the labels of the request
metrics, and the OpenAPI document.

Invariants:
(1) a path is matched as it was sent: each segment is percent-decoded by itself, so an id's ``%2F`` is no separator;
(2) a path with an empty segment matches only a route that is written with it: routes are never tidied;
(3) where a route has ``rest=True`` its last parameter takes the rest of the path, with its slashes;
(4) at one place of the paths there is either a parameter or literal words, so a match never depends on the order of
    the rows.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import unquote

from msgspec import Struct

from api.http.parameters import Nothing, PathReader, QueryReader
from api.http.problems import KINDS
from api.http.requests import Request, Response
from api.http.service import Service
from projections.live.feed import Feed

P = TypeVar("P", bound=Struct)
Q = TypeVar("Q", bound=Struct)


class Named(NamedTuple):
    """A schema of the document that is no Struct: one of several Structs, or an array."""

    name: str
    kinds: tuple[type[Struct], ...] = ()
    """One of these; none: the document makes the schema of this name itself."""
    about: str = ""
    items_max: int | None = None
    """An array of 1 to so many of it; None: one."""


class Body(NamedTuple):
    """What a route takes or returns, for the document."""

    kind: type[Struct] | Named | None
    """None: content of another kind than JSON of a known shape."""
    description: str
    status: int = 200
    media_type: str | None = "application/json"
    """None: there is no body."""
    examples: tuple[str, ...] = ()
    """Names of the document's examples."""
    headers: tuple[str, ...] = ()
    """Names of the document's headers."""
    as_of: type[Struct] | None = None
    """The document has this ``as_of``."""
    form: type[Struct] | None = None
    """The same as a form, ``application/x-www-form-urlencoded``."""


class Route(Struct, Generic[P, Q], frozen=True, kw_only=True):
    """One row of the table."""

    method: str
    path: str
    """With its parameters in braces: ``/v1/wallets/{user_id}``."""
    handler: Callable[[Service, Request[P, Q]], Awaitable[Response]]
    parameters: type[P] = Nothing  # type: ignore[assignment]
    """The path's: one member for each of its parameters, in their order."""
    query: type[Q] = Nothing  # type: ignore[assignment]
    rest: bool = False
    """The last parameter takes the rest of the path."""
    roles: tuple[str, ...] = ()
    """Who may use it; none: it is open to all."""
    checks_commands: bool = False
    """It posts commands: who may is checked by the type of each command, not by ``roles``."""
    opens: Callable[[Service, Request[P, Q]], Awaitable[Feed]] | None = None
    """Of a WebSocket: opens its feed. ``handler`` is for a client that sends an ordinary request."""
    takes: type[Struct] | None = None
    """The JSON body, decoded before the roles are checked; None: the handler reads the body itself, if any."""
    headers: tuple[str, ...] = ()
    """Request headers that the handler reads: names of the document's parameters."""
    body: Body | None = None
    returns: tuple[Body, ...] = ()
    problems: tuple[str, ...] = ()
    """The codes that this route adds to those of every route."""
    missing: tuple[str, ...] = ()
    """The codes of a read that finds nothing; they are 404, also where a command gets another status."""
    tag: str = ""
    operation: str = ""
    """The operation's id in the document; none: the route is not part of the contract."""
    summary: str = ""
    description: str = ""


AnyRoute = Route[Any, Any]


class Served(NamedTuple):
    """A route, and what reads its parameters."""

    route: AnyRoute
    read_path: PathReader[Any]
    read_query: QueryReader[Any]


class PathRoutes(NamedTuple):
    """What is at one path template: a route for each method."""

    template: str
    by_method: Mapping[str, Served]

    @property
    def allowed(self) -> list[str]:
        return list(self.by_method)


class _Node:
    """The routes below one segment of their paths."""

    __slots__ = ("literals", "name", "parameter", "rest", "routes")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.name = ""
        self.rest = False
        self.routes: PathRoutes | None = None

    def below(self, segment: str) -> "_Node":
        if not segment.startswith("{"):
            assert self.parameter is None, segment
            return self.literals.setdefault(segment, _Node())
        assert not self.literals, segment
        name = segment[1:-1]
        assert self.name in ("", name), segment
        if self.parameter is None:
            self.parameter, self.name = _Node(), name
        return self.parameter


class Router:
    """Finds the routes of a path: fixed paths by one look-up, the others segment by segment."""

    def __init__(self, routes: Iterable[AnyRoute]) -> None:
        self._fixed: dict[str, PathRoutes] = {}
        self._root = _Node()
        by_path: dict[str, list[AnyRoute]] = {}
        for route in routes:
            by_path.setdefault(route.path, []).append(route)
        for path, here in by_path.items():
            self._add(path, here)

    def _add(self, path: str, here: list[AnyRoute]) -> None:
        by_method: dict[str, Served] = {}
        for route in here:
            assert route.method not in by_method, (route.method, path)
            assert KINDS.keys() >= {*route.problems, *route.missing}, path
            served = Served(route, PathReader(route.parameters), QueryReader(route.query))
            by_method[route.method] = served
            if route.method == "GET":
                by_method["HEAD"] = served
        found = PathRoutes(path, by_method)
        if "{" not in path:
            self._fixed[path] = found
            return
        segments = path[1:].split("/")
        names = [segment[1:-1] for segment in segments if segment.startswith("{")]
        assert all(list(route.parameters.__struct_fields__) == names for route in here), path
        node = self._root
        for segment in segments[:-1]:
            node = node.below(segment)
        if any(route.rest for route in here):
            node.rest = True
        node = node.below(segments[-1])
        assert node.routes is None, path
        node.routes = found

    def find(self, path: str) -> tuple[PathRoutes, dict[str, str]] | None:
        """The routes at the percent-encoded ``path``, and the values of its parameters; None: there is no route."""
        found = self._fixed.get(path)
        if found is not None:
            return found, {}
        segments = path[1:].split("/")
        if "%" in path:
            segments = [unquote(segment) for segment in segments]
            found = self._fixed.get("/" + "/".join(segment.replace("/", "%2F") for segment in segments))
            if found is not None:
                return found, {}
        if "" in segments:
            return None
        values: dict[str, str] = {}
        node = self._root
        for number, segment in enumerate(segments):
            below = node.literals.get(segment)
            if below is None:
                below = node.parameter
                if below is None:
                    return None
                if node.rest:
                    values[node.name] = "/".join(segments[number:])
                    node = below
                    break
                values[node.name] = segment
            node = below
        return None if node.routes is None else (node.routes, values)
