"""The OpenAPI document describes the reads as the service serves them: routes, documents, examples."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from api.http.problems import KINDS
from api.routes.table import ROUTES
from projections.models import (
    adjustments,
    bets,
    grants,
    history,
    holds,
    leaderboards,
    orders,
    referrals,
    statistics,
    transfers,
    wallet_list,
    wallets,
)
from projections.models.transfers import SentTransfer
from projections.models.wallets import Wallet
from projections.tables import fields
from projections.tables.rows import Row
from schemas.generate.document import document
from schemas.generate.played import PARTITION, USER, play
from unit.api_in_memory import ApiResponse, InMemoryApi
from unit.given import (
    approve_withdrawal,
    cancel_bet,
    capture_hold,
    deposit,
    grant_bonus,
    hold,
    open_wallet,
    place_bet,
    propose_adjustment,
    reject_withdrawal,
    release_hold,
    request_withdrawal,
    set_limits,
    settle_bet,
    transfer,
)

DOCUMENT: Final = document()
URN: Final = "urn:stakelog:document"
REGISTRY: Final[Registry[Any]] = Registry().with_resource(URN, DRAFT202012.create_resource(DOCUMENT))
READS: Final = {
    operation["operationId"]: path
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method == "get" and operation["tags"][0] in ("wallets", "orders", "adjustments")
}
OF_ALL_USERS: Final = ("getWallets", "getOrders", "getAdjustments")


def schema_of(path: str, status: int) -> Draft202012Validator:
    """Of the body that the document promises at this path for this status."""
    at = f"#/paths/{path.replace('~', '~0').replace('/', '~1')}/get/responses/{status}/content"
    response = DOCUMENT["paths"][path]["get"]["responses"][str(status)]
    if "$ref" in response:
        at = f"{response['$ref']}/content"
        response = DOCUMENT["components"]["responses"][response["$ref"].rsplit("/", 1)[-1]]
    (media_type,) = response["content"]
    reference = f"{URN}{at}/{media_type.replace('/', '~1')}/schema"
    return Draft202012Validator({"$ref": reference.replace("{", "%7B").replace("}", "%7D")}, registry=REGISTRY)


# --- routes ----------------------------------------


async def test_the_document_has_exactly_the_routes_of_the_service(tmp_path: Path) -> None:
    documented = {(path, method.upper()) for path, operations in DOCUMENT["paths"].items() for method in operations}
    async with InMemoryApi(tmp_path) as api_client:
        # A method that no route has gets those of this path.
        for path in DOCUMENT["paths"]:
            answer = await api_client.ask("PURGE", re.sub(r"{[a-z_]+}", "x", path))
            allowed = set(answer.headers["allow"].split(", ")) - {"HEAD"}
            assert (answer.status, allowed) == (405, {method for at, method in documented if at == path}), path
    assert {(route.path, route.method) for route in ROUTES if route.operation} == documented


# --- documents ----------------------------------------

SCENARIO: Final = (
    open_wallet("top"),
    open_wallet("u1", referrer_id="top"),
    open_wallet("u2"),
    deposit(100_000, order_id="d1", bonus=500),
    deposit(70, order_id="d2", asset="GOLD"),
    set_limits(credit_limit=1_000, stake_max_per_day=900_000),
    *(place_bet(500, bet_id=f"b{number}") for number in range(4)),
    settle_bet(0, "b0"),
    settle_bet(900, "b1"),
    cancel_bet("b2"),
    *(hold(100, hold_id=f"h{number}") for number in range(3)),
    capture_hold("h0", 40),
    release_hold("h1"),
    request_withdrawal(1_000, order_id="w1"),
    request_withdrawal(2_000, order_id="w2"),
    request_withdrawal(3_000, order_id="w3"),
    approve_withdrawal(order_id="w1"),
    reject_withdrawal(order_id="w2", reason="the name differs"),
    transfer(50, "u2", transfer_id="t1"),
    transfer(60, "stranger", transfer_id="t2"),
    grant_bonus(5, grant_id="g1", expires_at_us=0),
    propose_adjustment(7, adjustment_id="a1"),
    propose_adjustment(-7, adjustment_id="a2"),
    place_bet(96_000, bet_id="all", spend="bonus_first"),
)

PATHS: Final = {
    "getWallet": ["/u1", "/top", "/u2", "/u1?consistency=strong", "/stranger"],
    "getBalance": ["/u1/balance", "/u1/balance?at_us=978307200000000", "/stranger/balance"],
    "getHistory": [
        "/u1/history",
        "/u1/history?limit=3",
        "/u1/history?type=bet_settled",
        "/u2/history",
        "/stranger/history",
    ],
    "getBets": ["/u1/bets", "/u1/bets?limit=1", "/u1/bets?status=open", "/top/bets", "/stranger/bets"],
    "getBet": [*(f"/u1/bets/b{number}" for number in range(4)), "/u1/bets/all", "/u1/bets/x", "/stranger/bets/x"],
    "getHolds": ["/u1/holds", "/u1/holds?limit=1", "/stranger/holds"],
    "getHold": ["/u1/holds/h0", "/u1/holds/h1", "/u1/holds/h2", "/u1/holds/x", "/stranger/holds/x"],
    "getTransfers": ["/u1/transfers", "/u1/transfers?limit=1", "/stranger/transfers"],
    "getGrants": ["/u1/grants", "/u1/grants?limit=1", "/stranger/grants"],
    "getWallets": ["?prefix=", "?prefix=u&limit=1", "?user_id=u1&user_id=top&user_id=unknown", "?prefix=unknown"],
    "getAdjustments": ["", "?limit=1", "?status=proposed", "?status=rejected"],
    "getTransfer": ["/u1/transfers/t1", "/u1/transfers/t2", "/u2/transfers/t1", "/stranger/transfers/x"],
    "getStatistics": ["/u1/stats", "/top/stats", "/stranger/stats"],
    "getReferrals": ["/top/referrals", "/u1/referrals", "/stranger/referrals"],
    "getOrders": ["", "?limit=1", "?kind=withdrawal&status=pending", "?status=rejected"],
    "getOrder": [*(f"/u1/{order}" for order in ("d1", "d2", "w1", "w2", "w3", "x")), "/stranger/x"],
}
WRONG: Final = ("limit=0", "timeout_ms=x", "min_position=0:9007199254740991,1:1&timeout_ms=0", "unknown=1")


async def answered(api_client: InMemoryApi) -> list[tuple[str, str, ApiResponse]]:
    """(operation, path of the document, answer) of every read of the scenario."""
    found = []
    for operation, asks in PATHS.items():
        root = f"/v1/{DOCUMENT['paths'][READS[operation]]['get']['tags'][0]}"
        wrong = [f"{asks[0]}{'&' if '?' in asks[0] else '?'}{query}" for query in WRONG]
        found += [(operation, READS[operation], await api_client.get(root + ask)) for ask in (*asks, *wrong)]
    return found


async def test_every_response_matches_the_document(tmp_path: Path) -> None:
    assert set(PATHS) == set(READS)
    statuses: dict[str, set[int]] = {operation: set() for operation in READS}
    async with InMemoryApi(tmp_path) as api_client:
        await api_client.world.given(*SCENARIO)
        await api_client.fold()
        for operation, path, answer in await answered(api_client):
            schema_of(path, answer.status).validate(answer.json())
            statuses[operation].add(answer.status)
            codes = DOCUMENT["paths"][path]["get"]["responses"]
            assert str(answer.status) in codes
    for operation, seen in statuses.items():
        assert seen >= {200, 400} | ({404} if operation not in OF_ALL_USERS else set()), (operation, seen)


@pytest.mark.system
async def test_a_response_with_one_change_does_not_match_the_document(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path) as api_client:
        await api_client.world.given(*SCENARIO)
        await api_client.fold()
        for operation, path, answer in await answered(api_client):
            if answer.status != 200:
                continue
            validator = schema_of(path, 200)
            for wrong in spoiled(answer.json()):
                assert not validator.is_valid(wrong), (operation, wrong)


def spoiled(body: Any) -> Iterator[Any]:
    """Each member left out, each made another kind, and one too many, at the top and in a page's first item."""
    depths = (0, 1) if body.get("items") else (0,)
    for depth in depths:
        for name in members_at(body, depth):
            for change in ("left out", "another kind", "one too many"):
                copy = msgspec.json.decode(msgspec.json.encode(body))
                members = members_at(copy, depth)
                if change == "left out":
                    del members[name]
                elif change == "another kind":
                    members[name] = 5.5
                else:
                    members[f"{name}_too"] = None
                yield copy


