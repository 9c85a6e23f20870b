"""The OpenAPI document with its examples, which come from the core and from the reads.

So each example command can be posted unchanged, and its example response is the real one.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import to_builtins

from api.http.bodies import games_of
from api.http.routing import AnyRoute
from api.identity.keys import jwk_of
from api.identity.receipts import receipt_text
from api.identity.tokens import ACCESS_S
from api.openapi.document import make_document
from api.openapi.schemas import command_name
from api.routes.table import ROUTES
from ledger.core.commands import COMMAND_TYPES
from ledger.core.games.rules import BUILT_IN
from ledger.core.record import EMPTY, EMPTY_SHA256, Head
from ledger.operations.seals import seal_line
from schemas.generate.played import PARTITION, USER, Example, first_of_each_type, play
from schemas.generate.played_reads import responses

_EXAMPLE_KEY: Final = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="


def document(routes: Iterable[AnyRoute] = ROUTES) -> dict[str, Any]:
    """The whole document. It depends on nothing but the code: the same each time."""
    found = make_document(routes, examples())
    used = json.dumps([found["paths"], found["components"]["responses"]])
    kept = found["components"]["examples"]
    found["components"]["examples"] = {
        name: value for name, value in kept.items() if f'"#/components/examples/{name}"' in used
    }
    return found


def examples() -> dict[str, Any]:
    """Name → value of every body in the document that is no problem."""
    played = play()
    return {**_commands(played), **responses(played), **_audit(played), **_login(), **_operation()}


def _commands(played: list[Example]) -> dict[str, Any]:
    first = first_of_each_type(played)
    found: dict[str, Any] = {}
    for name in map(command_name, COMMAND_TYPES):
        found[f"command.{name}"] = first[name].command
        found[f"result.{name}"] = first[name].answer
    deposit, bet = first["deposit"], first["place_bet"]
    settle = {"type": "settle_bet", "command_id": "c-99", "user_id": "player-15", "bet_id": "bet-99", "payout": 0}
    refused = {
        "type": "urn:stakelog:problem:bet_not_found",
        "title": "Bet not found",
        "status": 422,
        "detail": "this wallet has no bet_id bet-99",
        "code": "bet_not_found",
        "bet_id": "bet-99",
    }
    found["batch"] = [deposit.command, bet.command, settle]
    found["result.batch"] = [
        {"status": 200, "idempotency_hit": True, "result": deposit.answer},
        {"status": 201, "result": bet.answer},
        {"status": 422, "problem": refused},
    ]
    written = ("partition", "seq", "time_us", "type", "data", "balances")
    found["dry_run"] = {name: bet.answer[name] for name in written} | {"dry_run": True}
    return found


def _audit(played: list[Example]) -> dict[str, Any]:
    deposit = first_of_each_type(played)["deposit"]
    end = {
        "partition": PARTITION,
        "seq": deposit.answer["seq"],
        "head": deposit.answer["head"],
        "owner": "http://127.0.0.1:8080",
    }
    time_us = json.loads(deposit.record)["time_us"]
    seal = seal_line(time_us, [*[EMPTY] * PARTITION, Head(end["seq"], end["head"])], EMPTY_SHA256, _sign)
    kid, signature = _sign(receipt_text(PARTITION, end["seq"], end["head"], time_us))
    return {
        "receipt": {
            "record": deposit.record,
            "head": end["head"],
            "partition": PARTITION,
            "seq": end["seq"],
            "signed_at_us": time_us,
            "kid": kid,
            "signature": signature,
        },
        "record": json.loads(deposit.record),
        "records": "".join(f"{example.record}\n" for example in played[:2]),
        "partitions": {"items": [end]},
        "referral_code": {
            "code": "AGENT-17",
            "user_id": USER,
            "as_of": {"position": f"{PARTITION}:42", "lag_ms": 0},
        },
        "games": to_builtins(games_of([BUILT_IN.games["wingo_30s"]])),
        "seals": {"items": [json.loads(seal)], "next_cursor": None},
    }


def _sign(text: bytes) -> tuple[str, str]:
    """By the key of RFC 8037, appendix A, whose public part is in the example of the JWK Set."""
    private = Ed25519PrivateKey.from_private_bytes(urlsafe_b64decode(_EXAMPLE_KEY))
    return jwk_of(private.public_key())["kid"], urlsafe_b64encode(private.sign(text)).rstrip(b"=").decode()


def _login() -> dict[str, Any]:
    secret = "9mWq1cFz7r4e0xVbT2uK8sYdHnLgPjAo5iRtZ6vCwQE"  # noqa: S105
    refresh_token = "fM3k9QeR1sT5uV7wX9yZ1a.b2C4d6E8f0G2h4I6j8K0l2M4n6O8p0Q2r4S6t8U0v2W"  # noqa: S105
    narrowed = {
        "client_id": "game-server-1",
        "role": "game_server",
        "games": ["external"],
        "types": ["place_bet", "settle_bet"],
        "public_key": "MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=",
    }
    return {
        "login": {"client_id": "game-server-1", "client_secret": secret},
        "tokens": {
            "access_token": "eyJhbGciOiJFZERTQSIsImtpZCI6Ii4uLiIsInR5cCI6ImF0K2p3dCJ9.e30.c2lnbmF0dXJl",
            "expires_in": ACCESS_S,
            "refresh_token": refresh_token,
            "token_type": "Bearer",
        },
        "invalid_grant": {
            "error": "invalid_grant",
            "error_description": "the refresh token is unknown, spent, revoked or expired",
        },
        "invalid_client": {
            "error": "invalid_client",
            "error_description": "the client is unknown or disabled, or its secret is wrong",
        },
        "refresh": {"refresh_token": refresh_token},
        "player": {"user_id": "player-15"},
        "jwks": {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                    "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
                    "use": "sig",
                    "alg": "EdDSA",
                }
            ]
        },
        "oauth": {
            "issuer": "https://ledger.example",
            "token_endpoint": "https://ledger.example/v1/auth/token",
            "jwks_uri": "https://ledger.example/.well-known/jwks.json",
            "grant_types_supported": ["client_credentials", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "response_types_supported": [],
        },
        "clients": {
            "items": [
                {
                    **narrowed,
                    "created_at_us": 1_795_438_800_000_000,
                    "secret_since_us": 1_795_438_800_000_000,
                    "old_secret_until_us": None,
                    "disabled_at_us": None,
                }
            ]
        },
        **_webhooks(),
        "client.new": narrowed,
        "client": {**narrowed, "client_secret": secret},
        "rotate": {"grace_s": 3_600},
        "client.rotated": {"client_id": "game-server-1", "client_secret": secret},
    }


def _webhooks() -> dict[str, Any]:
    webhook_id = "wh_5f0c1b2a39d8e764"
    change = {
        "url": "https://shop.example/hooks/stakelog",
        "types": ["deposited", "withdrawal_approved"],
        "give_up_s": 86_400,
        "enabled": True,
    }
    webhook = {"webhook_id": webhook_id, **change, "created_at_us": 1_795_438_800_000_000}
    secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDGB1j+5AGgzs="  # noqa: S105
    return {
        "webhooks": {
            "items": [{**webhook, "waiting": 2, "dead_letters": 1, "cursors": ["0:17", "1:0", "2:5", "3:41"]}]
        },
        "webhook.new": {**change, "from_start": False},
        "webhook.added": {**webhook, "secret": secret},
        "webhook.change": {**change, "enabled": False},
        "webhook": {**webhook, "enabled": False},
        "webhook.rotate": {"grace_s": 86_400},
        "webhook.rotated": {"webhook_id": webhook_id, "secret": secret},
        "webhook.replay": {"positions": ["0:1", "3:42"]},
        "dead_letters": {
            "items": [
                {
                    "position": "3:42",
                    "user_id": "player-15",
                    "type": "deposited",
                    "time_us": 1_795_438_800_000_000,
                    "attempts": 53,
                    "first_attempt_at_us": 1_795_438_800_100_000,
                    "given_up_at_us": 1_795_525_200_100_000,
                    "error": "status 500",
                }
            ],
            "next_cursor": None,
        },
        "dead_letters.replay": {"positions": ["3:42"]},
        "dead_letters.revived": {"revived": 1},
    }


def _operation() -> dict[str, Any]:
    return {
        "healthy": {"status": "ok"},
        "ready": {"status": "ready"},
        "not_ready": {"status": "not_ready", "reasons": ["the clock is more than 1 s behind the log's last event"]},
        "metrics": "stakelog_ready 1.0\n",
        "live": (
            "retry: 1000\n\nid: f12f3c4a~42.9c0b11d2\nevent: balance\n"
            'data: {"user_id":"player-15","status":"open","opened_at_us":1795438800000000,"referrer_id":null,'
            '"balances":{"INR":{"cash":9500,"bonus":0,"held":0,"available":9500,"withdrawable":9500}},"limits":{},'
            '"first_deposit":null,"as_of":{"position":"3:42","lag_ms":0}}\n\n'
            'event: dropped\ndata: {"reason":"token_expired"}\n\n'
        ),
        "schema": {"openapi": "3.1.0", "info": {"title": "stakelog", "version": "1"}, "paths": {}},
    }
