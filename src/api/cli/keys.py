"""``stakelog keys``: lists and rotates the keys that sign, and replaces the master key."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from api.composition.settings import Settings
    from api.identity.key_store import KeyStore, StoredSigningKey
    from api.identity.keys import KeyRing

T = TypeVar("T")


@click.group()
def keys() -> None:
    """The keys that sign tokens, receipts and seals, and the master key that wraps all keys.

    Settings come from the environment, as those of `serve`.
    """


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(as_json: bool) -> None:
    """List the signing keys, and when each begins to sign."""
    from api.identity.keys import key_rows

    async def listed(_: "Settings", store: "KeyStore") -> list[dict[str, str | int]]:
        return key_rows(await store.signing_keys())

    rows = _run(listed)
    if as_json:
        click.echo(json.dumps({"keys": rows}))
        return
    for row in rows:
        click.echo(f"{row['purpose']:8} {row['kid']}  signs from {row['signs_from']}, wrapped by {row['master_key']}")


@keys.command()
@click.argument("purpose", type=click.Choice(["token", "receipt"]))
@click.option("--retire-now", is_flag=True, help="The key of tokens is stolen: delete it now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate(purpose: str, retire_now: bool, as_json: bool) -> None:
    """Make a new key for tokens, or for receipts and seals.

    A running service publishes it within a minute, and it signs after ten; nodes need no restart. Keys of tokens are
    also rotated by themselves, every 30 days.

    With --retire-now the new key of tokens signs at once, and the others are deleted. Every node follows within a
    minute; from then on it refuses all older access tokens. Clients and players get new ones by their refresh tokens.
    """
    if retire_now and purpose != "token":
        raise click.UsageError("--retire-now is for the key of tokens: a key of receipts stays published permanently")
    from api.identity.keys import PUBLISHED_S, RELOAD_S, key_rows

    async def rotated(settings: "Settings", store: "KeyStore") -> "StoredSigningKey | None":
        ring = await _ring(settings, store)
        return await (ring.replace_token_key() if retire_now else ring.rotate(purpose))

    key = _run(rotated)
    if as_json:
        click.echo(json.dumps({"key": None if key is None else key_rows([key])[0]}))
    elif key is None:
        click.echo("another process has just made one" + (": run it again" if retire_now else ""))
    elif retire_now:
        click.echo(f"{key.kid} signs now; the others are deleted, which every node knows in {RELOAD_S} s")
    else:
        click.echo(f"{key.kid} signs in {PUBLISHED_S // 60} min")


@keys.command("rotate-master")
def rotate_master() -> None:
    """Wrap all keys by another master key.

    Where the master key is in the data folder: makes a new one; the service must be stopped. Where a setting names
    it: put the new key before the old one, on a line of its own or followed by a comma, restart every node, run this,
    then remove the old key from the setting. An interrupted run is continued by the next one.

    A key that is damaged in the store is named, and left as it is; the exit status is 1, and the old master key is
    still needed.
    """
    from api.composition.keys import replace_master_key

    (count, damaged), master_id = _run(replace_master_key)
    if not damaged:
        click.echo(f"{count} keys were wrapped again; all are wrapped by the master key {master_id}")
        return
    click.echo(f"{count} keys were wrapped again; all but the damaged ones are wrapped by the master key {master_id}")
    for name in damaged:
        click.echo(f"stakelog keys: the key {name} in the identity store is damaged", err=True)
    click.echo(
        "stakelog keys: the old master key is still needed for the damaged keys. Restore them from a backup and run "
        "this again; or give them up: `keys rotate token --retire-now` deletes keys of tokens, and "
        "`DELETE /v1/wallets/{user_id}/private` deletes the key of a user",
        err=True,
    )
    sys.exit(1)


async def _ring(settings: "Settings", store: "KeyStore") -> "KeyRing":
    from api.composition.clock import system_clock
    from api.composition.keys import master_keys_of
    from api.identity.keys import KeyRing
    from api.identity.master_key import MasterKeyUnusable

    masters = await master_keys_of(settings, store)
    if masters is None:
        raise MasterKeyUnusable("the nodes have no master key: set STAKELOG_MASTER_KEY_FILE, as for `serve`")
    ring = KeyRing(store, masters, system_clock)
    await ring.reload()
    return ring


def _run(work: "Callable[[Settings, KeyStore], Awaitable[T]]") -> T:
    """The result of ``work``; a failure is one line, and ends the program."""
    import os

    from api.composition.access import identity_database
    from api.composition.settings import SettingsError, read_settings
    from api.identity.database_keys import DatabaseKeyStore
    from api.identity.master_key import MasterKeyUnusable
    from ledger.errors import FolderInUse, LedgerError

    async def with_store(settings: "Settings") -> T:
        database = identity_database(settings)
        try:
            return await work(settings, DatabaseKeyStore(database))
        finally:
            await database.close()

    try:
        return asyncio.run(with_store(read_settings(os.environ)))
    except (SettingsError, LedgerError) as error:
        click.echo(f"stakelog keys: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError | MasterKeyUnusable | FolderInUse) else 1)
