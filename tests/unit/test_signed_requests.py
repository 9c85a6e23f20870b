"""Signed requests: what the client signed passes once; anything else never."""

import base64
import re
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from api.limits.memory import NoncesInMemory
from api.limits.ports import SharedUnavailable
from api.limits.signatures import KEEP_S, WINDOW_S, BadSignature, SignedRequests, read_public_key

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = "MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
BODY = b'{"type":"open_wallet","command_id":"c-1","user_id":"u1"}'
CREATED_S = 1_795_438_800
TARGET = (b"/v1/commands", b"dry_run=true")

BY_ANOTHER_LIBRARY = {
    b"content-digest": b"sha-256=:xXXp14SMPGlUyVMC170r1l1FY1Cd2GJz4E5BJpO0BUQ=:",
    b"signature-input": b'pyhms=("@method" "@path" "@query" "content-digest")'
    b';created=1795438800;keyid="game-server-1";alg="ed25519";nonce="n-1"',
    b"signature": b"pyhms=:m4cE9WTZlxNe/zs8iAnDzs816Zc+QeQGo3HQk4celIlMzBjNTkocejxNkRdDbxUKR4CYBDoHVrkIbCQlBdEgCQ==:",
}
"""Signed with ``PRIVATE`` by http-message-signatures 3.0 for https://ledger.example/v1/commands?dry_run=true."""
WITHOUT_QUERY = BY_ANOTHER_LIBRARY | {
    b"signature": b"pyhms=:2wyHqm8rJGPC4o8BLV+YnOWW/BSzVGFT6mNmm5XqEhqsoq5Lwmcv2qx3iuIFqg1qMQud+RK1MYNd2Dg4fo2CCw==:"
}

COMPONENTS = '"@method" "@path" "@query" "content-digest"'
PARAMETERS = f';created={CREATED_S};nonce="n-2";keyid="game-server-1"'


def signed(
    parameters: str = PARAMETERS,
    *,
    components: str = COMPONENTS,
    label: str = "sig",
    key: Ed25519PrivateKey = PRIVATE,
    digest: str | None = None,
) -> dict[bytes, bytes]:
    """Headers, signed as a client does it; each argument is something that a client may do wrong."""
    if digest is None:
        digest = f"sha-256=:{base64.b64encode(sha256(BODY).digest()).decode()}:"
    values = {"@method": "POST", "@path": "/v1/commands", "@query": "?dry_run=true", "content-digest": digest}
    lines = [f"{name}: {values[name.strip(chr(34))]}" for name in components.split(" ") if name]
    base = "\n".join([*lines, f'"@signature-params": ({components}){parameters}'])
    signature = base64.b64encode(key.sign(base.encode())).decode()
    return {
        b"content-digest": digest.encode(),
        b"signature-input": f"{label}=({components}){parameters}".encode(),
        b"signature": f"{label}=:{signature}:".encode(),
    }


class Clock:
    now_s = float(CREATED_S)

    def __call__(self) -> float:
        return self.now_s


class Checking:
    def __init__(self) -> None:
        self.clock_s = Clock()
        self.requests = SignedRequests(NoncesInMemory(clock_s=self.clock_s), time_s=self.clock_s)

    async def __call__(
        self,
        headers: dict[bytes, bytes],
        *,
        client_id: str = "game-server-1",
        method: str = "POST",
        target: tuple[bytes, bytes] = TARGET,
        body: bytes = BODY,
    ) -> None:
        await self.requests.check(client_id, PUBLIC, method, target, headers, body)


@pytest.fixture
def check() -> Checking:
    return Checking()


async def test_what_another_library_signed_passes(check: Checking) -> None:
    await check(BY_ANOTHER_LIBRARY)


async def test_a_request_without_query_is_signed_with_a_question_mark(check: Checking) -> None:
    await check(WITHOUT_QUERY, target=(b"/v1/commands", b""))


async def test_components_and_parameters_may_be_in_any_order(check: Checking) -> None:
    await check(signed(components='"content-digest" "@query" "@method" "@path"'))
    await check(signed(f';keyid="game-server-1";nonce="n;3=";created={CREATED_S}'))


async def test_a_replayed_request_is_refused_for_as_long_as_its_signature_is_accepted(check: Checking) -> None:
    check.clock_s.now_s = CREATED_S - WINDOW_S
    headers = signed()
    await check(headers)
    for seconds in (0, 1, WINDOW_S, 2 * WINDOW_S):
        check.clock_s.now_s = CREATED_S - WINDOW_S + seconds
        with pytest.raises(BadSignature, match="used before"):
            await check(headers)
    check.clock_s.now_s += 1
    with pytest.raises(BadSignature, match="clock"):
        await check(headers)


@pytest.mark.parametrize("seconds", [-WINDOW_S - 1, WINDOW_S + 1, -1e9, 1e9])
async def test_an_old_or_future_time_is_refused(check: Checking, seconds: float) -> None:
    check.clock_s.now_s += seconds
    with pytest.raises(BadSignature, match="clock"):
        await check(signed())


