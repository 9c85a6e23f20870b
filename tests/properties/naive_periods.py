"""Periods and the house view, too simple to be wrong: each document is computed by scanning all events again.

Written from the public contract and docs/reads.md alone; it shares no code with the product.

    period(events, "wingo_30s", "20261123T130000Z", now_us)    # events: decoded records, all partitions
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any, Final

from naive_games import RESULTS, paid_on_all_results

Event = Mapping[str, Any]
Doc = dict[str, Any]

CODES: Final = {"wingo": 1, "trx_wix": 2, "k3": 3, "5d": 4}
CLOSE_S: Final = 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DIVISORS: Final = [seconds for seconds in range(1, 86_401) if 86_400 % seconds == 0]


def periods(events: Iterable[Event], game: str, now_us: int) -> list[Doc]:
    """Without their distributions, the latest first."""
    events = list(events)
    named = {event["data"]["period"] for event in _placed(events, game)}
    named |= {event["data"]["period"] for event in events if event["user_id"] == f"game:{game}"}
    found = []
    for name in sorted(named, reverse=True):
        document = period(events, game, name, now_us)
        assert document is not None
        del document["distribution"]
        found.append(document)
    return found


def period(events: Iterable[Event], game: str, name: str, now_us: int) -> Doc | None:
    """None: it has not begun, and has no event."""
    events = list(events)
    rules, _, length = game.rpartition("_")
    length_s = int(length[:-1]) * {"s": 1, "m": 60}[length[-1]]
    start = datetime.strptime(name, "%Y%m%dT%H%M%S%z")
    end = start + timedelta(seconds=length_s)
    now = _EPOCH + timedelta(microseconds=now_us)
    of_day = start - start.replace(hour=0, minute=0, second=0)
    outcomes = [event for event in events if event["user_id"] == f"game:{game}" and event["data"]["period"] == name]
    placed = [event for event in _placed(events, game) if event["data"]["period"] == name]
    if now < start and not placed and not outcomes:
        return None
    ends = ends_of(events)
    bets = [event["data"] | {"ended": ends.get((event["user_id"], event["data"]["bet_id"]))} for event in placed]
    live = [bet for bet in bets if bet["ended"] is None or bet["ended"]["type"] == "bet_settled"]
    settled = [bet for bet in live if bet["ended"] is not None]
    assets = sorted({bet["asset"] for bet in bets})
    if not outcomes:
        status = "open" if now < end - timedelta(seconds=CLOSE_S) else "closed"
    elif len(settled) < len(live):
        status = "settling"
    else:
        status = "settled" if outcomes[0]["type"] == "result_recorded" else "cancelled"
    outcome = outcomes[0]["data"] if outcomes else {}
    return {
        "game": game,
        "period": name,
        "issue": f"{name[:8]}{CODES[rules]}{_DIVISORS.index(length_s):04d}{of_day.seconds // length_s + 1:04d}",
        "starts_at_us": _us(start),
        "closes_at_us": _us(end) - CLOSE_S * 1_000_000,
        "ends_at_us": _us(end),
        "status": status,
        "result": outcome.get("result"),
        "proof": outcome.get("proof"),
        "open_bets": len(live) - len(settled),
        "settled_bets": len(settled),
        "staked": {asset: sum(bet["stake"] for bet in live if bet["asset"] == asset) for asset in assets},
        "paid_out": {
            asset: sum(bet["ended"]["data"]["payout"] for bet in settled if bet["asset"] == asset) for asset in assets
        },
        "distribution": [
            {
                "selection": selection,
                "asset": asset,
                "bets": len(on_it),
                "staked": sum(bet["stake"] for bet in on_it),
            }
            for selection, asset in sorted({(bet["selection"], bet["asset"]) for bet in live})
            for on_it in [[bet for bet in live if (bet["selection"], bet["asset"]) == (selection, asset)]]
        ],
    }


def _placed(events: Iterable[Event], game: str) -> list[Event]:
    return [event for event in events if event["type"] == "bet_placed" and event["data"]["game"] == game]


def ends_of(events: Iterable[Event]) -> dict[tuple[str, str], Event]:
    """(User, bet) → the settlement or cancellation of the bet."""
    kinds = ("bet_settled", "bet_cancelled")
    return {(event["user_id"], event["data"]["bet_id"]): event for event in events if event["type"] in kinds}


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


# ---- the house

GIVEN: Final = {"house/bonuses": "bonuses", "house/gifts": "bonuses", "house/commissions": "commissions"}
SPANS_US: Final = {"hour": 3_600_000_000, "day": 86_400_000_000}


def house(events: Iterable[Event], asset: str, by: str, game: str | None = None) -> Doc:
    """Of all times; by built-in pay tables only."""
    events = list(events)
    ends = ends_of(events)
    rows: dict[tuple[int, str], Doc] = {}

    def row(time_us: int, of: str) -> Doc:
        names = ("bets", "staked", "paid_out", "fees", "expected", "commissions", "bonuses")
        start = time_us // SPANS_US[by] * SPANS_US[by]
        return rows.setdefault((-start, of), dict.fromkeys(names, Fraction(0)))

    for event in events:
        data = event["data"]
        for account, moved, amount in event["postings"]:
            if account in GIVEN and moved == asset:
                row(event["time_us"], "")[GIVEN[account]] -= amount
        if event["type"] != "bet_placed" or data["asset"] != asset:
            continue
        end = ends.get((event["user_id"], data["bet_id"]))
        if end is not None and end["type"] == "bet_cancelled":
            continue
        of = row(event["time_us"], data["game"])
        of["bets"] += 1
        of["staked"] += data["stake"]
        of["fees"] += data.get("fee") or 0
        of["paid_out"] += 0 if end is None else end["data"]["payout"]
        rules = data["game"].rpartition("_")[0]
        if rules in RESULTS:
            of["expected"] += _average(rules, data["selection"], data["stake"])
    items = [
        {
            "from_us": -start,
            "game": of or None,
            **{name: int(sums[name]) for name in sums if name != "expected"},
            "edge_ppm": _ppm(sums["staked"], sums["paid_out"]),
            "expected_edge_ppm": _ppm(sums["staked"], sums["expected"]) if "_" in of else None,
        }
        for (start, of), sums in sorted(rows.items())
        if any(sums.values()) and game in (None, of)
    ]
    return {"items": items, "warnings": []}


def _ppm(staked: Fraction, paid: Fraction) -> int | None:
    return floor((staked - paid) / staked * 1_000_000) if staked else None


def _average(rules: str, selection: str, stake: int) -> Fraction:
    """What the bet is paid on average, every result being as likely as any other."""
    return Fraction(paid_on_all_results(rules, selection, stake), len(RESULTS[rules]))
