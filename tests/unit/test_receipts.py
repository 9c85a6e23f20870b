"""Receipts: signed at the service, checked without it, by the program and in another language."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from api.cli.audit.verify import verify
from api.identity.keys import RECEIPT, KeyRing, Keys
from api.identity.private import PrivateTexts
from api.identity.receipts import NotReadable, PublicKeys, read_keys, read_receipt, receipt_fault
from deploy.local.install import find
from unit.api_in_memory import InMemoryApi
from unit.given import open_wallet
from unit.identity import MASTERS, key_store

NODE_PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "verify-receipt.mjs"
Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    """A receipt, and the keys of its service."""
    return asyncio.run(_given(tmp_path_factory.mktemp("receipts")))


async def _given(folder: Path) -> tuple[dict[str, Any], bytes]:
    async with key_store(folder) as store:
        ring = KeyRing(store, MASTERS, lambda: 1_795_438_800_000_000)
        await ring.reload()
        keys = Keys(ring, PrivateTexts(store, MASTERS))
        async with InMemoryApi(folder, 1, keys=keys) as api:
            await api.world.given(open_wallet(metadata={"name": "é 🎲"}))
            found = await api.get("/v1/events/0:1/receipt")
            assert found.status == 200
            assert (await api.get("/v1/events/0:2/receipt")).json()["code"] == "event_not_found"
            await ring.rotate(RECEIPT)
            await ring.reload()
            jwks = await api.get("/.well-known/jwks.json")
            record = await api.get("/v1/events/0:1")
            receipt: dict[str, Any] = found.json()
            assert receipt["record"].encode() == record.body
            return receipt, jwks.body


def _with_record(receipt: dict[str, Any], **members: Any) -> dict[str, Any]:
    record = json.dumps({**json.loads(receipt["record"]), **members})
    return {**receipt, "record": record, "head": sha256(record.encode()).hexdigest()}


FORGED: dict[str, Change] = {
    "another record": lambda receipt: {**receipt, "record": receipt["record"].replace("u1", "u2")},
    "another record with its hash": lambda receipt: _with_record(receipt, user_id="u2"),
    "another seq": lambda receipt: {**receipt, "seq": 2},
    "a record of another seq": lambda receipt: _with_record(receipt, seq=2),
    "another time": lambda receipt: {**receipt, "signed_at_us": receipt["signed_at_us"] + 1},
    "another signature": lambda receipt: {**receipt, "signature": "A" * 86},
    "no signature": lambda receipt: {**receipt, "signature": ""},
    "another key": lambda receipt: {**receipt, "kid": "x" * 43},
}


def fault(receipt: dict[str, Any], keys: PublicKeys) -> str | None:
    return receipt_fault(read_receipt(json.dumps(receipt).encode()), keys)


def test_a_receipt_is_as_the_contract_says(given: tuple[dict[str, Any], bytes]) -> None:
    receipt, jwks = given
    assert list(receipt) == ["record", "head", "partition", "seq", "signed_at_us", "kid", "signature"]
    assert receipt["head"] == sha256(receipt["record"].encode()).hexdigest()
    assert fault(receipt, read_keys(jwks)) is None


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_receipt_is_a_fault(given: tuple[dict[str, Any], bytes], name: str) -> None:
    receipt, jwks = given
    assert fault(FORGED[name](receipt), read_keys(jwks)) is not None


def test_what_is_no_receipt_or_no_key_set_cannot_be_read() -> None:
    for octets in (b"{}", b"[]", b"\xff", b"", b'{"record":7}'):
        with pytest.raises(NotReadable, match="not a receipt"):
            read_receipt(octets)
    for octets in (b"{}", b"[]", b"\xff", b'{"keys":[{"kid":"k","kty":"OKP","crv":"Ed25519","x":"short"}]}'):
        with pytest.raises(NotReadable, match="not a JWK Set"):
            read_keys(octets)
    assert "k" not in read_keys(b'{"keys":[{"kid":"k","kty":"EC","crv":"P-256","x":"AA"}]}')


def test_the_program_checks_a_receipt_offline(given: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    receipt, jwks = given
    file, keys = tmp_path / "receipt.json", tmp_path / "jwks.json"
    keys.write_bytes(jwks)

    def run(content: Any, *more: str) -> tuple[int, str]:
        file.write_text(json.dumps(content))
        done = CliRunner().invoke(verify, ["--receipt", str(file), "--keys", str(keys), *more])
        return done.exit_code, done.output

    status, output = run(receipt)
    assert (status, output.count("\n")) == (0, 1)
    assert "partition 0, seq 1" in output
    assert receipt["kid"] in output
    for change in FORGED.values():
        status, output = run(change(receipt))
        assert status == 1, output
        assert output.startswith("FAULT partition 0, seq ")
    assert run({"not": "a receipt"})[0] == 2
    assert run(receipt, "--url", "http://127.0.0.1:1")[0] == 2
    assert CliRunner().invoke(verify, ["--receipt", str(file)]).exit_code == 2


@pytest.mark.system
def test_forty_lines_in_another_language_check_a_receipt(given: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    node = find("node")
    if node is None:
        message = "node is not installed: `python3 -m deploy.local install` installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    receipt, jwks = given
    program = shutil.copy(NODE_PROGRAM, tmp_path)
    assert NODE_PROGRAM.read_text().count("\n") <= 40
    keys = tmp_path / "jwks.json"
    keys.write_bytes(jwks)

    def run(content: Any) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "receipt.json"
        file.write_text(json.dumps(content))
        command = [str(node), program, str(file), str(keys)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = run(receipt)
    assert (done.returncode, done.stdout) == (0, "well: partition 0, seq 1\n"), done
    for name, change in FORGED.items():
        done = run(change(receipt))
        assert done.returncode == 1, (name, done)
