"""A small HTTP server over `unit.fake_reads`: the routes that a reconciliation asks for, and nothing behind them.

With its own log it stands for a service whose reads are right, or altered, behind, slow or failing, as a test wants.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ledger.core.games.rules import BUILT_IN
from projections.auditing.oracle import Document
from unit.fake_reads import FakeReads


class Answer(Exception):
    def __init__(self, status: int, body: Any, **headers: str) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers


class Told:
    """The server's address, its reads, and how often it was asked by how many connections."""

    def __init__(self, reads: FakeReads) -> None:
        self.reads = reads
        self.url = ""
        self.requests = 0
        self.connections: set[tuple[str, int]] = set()
        self.fail_next: list[Answer] = []


@contextmanager
def serving(reads: FakeReads) -> Iterator[Told]:
    told = Told(reads)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for an ACK

        def do_GET(self) -> None:
            told.requests += 1
            told.connections.add(self.client_address)
            try:
                if told.fail_next and "/wallets/" in self.path:
                    raise told.fail_next.pop()
                status, body, headers = 200, answer(reads, self.path), dict[str, str]()
            except Answer as instead:
                status, body, headers = instead.status, instead.body, instead.headers
            encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(encoded)))
            for name, value in ({"content_type": "application/json"} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, *_arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(reads: FakeReads, path: str) -> Any:
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    _, _, kind, *ids = (unquote(part) for part in parts.path.split("/"))
    cursor = query.get("cursor")
    match kind, ids:
        case "partitions", []:
            return {
                "items": [
                    {"partition": partition, "seq": len(records), "head": _head(records)}
                    for partition, records in enumerate(reads.partitions)
                ]
            }
        case "events", []:
            records, first = reads.partitions[int(query["partition"])], int(query["from_seq"]) - 1
            return b"".join(record + b"\n" for record in records[first : first + int(query["limit"])])
        case "wallets", [user_id]:
            return found(reads.wallet(user_id), "wallet")
        case "wallets", [user_id, "balance"]:
            return found(reads.balance_at(user_id, int(query["at_us"])), "wallet")
        case "wallets", [user_id, "history"]:
            return found(reads.history(user_id, cursor), "wallet")
        case "wallets", [user_id, "bets"]:
            return found(reads.bets(user_id, cursor), "wallet")
        case "wallets", [user_id, "bets", bet_id]:
            return found(reads.bet(user_id, bet_id), "bet")
        case "wallets", [user_id, "holds"]:
            return found(reads.holds(user_id, cursor), "wallet")
        case "wallets", [user_id, "holds", hold_id]:
            return found(reads.hold(user_id, hold_id), "hold")
        case "wallets", [user_id, "transfers"]:
            return found(reads.transfers(user_id, cursor), "wallet")
        case "wallets", [user_id, "grants"]:
            return found(reads.grants(user_id, cursor), "wallet")
        case "wallets", [user_id, "transfers", transfer_id]:
            return found(reads.transfer(user_id, transfer_id), "transfer")
        case "wallets", [user_id, "stats"]:
            return found(reads.stats(user_id), "wallet")
        case "wallets", [user_id, "referrals"]:
            return found(reads.referrals(user_id), "wallet")
        case "gifts", [code]:
            return found(reads.gift(code), "")
        case "referral-codes", [code]:
            return found(reads.referral_code(code), "")
        case "orders", []:
            return found(reads.orders(cursor), "order")
        case "adjustments", []:
            return found(reads.adjustments(cursor), "adjustment")
        case "games", []:
            return {"items": [{"game": game, "rules": None, "length_s": None} for game in BUILT_IN.games]}
        case "games", [game, "periods"]:
            return found(reads.periods(game, cursor), "game")
        case "games", [game, "periods", period]:
            return found(reads.period(game, period), "period")
        case "house", []:
            return found(reads.house(query["asset"], int(query["from_us"]), int(query["to_us"])), "house")
        case "leaderboards", [name]:
            return found(reads.leaderboard(name, query["asset"], int(query["at_us"])), "leaderboard")
        case "orders", [user_id, order_id]:
            return found(reads.order(user_id, order_id), "order")
    raise Answer(404, {"code": "not_found"})


def _head(records: list[bytes]) -> str:
    return sha256(records[-1]).hexdigest() if records else "0" * 64


def found(document: Document | None, kind: str) -> Document:
    if document is None:
        raise Answer(404, {"code": f"{kind}_not_found" if kind else "not_found"})
    return document