async def test_a_request_that_was_altered_is_refused(check: Checking) -> None:
    with pytest.raises(BadSignature, match="Content-Digest is not"):
        await check(signed(), body=BODY.replace(b"u1", b"u2"))
    with pytest.raises(BadSignature, match="method, path and query"):
        await check(signed(), target=(b"/v1/commands", b""))
    with pytest.raises(BadSignature, match="method, path and query"):
        await check(signed(), target=(b"/v1/commands/batch", b"dry_run=true"))
    with pytest.raises(BadSignature, match="method, path and query"):
        await check(signed(), method="DELETE")
    changed = signed() | {b"content-digest": b"sha-256=:" + base64.b64encode(sha256(b"[]").digest()) + b":"}
    with pytest.raises(BadSignature, match="method, path and query"):
        await check(changed, body=b"[]")
    await check(signed())


async def test_a_wrong_signature_stores_no_nonce(check: Checking) -> None:
    with pytest.raises(BadSignature, match="method, path and query"):
        await check(signed(key=Ed25519PrivateKey.generate()))
    await check(signed())


async def test_the_key_of_another_client_is_refused(check: Checking) -> None:
    with pytest.raises(BadSignature, match="keyid"):
        await check(signed(), client_id="game-server-2")


async def test_what_was_signed_before_the_process_that_remembers_the_nonces_started_is_refused(
    check: Checking,
) -> None:
    for since_s, passes in ((CREATED_S - 0.5, True), (CREATED_S + 0.5, False)):
        check.requests = SignedRequests(NoncesInMemory(), time_s=check.clock_s, since_s=since_s)
        if passes:
            await check(signed())
        else:
            with pytest.raises(BadSignature, match="before the start"):
                await check(signed())


@pytest.mark.parametrize("missing", [b"signature", b"signature-input", b"content-digest"])
async def test_a_missing_header_is_refused(check: Checking, missing: bytes) -> None:
    with pytest.raises(BadSignature, match="must sign"):
        await check({name: value for name, value in signed().items() if name != missing})


@pytest.mark.parametrize(
    "headers",
    [
        signed(components='"@method" "@path" "@query"'),
        signed(components='"@method" "@path" "content-digest"'),
        signed(components='"@method" "@method" "@path" "@query"'),
        signed(components=COMPONENTS + " "),
        signed(f';created={CREATED_S};keyid="game-server-1"'),
        signed(';nonce="n-2";keyid="game-server-1"'),
        signed(f';created={CREATED_S};nonce="n-2"'),
        signed(f';created="{CREATED_S}";nonce="n-2";keyid="game-server-1"'),
        signed(PARAMETERS + ';nonce="n-3"'),
        signed(PARAMETERS + ';alg="hmac-sha256"'),
        signed(PARAMETERS + ';tag="x"'),
        signed(PARAMETERS.replace("n-2", "")),
        signed(PARAMETERS.replace("n-2", "n" * 129)),
        signed(digest="sha-512=:AAAA:"),
        signed() | {b"signature": b"sig=:AAAA:"},
        signed() | {b"signature": signed(label="other")[b"signature"]},
    ],
)
async def test_another_form_of_the_headers_is_refused(check: Checking, headers: dict[bytes, bytes]) -> None:
    with pytest.raises(BadSignature, match="must"):
        await check(headers)


async def test_more_nonces_than_fit_are_refused_not_forgotten() -> None:
    clock_s = Clock()
    nonces = NoncesInMemory(clock_s=clock_s, most=10)
    assert all([await nonces.is_new(str(number)) for number in range(10)])
    with pytest.raises(SharedUnavailable):
        await nonces.is_new("10")
    assert not await nonces.is_new("3")
    clock_s.now_s += 2 * KEEP_S + 1
    assert await nonces.is_new("10")


async def test_a_nonce_is_remembered_for_its_whole_time_whenever_it_came() -> None:
    clock_s = Clock()
    nonces = NoncesInMemory(clock_s=clock_s)
    came_s = [KEEP_S * tenth / 10 for tenth in range(40)]
    for at_s in came_s:
        clock_s.now_s = CREATED_S + at_s
        assert await nonces.is_new(str(at_s))
        for earlier_s in came_s:
            if at_s - KEEP_S <= earlier_s <= at_s:
                assert not await nonces.is_new(str(earlier_s)), (earlier_s, at_s)
    clock_s.now_s += 10 * KEEP_S
    assert await nonces.is_new(str(came_s[-1])), "and it is forgotten in the end"


def test_a_public_key_is_the_line_that_openssl_writes() -> None:
    key = PRIVATE.public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert pem.splitlines()[1] == PUBLIC
    assert read_public_key(PUBLIC).public_bytes_raw() == key.public_bytes_raw()
    for wrong in ("", PUBLIC[:-1], PUBLIC + "\n", pem, "A" * 60):
        with pytest.raises(ValueError, match="not an Ed25519"):
            read_public_key(wrong)


async def test_the_code_in_the_documentation_signs_what_passes(check: Checking) -> None:
    page = (Path(__file__).parents[2] / "docs" / "signed-requests.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    url = "https://ledger.example/v1/commands?dry_run=true"
    headers = names["signature_headers"](PRIVATE, "game-server-1", "POST", url, BODY)
    check.clock_s.now_s = time.time()
    await check({name.lower().encode(): value.encode() for name, value in headers.items()})
