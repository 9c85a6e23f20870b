"""The master key: where it comes from, what is refused, and that it opens only what it wrapped."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

import pytest

from api.identity.key_store import AnyStoredKey, StoredUserKey
from api.identity.keys import KeyRing, refuse_other_master_key, rewrap_all
from api.identity.master_key import (
    MasterKeys,
    MasterKeyUnusable,
    Wrapped,
    make_master_key,
    parse_master_keys,
    read_master_keys,
    write_master_keys,
)
from unit.identity import MASTER, MASTERS, OTHER_MASTER, key_store

KEY = b64encode(MASTER).decode()


def test_a_wrapped_key_opens_under_its_name_only() -> None:
    wrapped = MASTERS.wrap(b"a key", "user:u1:k")
    assert b"a key" not in wrapped.ciphertext
    assert MASTERS.unwrap(wrapped, "user:u1:k") == b"a key"
    with pytest.raises(MasterKeyUnusable, match="user:u2:k in the identity store is damaged"):
        MASTERS.unwrap(wrapped, "user:u2:k")
    with pytest.raises(MasterKeyUnusable, match="is damaged"):
        MASTERS.unwrap(Wrapped(wrapped.ciphertext[:-1] + b"!", wrapped.master_id), "user:u1:k")


def test_another_master_key_is_one_clear_line_without_the_key() -> None:
    other = MasterKeys([OTHER_MASTER])
    with pytest.raises(MasterKeyUnusable) as refused:
        other.unwrap(MASTERS.wrap(b"a key", "n"), "n")
    message = str(refused.value)
    assert "\n" not in message
    assert MASTERS.id in message
    assert other.id in message
    assert "STAKELOG_MASTER_KEY" in message
    assert b64encode(OTHER_MASTER).decode() not in message


def test_the_first_key_wraps_and_the_others_unwrap() -> None:
    both = parse_master_keys(f"{b64encode(OTHER_MASTER).decode()}\n{KEY}\n", "here")
    assert both.unwrap(MASTERS.wrap(b"old", "n"), "n") == b"old"
    assert both.wrap(b"new", "n").master_id == MasterKeys([OTHER_MASTER]).id
    assert parse_master_keys(f"{b64encode(OTHER_MASTER).decode()},{KEY}", "here").ids == both.ids


@pytest.mark.parametrize("text", ["", "MARKER-not-base64", b64encode(b"M" * 31).decode(), KEY + "\nMARKER"])
def test_a_text_that_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(MasterKeyUnusable, match="STAKELOG_MASTER_KEY") as refused:
        parse_master_keys(text, "STAKELOG_MASTER_KEY")
    assert not text or text.split("\n")[-1] not in str(refused.value)


def test_a_made_key_is_readable_to_its_owner_only_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = make_master_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert make_master_key(path).ids == made.ids
    assert list(tmp_path.iterdir()) == [tmp_path / "master.key"]


async def test_processes_that_make_the_key_at_once_have_one(tmp_path: Path) -> None:
    made = await asyncio.gather(*(asyncio.to_thread(make_master_key, tmp_path / "master.key") for _ in range(8)))
    assert len({masters.id for masters in made}) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "master.key"]  # noqa: ASYNC240


@pytest.mark.parametrize(("mode", "group_may_read", "fine"), [
    (0o600, False, True), (0o400, False, True), (0o640, False, False), (0o604, False, False),
    (0o440, True, True), (0o460, True, False), (0o444, True, False),
])  # fmt: skip
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int, group_may_read: bool, fine: bool) -> None:
    path = tmp_path / "master.key"
    write_master_keys(path, [KEY], replace=False)
    path.chmod(mode)
    if fine:
        assert read_master_keys(path, group_may_read=group_may_read).ids == MASTERS.ids
    else:
        with pytest.raises(MasterKeyUnusable, match=re.escape(f"chmod 600 {path}")):
            read_master_keys(path, group_may_read=group_may_read)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MasterKeyUnusable, match="cannot be read: No such file"):
        read_master_keys(tmp_path / "none")


# --- replacing it --------------------------------------------------------------------------------------------------


async def test_a_rotation_wraps_every_key_again_wherever_it_was_interrupted(tmp_path: Path) -> None:
    new = MasterKeys([OTHER_MASTER, MASTER])
    async with key_store(tmp_path) as store:
        ring = KeyRing(store, MASTERS, lambda: 1)
        await ring.reload()
        names = [f"u{n}" for n in range(7)]
        keys = {name: name.encode() * 16 for name in names}
        await store.add_user_keys(
            [StoredUserKey(name, "k", MASTERS.wrap(key, f"user:{name}:k")) for name, key in keys.items()]
        )

        class Crash(Exception):
            pass

        rewrap, calls = store.rewrap, 0

        async def dies_after_one_key(keys: Sequence[tuple[AnyStoredKey, Wrapped]]) -> None:
            nonlocal calls
            calls += 1
            await rewrap(keys[:1])
            raise Crash

        for left in range(9, 0, -1):
            signing = [key for key in await store.signing_keys() if key.wrapped.master_id != new.id]
            assert len(signing) + len(await store.user_keys_wrapped_by_others(new.id, "")) == left
            store.rewrap = dies_after_one_key  # type: ignore[method-assign]
            with pytest.raises(Crash):
                await rewrap_all(store, new)
            store.rewrap = rewrap  # type: ignore[method-assign]
            stored = await store.user_keys(names)
            assert {name: new.unwrap(key.wrapped, key.name) for name, key in stored.items()} == keys
        assert await rewrap_all(store, new) == (0, [])
        alone = MasterKeys([OTHER_MASTER])
        await refuse_other_master_key(store, alone)
        after = KeyRing(store, alone, lambda: 1)
        await after.reload()
        assert after.jwks() == ring.jwks()
        with pytest.raises(MasterKeyUnusable, match="give the one that wrapped them"):
            await KeyRing(store, MASTERS, lambda: 1).reload()
