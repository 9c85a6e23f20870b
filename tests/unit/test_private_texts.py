"""Private texts: encrypted under a key of their user, bound to their command and writer, gone with the key."""

import asyncio
import logging
from base64 import b64decode, b64encode
from pathlib import Path

import pytest

from api.identity.private import Encrypted, PlainTexts, PrivateTexts
from unit.identity import MASTERS, key_store

TEXTS = {"iban": "MARKER-DE02120300000000202051"}


async def one(private: PrivateTexts, encrypted: Encrypted) -> dict[str, str] | None:
    (texts,) = await private.decrypt([encrypted])
    return texts


async def test_texts_open_for_their_user_and_command_and_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "api")
    async with key_store(tmp_path) as store:
        private = PrivateTexts(store, MASTERS)
        (text, other) = await private.encrypt([PlainTexts("u1", "c1", TEXTS), PlainTexts("u2", "c1", {})], "games")
        encrypted = Encrypted("u1", "c1", text)
        assert encrypted.writer == "games"
        assert await one(private, encrypted) == TEXTS
        assert await one(private, Encrypted("u2", "c1", other)) == {}
        octets = b64decode(text)
        renamed = b64encode(octets.replace(b"\x05games", b"\x05gamez")).decode()
        for moved in (
            encrypted._replace(command_id="c2"),
            Encrypted("u2", "c1", text),
            encrypted._replace(text=renamed),
            encrypted._replace(text=b64encode(octets[:-1] + bytes([octets[-1] ^ 1])).decode()),
            encrypted._replace(text=b64encode(b"\x02" + octets[1:]).decode()),
            encrypted._replace(text="AQ=="),
            encrypted._replace(text="no base64"),
        ):
            assert await one(private, moved) is None
    assert "MARKER" not in caplog.text
    assert b"MARKER" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: ASYNC240
    assert "command c1 of u1 do not open" in caplog.text
    # A key of another user says nothing about the text, so it looks like a destroyed one.
    assert len([record for record in caplog.records if record.name.startswith("api")]) == 6


async def test_the_same_texts_never_look_the_same(tmp_path: Path) -> None:
    async with key_store(tmp_path) as store:
        private = PrivateTexts(store, MASTERS)
        texts = await private.encrypt([PlainTexts("u1", "c1", TEXTS)] * 20, "games")
        assert len(set(texts)) == 20


async def test_a_destroyed_key_opens_nothing_and_the_next_texts_have_a_new_one(tmp_path: Path) -> None:
    async with key_store(tmp_path) as store:
        here, there = PrivateTexts(store, MASTERS), PrivateTexts(store, MASTERS)
        (before,) = await here.encrypt([PlainTexts("u1", "c1", TEXTS)], "games")
        assert await there.destroy("u1")
        assert not await there.destroy("u1")
        assert await one(here, Encrypted("u1", "c1", before)) is None
        (after,) = await here.encrypt([PlainTexts("u1", "c2", {"k": "after"})], "games")
        assert await there.decrypt([Encrypted("u1", "c1", before), Encrypted("u1", "c2", after)]) == [
            None,
            {"k": "after"},
        ]


async def test_processes_that_make_a_users_key_at_once_have_one(tmp_path: Path) -> None:
    async with key_store(tmp_path) as one_store, key_store(tmp_path) as other_store:
        many = [PrivateTexts(store, MASTERS) for store in (one_store, other_store) for _ in range(4)]
        encrypted = await asyncio.gather(
            *(private.encrypt([PlainTexts("u1", "c1", TEXTS)], "games") for private in many)
        )
        opened = await many[0].decrypt([Encrypted("u1", "c1", text) for (text,) in encrypted])
        assert opened == [TEXTS] * 8


async def test_a_batch_reads_and_makes_all_keys_at_once(tmp_path: Path) -> None:
    async with key_store(tmp_path) as store:
        calls: list[str] = []

        private = PrivateTexts(store, MASTERS)
        for name in ("user_keys", "add_user_keys"):
            method = getattr(store, name)

            async def counted(argument: object, name: str = name, method: object = method) -> object:
                calls.append(name)
                return await method(argument)  # type: ignore[operator]

            setattr(store, name, counted)
        batch = [PlainTexts(f"u{n % 400}", f"c{n}", {"n": str(n)}) for n in range(1_000)]
        texts = await private.encrypt(batch, "games")
        assert calls == ["user_keys", "add_user_keys", "user_keys"]
        opened = await private.decrypt(
            [Encrypted(one.user_id, one.command_id, text) for one, text in zip(batch, texts, strict=True)]
        )
        assert opened == [one.texts for one in batch]
        assert len(calls) == 4