def members_at(body: Any, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = body["items"][0] if depth else body
    return found


def test_every_member_of_every_document_is_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    kinds = {
        kind
        for module in (
            *(adjustments, bets, grants, history, holds, leaderboards, orders, referrals),
            *(statistics, transfers, wallet_list, wallets, fields),
        )
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
        if not issubclass(kind, Row) and kind is not bets.ChangedBet  # of live feeds: no JSON response has it
    }
    assert {Wallet, SentTransfer} < kinds
    for kind in kinds:
        name = kind.__name__
        members = [field.encode_name for field in msgspec.structs.fields(kind)]
        assert [member for member in schemas[name]["properties"] if member != "as_of"] == members, name
        assert schemas[name]["description"]


# --- examples ----------------------------------------


async def test_the_examples_are_the_responses_of_a_service_with_the_same_events(tmp_path: Path) -> None:
    """Here the events are folded into a file and read over HTTP; the document's examples are made from rows in
    memory."""
    async with InMemoryApi(tmp_path) as api_client:
        api_client.world.appended.records[PARTITION].extend(example.record.encode() for example in play())
        await api_client.world.restart()
        await api_client.fold()
        said = DOCUMENT["components"]["examples"]
        for name, path in {
            "wallet": f"/v1/wallets/{USER}",
            "balance": f"/v1/wallets/{USER}/balance?at_us={said['balance']['value']['at_us']}",
            "history": f"/v1/wallets/{USER}/history?asset=INR&limit=3",
            "bets": f"/v1/wallets/{USER}/bets",
            "bet": f"/v1/wallets/{USER}/bets/bet-1",
            "holds": f"/v1/wallets/{USER}/holds",
            "hold": f"/v1/wallets/{USER}/holds/hold-1",
            "transfers": f"/v1/wallets/{USER}/transfers",
            "grants": f"/v1/wallets/{USER}/grants",
            "wallets": f"/v1/wallets?user_id={USER}",
            "adjustments": "/v1/adjustments?limit=1",
            "transfer": f"/v1/wallets/{USER}/transfers/tr-1",
            "statistics": f"/v1/wallets/{USER}/stats",
            "referrals": f"/v1/wallets/{USER}/referrals",
            "order": f"/v1/orders/{USER}/wd-1",
        }.items():
            more = "&" if "?" in path else "?"
            body = (await api_client.get(f"{path}{more}timeout_ms=10000")).json()
            assert body == said[name]["value"], name


def test_every_problem_code_of_the_reads_is_documented_at_its_route() -> None:
    for operation, path in READS.items():
        responses = DOCUMENT["paths"][path]["get"]["responses"]
        assert {"400", "405", "500", "503", "504"} <= set(responses), operation
        assert ("404" in responses) == (operation not in OF_ALL_USERS)
        assert ("304" in responses) == (operation in ("getWallet", "getStatistics"))
        if operation in ("getBet", "getHold", "getTransfer", "getOrder"):
            code = f"{operation[3:].lower()}_not_found"
            text = DOCUMENT["paths"][path]["get"]["description"]
            for known in KINDS:
                if known.endswith("_not_found"):
                    assert (f"`{known}`" in text) == (known in ("wallet_not_found", code)), (operation, known)
            assert code in KINDS
