"""``docs/errors.md``: every code of a problem, why it occurs and what to do.

The codes are those of `api/http/problems.py`, the texts those of `errors.toml`: a code that only one of them has ends
the generation.
"""

import json
import tomllib
from pathlib import Path
from typing import Final

from api.http.problems import KINDS, NOT_THERE
from api.openapi.problems import problem_codes, problem_examples
from api.routes.table import ROUTES

_HEAD: Final = """\
# Error catalogue

Written by `make schemas` from the code's table of problems. Words: [glossary](glossary.md).

A request that fails gets a *problem*: a JSON object by RFC 9457, with the media type `application/problem+json`.

| member | meaning |
| --- | --- |
| `code` | what went wrong: one of the codes on this page. Decide by it |
| `status` | the HTTP status, the same as that of the response |
| `title` | the code in words, always the same |
| `detail` | one sentence for a person, with the names and numbers of this case |
| `type` | `urn:stakelog:problem:` and the code |
| others | what helps a program in this case; named below |

The member names and codes are stable. Texts are not: never parse `detail`.

**Three rules cover most cases.**

1. A 4xx on a command means that nothing was written, and that its `command_id` is still free. Correct the command, or
   tell the player.
2. A 503 means: wait for the seconds in `Retry-After`, then send *the same command with the same `command_id`*. That
   is safe even if the first one took effect.
3. Never invent a new `command_id` for a retry. It would be a second payment.
"""

_NAMED_ROUTES: Final = 8
"""Chosen: a longer list says less than the API reference."""

_ADVICE: Final = Path(__file__).with_name("errors.toml")


def errors_page() -> str:
    """The page, as Markdown."""
    advice_of = tomllib.loads(_ADVICE.read_text(encoding="utf-8"))
    assert advice_of.keys() == KINDS.keys(), f"in one table only: {sorted(advice_of.keys() ^ KINDS.keys())}"
    parts, shown, examples = [_HEAD], 0, problem_examples()
    for code, kind in sorted(KINDS.items(), key=lambda item: item[1].status):  # within a status: the table's order
        if kind.status != shown:
            shown = kind.status
            parts.append(f"\n## Status {shown}\n")
        why, do = (" ".join(advice_of[code][name].split()) for name in ("why", "do"))
        also = " As the response to a read its status is 404." if code in NOT_THERE and kind.status != 404 else ""
        example = (examples.get(f"problem.{code}") or examples[f"missing.{code}"])["value"]
        wait = f" `Retry-After`: {kind.retry_after_s} s or more." if kind.retry_after_s else ""
        parts.append(
            f"\n### {code}\n\n*{kind.title}.*{also}{wait}\n\n**Why:** {why}\n\n**What to do:** {do}\n\n"
            f"**Where:** {_where(code)}.\n\n```json\n{json.dumps(example, ensure_ascii=False, indent=1)}\n```\n"
        )
    return "".join(parts)


def _where(code: str) -> str:
    """Which requests may get the code."""
    routes = [
        f"`{route.method} {route.path}`" for route in ROUTES if route.operation and code in problem_codes(route)
    ]
    if "`POST /v1/commands`" in routes and len(routes) > 1:
        routes.append("each element of `POST /v1/commands/batch`")
    if not routes:
        return "each element of `POST /v1/commands/batch`"
    if len(routes) > _NAMED_ROUTES:
        return f"{len(routes)} requests; the [API reference](api.md) lists the codes of each"
    return ", ".join(dict.fromkeys(routes))
