"""Seals: their chain, their file, and that they are made and copied despite failures."""

import asyncio
import errno
import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence, Sized
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.identity.keys import jwk_of
from api.identity.receipts import PublicKeys
from api.sealing.outside import CopyFailed, FolderOutside, outside_of
from api.sealing.sealer import Sealer
from ledger.core.record import EMPTY_SHA256, Head
from ledger.errors import LedgerError, LogUnavailable
from ledger.operations.audit import Fault
from ledger.operations.seals import (
    SEALS,
    SealCounts,
    SealFile,
    Sign,
    anchors_of,
    checked,
    read_lines,
    seal_line,
    utc,
)
from unit.api_in_memory import InMemoryApi
from unit.given import NOON

HOUR_US = 3_600_000_000


def heads(seq: int) -> list[Head]:
    return [Head(seq, sha256(str(seq).encode()).hexdigest()), Head(0, EMPTY_SHA256)]


def chain(count: int) -> list[bytes]:
    lines: list[bytes] = []
    for number in range(count):
        prev = sha256(lines[-1]).hexdigest() if lines else EMPTY_SHA256
        lines.append(seal_line(NOON + number * HOUR_US, heads(number // 2), prev))
    return lines


def opened(folder: Path) -> SealFile:
    file = SealFile(folder / SEALS)
    file.open()
    return file


def filled(folder: Path, count: int) -> SealFile:
    file = opened(folder)
    for line in chain(count):
        file.append(line)
    return file


# --- the chain ------------------------------------------------------------------------------------------------------


def test_a_seal_is_as_the_contract_says() -> None:
    assert chain(2)[1] == (
        b'{"sealed_at_us":%d,"partitions":[{"partition":0,"seq":0,"head":"%s"},{"partition":1,"seq":0,"head":"%s"}],'
        b'"prev":"%s","kid":null,"signature":null}'
        % (
            NOON + HOUR_US,
            sha256(b"0").hexdigest().encode(),
            EMPTY_SHA256.encode(),
            sha256(chain(1)[0]).hexdigest().encode(),
        )
    )


def test_a_chain_of_seals_gives_anchors_and_heads_that_repeat_give_one() -> None:
    anchors = anchors_of(chain(6))
    assert [(anchor.partition, anchor.seq) for anchor in anchors if anchor.seq] == [(0, 1), (0, 2)]
    assert anchors[-1].source == f"the seal of {utc(NOON + 4 * HOUR_US)}"


@pytest.mark.parametrize(
    ("change", "number", "reason"),
    [
        (lambda lines: lines[1].replace(b'"seq":0', b'"seq":9', 1), 3, "its prev is not the hash"),
        (lambda lines: lines[1].replace(b'"kid":null', b'"kid": null'), 2, "canonical"),
        (lambda lines: lines[1][:-1], 2, "cannot be read"),
        (lambda lines: lines[1].replace(b"}", b',"more":1}', 1), 2, "cannot be read"),
        (lambda lines: seal_line(NOON - 1, heads(0), sha256(lines[0]).hexdigest()), 2, "its time is before"),
    ],
)
def test_a_changed_seal_is_named(change: Callable[[list[bytes]], bytes], number: int, reason: str) -> None:
    lines = chain(4)
    lines[1] = change(lines)
    with pytest.raises(Fault, match=reason) as caught:
        list(checked(lines))
    assert caught.value.seq == number
    assert str(caught.value).startswith(f"seal {number}: ")


def test_a_seq_that_decreases_is_a_fault() -> None:
    first = seal_line(NOON, heads(5), EMPTY_SHA256)
    with pytest.raises(Fault, match="is lower"):
        list(checked([first, seal_line(NOON, heads(4), sha256(first).hexdigest())]))


# --- signatures -----------------------------------------------------------------------------------------------------


class Signers:
    """Two keys, and the public ones of both or of one."""

    def __init__(self) -> None:
        self.private = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2)]
        self.kids = [jwk_of(key.public_key())["kid"] for key in self.private]

    def sign(self, number: int) -> Sign:
        def signed(text: bytes) -> tuple[str, str]:
            octets = self.private[number].sign(text)
            return self.kids[number], urlsafe_b64encode(octets).rstrip(b"=").decode()

        return signed

    def public(self, *numbers: int, refuse_unknown: bool = True) -> PublicKeys:
        return PublicKeys(
            {self.kids[n]: self.private[n].public_key() for n in numbers}, refuse_unknown=refuse_unknown
        )


def signed_chain(signers: Signers) -> list[bytes]:
    """Unsigned, by the first key, by the second."""
    lines: list[bytes] = []
    for number, sign in enumerate((None, signers.sign(0), signers.sign(1))):
        prev = sha256(lines[-1]).hexdigest() if lines else EMPTY_SHA256
        lines.append(seal_line(NOON + number * HOUR_US, heads(number), prev, sign))
    return lines


def test_a_signature_is_over_the_seal_without_kid_and_signature() -> None:
    signers = Signers()
    first, line, _ = signed_chain(signers)
    unsigned = seal_line(NOON + HOUR_US, heads(1), sha256(first).hexdigest())
    seal = json.loads(line)
    signers.private[0].public_key().verify(urlsafe_b64decode(seal["signature"] + "=="), b"stakelog-seal:" + unsigned)
    assert {**seal, "kid": None, "signature": None} == json.loads(unsigned)


def test_signed_and_unsigned_seals_are_read_and_counted() -> None:
    signers = Signers()
    lines = signed_chain(signers)
    for keys, checked_ones in (
        (None, 0),
        (signers.public(0, 1), 2),
        (signers.public(0, refuse_unknown=False), 1),
    ):
        counts = SealCounts()
        assert anchors_of(lines, keys, counts) == anchors_of(lines)
        assert counts == SealCounts(3, 2, checked_ones)
    with pytest.raises(Fault, match="not among the given keys") as caught:
        list(checked(lines, signers.public(0)))
    assert caught.value.seq == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda seal: {**seal, "sealed_at_us": seal["sealed_at_us"] + 1},
        lambda seal: {**seal, "signature": "A" * 86},
        lambda seal: {**seal, "signature": None},
        lambda seal: {**seal, "kid": None},
        lambda seal: {**seal, "partitions": [{**one, "seq": one["seq"] + 1} for one in seal["partitions"]]},
    ],
)
def test_a_rewritten_seal_at_the_end_of_the_chain_shows(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    signers = Signers()
    lines = signed_chain(signers)
    lines[2] = json.dumps(change(json.loads(lines[2])), separators=(",", ":")).encode()
    with pytest.raises(Fault) as caught:
        list(checked(lines, signers.public(0, 1)))
    assert caught.value.seq == 3


@pytest.mark.usefixtures("soon")
async def test_a_seal_waits_for_the_keys(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    signers, failures = Signers(), 2

    def sign(text: bytes) -> tuple[str, str]:
        nonlocal failures
        if failures:
            failures -= 1
            raise LogUnavailable("no keys yet")
        return signers.sign(0)(text)

    sealer = Sealer(SealFile(tmp_path / SEALS), Log().heads, Clock(), 3_600, sign=sign)
    sealer.start()
    await until(lambda: len(sealer.file) == 1)
    await sealer.stop()
    assert caplog.text.count("no keys yet") == 2
    (seal,) = checked(read_lines(tmp_path / SEALS), signers.public(0))
    assert seal.kid == signers.kids[0]


# --- the file -------------------------------------------------------------------------------------------------------


def test_appended_seals_are_read_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    file = opened(tmp_path)
    assert len(file) == 5
    assert [file.line(number) for number in range(1, 6)] == chain(5)
    assert file.last_sha256 == sha256(chain(5)[4]).hexdigest()
    assert file.last_sealed_at_us == NOON + 4 * HOUR_US
    assert list(read_lines(tmp_path / SEALS)) == chain(5)
    assert file.number_of(sha256(chain(5)[2]).hexdigest()) == 3
    assert file.number_of(EMPTY_SHA256) == 0
    assert file.number_of("f" * 64) is None


def test_half_a_line_that_a_crash_left_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, 2)
    whole = (tmp_path / SEALS).read_bytes()
    for length in (1, 50, len(chain(3)[2]) - 1):
        (tmp_path / SEALS).write_bytes(whole + chain(3)[2][:length])
        assert list(read_lines(tmp_path / SEALS)) == chain(2), "an auditor skips it"
        file = opened(tmp_path)
        assert (tmp_path / SEALS).read_bytes() == whole
        assert len(file) == 2
    assert "half a seal" in caplog.text
    file.append(chain(3)[2])
    assert list(read_lines(tmp_path / SEALS)) == chain(3)


def test_a_whole_seal_without_its_line_feed_is_completed(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    whole = (tmp_path / SEALS).read_bytes()
    (tmp_path / SEALS).write_bytes(whole[:-1])
    assert len(opened(tmp_path)) == 3
    assert (tmp_path / SEALS).read_bytes() == whole


def test_an_append_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = filled(tmp_path, 2)
    write = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > 100:
            return write(descriptor, data[:100], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        file.append(chain(3)[2])
    monkeypatch.undo()
    assert list(read_lines(tmp_path / SEALS)) == chain(2)
    file.append(chain(3)[2])
    assert list(read_lines(tmp_path / SEALS)) == chain(3)


def test_pages_are_newest_first(tmp_path: Path) -> None:
    file = filled(tmp_path, 5)
    assert [number for number, _ in file.newest(None, 2)] == [5, 4]
    assert [number for number, _ in file.newest(4, 2)] == [3, 2]
    assert file.newest(2, 9) == [(1, chain(1)[0])]
    assert file.newest(1, 9) == []


# --- made on time ---------------------------------------------------------------------------------------------------


class Log:
    """Returns fixed heads, and can be unavailable."""

    def __init__(self) -> None:
        self.seq = 1
        self.fails = 0

    async def heads(self) -> Sequence[Head]:
        if self.fails:
            self.fails -= 1
            raise LogUnavailable("the broker is away")
        return heads(self.seq)


class Clock:
    now_us = NOON

    def __call__(self) -> int:
        return self.now_us


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.005)


def has(lines: Sized, count: int) -> bool:
    return len(lines) == count


def is_posted(file: Path, line: bytes) -> bool:
    return file.exists() and file.read_text() == sha256(line).hexdigest() + "\n"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sealer reads its clock, and retries, without a long pause."""
    monkeypatch.setattr("api.sealing.sealer._LOOK_S", 0.01)
    monkeypatch.setattr("api.sealing.sealer._PAUSE_S_MAX", 0.01)


@pytest.mark.usefixtures("soon")
async def test_a_seal_is_made_at_the_start_and_whenever_the_last_one_is_old(tmp_path: Path) -> None:
    clock, log = Clock(), Log()
    sealer = Sealer(SealFile(tmp_path / SEALS), log.heads, clock, 3_600)
    sealer.start()
    await until(lambda: len(sealer.file) == 1)
    clock.now_us += HOUR_US - 1
    await asyncio.sleep(0.05)
    assert len(sealer.file) == 1
    clock.now_us += 1
    await until(lambda: len(sealer.file) == 2)
    await sealer.stop()
    assert [seal.sealed_at_us for seal in checked(read_lines(tmp_path / SEALS))] == [NOON, NOON + HOUR_US]

    again = Sealer(SealFile(tmp_path / SEALS), log.heads, clock, 3_600)
    again.start()
    await until(lambda: again.file.is_open)
    await asyncio.sleep(0.05)
    assert len(again.file) == 2, "the last one is not old"
    clock.now_us += HOUR_US
    await until(lambda: len(again.file) == 3)
    await again.stop()


@pytest.mark.usefixtures("soon")
async def test_a_failure_delays_a_seal_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Log()
    log.fails = 3
    folder = tmp_path / "not there yet"
    sealer = Sealer(SealFile(folder / SEALS), log.heads, Clock(), 3_600)
    sealer.start()
    await until(lambda: "cannot be opened" in caplog.text)
    folder.mkdir()
    await until(lambda: len(sealer.file) == 1)
    await sealer.stop()
    assert caplog.text.count("the broker is away") == 3


@pytest.mark.usefixtures("soon")
async def test_a_clock_that_was_set_back_gives_no_seal_an_earlier_time(tmp_path: Path) -> None:
    clock = Clock()
    sealer = Sealer(SealFile(tmp_path / SEALS), Log().heads, clock, 3_600)
    sealer.start()
    await until(lambda: len(sealer.file) == 1)
    clock.now_us -= 10 * HOUR_US
    await sealer.seal_now()
    await sealer.stop()
    assert len(list(checked(read_lines(tmp_path / SEALS)))) == 2


async def test_a_partition_that_seems_shorter_than_it_was_is_not_sealed_also_after_a_restart(tmp_path: Path) -> None:
    log = Log()
    log.seq = 5
    sealer = Sealer(SealFile(tmp_path / SEALS), log.heads, Clock(), 3_600)
    sealer.file.open()
    await sealer.seal_now()
    log.seq = 4
    for again in (sealer, Sealer(SealFile(tmp_path / SEALS), log.heads, Clock(), 3_600)):
        again.file.open()
        with pytest.raises(LedgerError, match="partition 0 seems to end at seq 4, and was sealed at seq 5"):
            await again.seal_now()
        log.seq = 5
        await again.seal_now()
        log.seq = 4
    assert len(list(checked(read_lines(tmp_path / SEALS)))) == 3


# --- copied outside -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("soon")
async def test_a_folder_outside_gets_every_seal_also_after_it_was_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside"
    clock = Clock()

    def sealer() -> Sealer:
        return Sealer(SealFile(tmp_path / SEALS), Log().heads, clock, 3_600, outside_of(str(outside), tmp_path))

    first = sealer()
    first.start()
    for number in (1, 2, 3):
        await until(partial(has, first.file, number))
        clock.now_us += HOUR_US
    await until(lambda: "cannot be read" in caplog.text)
    outside.mkdir()
    await until(lambda: (outside / SEALS).exists() and (outside / SEALS).read_bytes().count(b"\n") >= 3)
    await first.stop()
    again = sealer()
    clock.now_us += HOUR_US
    again.start()
    await until(lambda: (outside / SEALS).read_bytes().count(b"\n") >= 4)
    await again.stop()
    assert len(list(checked(read_lines(outside / SEALS)))) >= 4
    assert (tmp_path / SEALS).read_bytes().startswith((outside / SEALS).read_bytes())


@pytest.mark.usefixtures("soon")
async def test_seals_of_another_ledger_outside_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    stranger = filled(outside, 3).path.read_bytes()
    sealer = Sealer(SealFile(tmp_path / SEALS), Log().heads, Clock(), 3_600, FolderOutside(outside / SEALS))
    sealer.start()
    await until(lambda: "another ledger's" in caplog.text)
    await sealer.stop()
    assert (outside / SEALS).read_bytes() == stranger


class Receiver:
    """Keeps what is posted to it, unless it refuses."""

    def __init__(self) -> None:
        self.refuses = 0
        self.got: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
                )
                body = await reader.readexactly(length)
                status = b"503 Later" if self.refuses else b"201 Created"
                if self.refuses:
                    self.refuses -= 1
                else:
                    self.got.append(body)
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n")
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@pytest.mark.usefixtures("soon")
async def test_a_url_outside_gets_every_seal_by_post_and_continues_after_a_restart(tmp_path: Path) -> None:
    receiver, clock = Receiver(), Clock()
    receiver.refuses = 2
    server = await asyncio.start_server(receiver, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/seals?of=this"
    for count in (1, 2):
        sealer = Sealer(SealFile(tmp_path / SEALS), Log().heads, clock, 3_600, outside_of(url, tmp_path))
        sealer.start()
        await until(partial(has, receiver.got, count))
        await until(partial(is_posted, tmp_path / "seals.posted", receiver.got[-1]))
        await sealer.stop()
        clock.now_us += HOUR_US
    server.close()
    assert receiver.got == list(read_lines(tmp_path / SEALS))


async def test_a_url_that_cannot_be_reached_is_a_copy_that_failed(tmp_path: Path) -> None:
    outside = outside_of("http://127.0.0.1:1/seals", tmp_path)
    with pytest.raises(CopyFailed):
        await outside.copy(chain(1)[0])
    await outside.close()


# --- over HTTP ------------------------------------------------------------------------------------------------------


async def test_seals_are_read_page_by_page_the_newest_first_and_byte_for_byte(tmp_path: Path) -> None:
    async with InMemoryApi(tmp_path) as api_client:
        empty = await api_client.get("/v1/seals")
        assert (empty.status, empty.body) == (200, b'{"items":[],"next_cursor":null}')
        for line in chain(5):
            api_client.seals.append(line)
        got: list[bytes] = []
        cursor: Any = None
        sizes = []
        while True:
            page = await api_client.get("/v1/seals?limit=2" + (f"&cursor={cursor}" if cursor else ""))
            assert page.status == 200
            items = page.json()["items"]
            sizes.append(len(items))
            got += [json.dumps(item, separators=(",", ":")).encode() for item in items]
            assert all(line in page.body for line in got[-len(items) :])
            cursor = page.json()["next_cursor"]
            if cursor is None:
                break
            assert len(cursor) <= 512
        assert sizes == [2, 2, 1]
        assert got == chain(5)[::-1]


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "cursor=x", "cursor=", "page=1"])
async def test_a_malformed_query_for_seals_is_refused(tmp_path: Path, query: str) -> None:
    async with InMemoryApi(tmp_path) as api_client:
        answer = await api_client.get(f"/v1/seals?{query}")
        assert answer.status == 400
        assert answer.json()["code"] == "malformed_request"
