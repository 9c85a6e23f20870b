"""``stakelog clients``: the clients that may log in, in the data folder or in the database of the settings.

It works on the store itself, so no token is needed: who can read the folder, or has the database's password, decides
who may log in. A running service learns of each change within 5 s. Exit status: 0 done; 1 the store failed, or has no
such client; 2 wrong use or settings.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

if TYPE_CHECKING:
    from api.identity.clients import Clients
    from api.identity.ports import Client

_BEGIN: Final = "-----BEGIN PUBLIC KEY-----"

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
@click.option("--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data.")
@click.pass_context
def clients(context: click.Context, data: Path | None) -> None:
    """List, add, rotate and disable the clients that may log in.

    Works on the data folder, or on the database of STAKELOG_IDENTITY, with the settings of the service; a running
    service learns of a change within 5 s. Secrets are shown once.
    """
    context.obj = data


@clients.command("list")
@_json
@click.pass_obj
def list_all(data: Path | None, as_json: bool) -> None:
    """List all clients, disabled ones too."""
    _run(data, lambda found: _list(found, as_json), create=False)


@clients.command()
@click.argument("client_id")
@click.option("--role", required=True, help="game_server, operator, auditor or admin.")
@click.option("--game", "games", multiple=True, help="Narrow it to this game; may be given several times.")
@click.option("--type", "types", multiple=True, help="Narrow it to this type of command; several times too.")
@click.option(
    "--public-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="It must sign what it posts: its Ed25519 key in PEM, from `openssl pkey -pubout`.",
)
@_json
@click.pass_obj
def add(
    data: Path | None,
    client_id: str,
    role: str,
    games: tuple[str, ...],
    types: tuple[str, ...],
    public_key: Path | None,
    as_json: bool,
) -> None:
    """Add a client and print its secret, which is not shown again."""
    from api.identity.clients import ClientRefused

    async def work(found: "Clients") -> None:
        try:
            key = None if public_key is None else _line_of_pem(public_key)
            client, secret = await found.add(client_id, role, games or None, types or None, public_key=key)
        except ClientRefused as refused:
            _fail(refused.detail, 2)
        _show(
            {**_named(client), "client_secret": secret}, as_json, f"added {client_id}, {role}; its secret: {secret}"
        )

    _run(data, work, create=True)


@clients.command()
@click.argument("client_id")
@click.option(
    "--grace-s", type=click.IntRange(0, 30 * 86_400), default=0, show_default=True, help="Seconds for the old secret."
)
@_json
@click.pass_obj
def rotate(data: Path | None, client_id: str, grace_s: int, as_json: bool) -> None:
    """Give a client a new secret and print it; the old one stays valid for the grace."""

    async def work(found: "Clients") -> None:
        secret = await found.rotate(client_id, grace_s)
        if secret is None:
            _fail(f"there is no client {client_id}, or it is disabled", 1)
        _show({"client_id": client_id, "client_secret": secret}, as_json, f"the new secret of {client_id}: {secret}")

    _run(data, work, create=False)


@clients.command()
@click.argument("client_id")
@_json
@click.pass_obj
def disable(data: Path | None, client_id: str, as_json: bool) -> None:
    """Disable a client and revoke its tokens, and those of players that it asked for."""

    async def work(found: "Clients") -> None:
        if not await found.disable(client_id):
            _fail(f"there is no client {client_id}", 1)
        _show({"client_id": client_id, "disabled": True}, as_json, f"{client_id} is disabled")

    _run(data, work, create=False)


def _run(data: Path | None, work: "Callable[[Clients], Awaitable[None]]", *, create: bool) -> None:
    """``create``: make the file of an embedded service that has none yet."""
    from api.composition.container import identity_database, system_clock
    from api.composition.settings import SQLITE, SettingsError, read_settings
    from api.identity.clients import Clients
    from api.identity.database import FILE
    from api.identity.hashing import SecretHasher
    from api.identity.ports import IdentityUnavailable
    from api.identity.store import DatabaseIdentityStore

    try:
        settings = read_settings(os.environ | ({} if data is None else {"STAKELOG_DATA": str(data)}))
    except SettingsError as error:
        _fail(str(error), 2)
    path = settings.data / FILE
    if settings.identity == SQLITE and not (path.exists() or (create and settings.data.is_dir())):
        _fail(f"there are no clients in {settings.data}: start the service with STAKELOG_AUTH=on, or name --data", 2)

    async def opened() -> None:
        store = DatabaseIdentityStore(identity_database(settings))
        try:
            with closing(SecretHasher()) as hasher:
                await work(Clients(store, system_clock, hasher))
        finally:
            await store.close()

    try:
        asyncio.run(opened())
    except (IdentityUnavailable, OSError) as error:
        _fail(str(error), 1)


async def _list(found: "Clients", as_json: bool) -> None:
    listed = [_described(client) for client in await found.listed()]
    if as_json:
        _show({"items": listed}, as_json, "")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("client_id", "role", "games", "types", "created", "secret since", "disabled")
    for one in listed:
        table.add_row(
            one["client_id"],
            one["role"],
            *(" ".join(one[name]) if one[name] else "all" for name in ("games", "types")),
            *(_day(one[name]) for name in ("created_at_us", "secret_since_us", "disabled_at_us")),
        )
    Console(soft_wrap=True).print(table)


def _line_of_pem(path: Path) -> str:
    """The line between BEGIN and END; what else a file has is refused where the client is added."""
    text = path.read_bytes().decode("ascii", "replace")
    return "".join(text.removeprefix(_BEGIN).partition("-----END")[0].split())


def _named(client: "Client") -> dict[str, Any]:
    return {name: getattr(client, name) for name in ("client_id", "role", "games", "types", "public_key")}


def _described(client: "Client") -> dict[str, Any]:
    """The client without its hashes, as ``GET /v1/clients`` has it."""
    times = ("created_at_us", "secret_since_us", "old_secret_until_us", "disabled_at_us")
    return {**_named(client), **{name: getattr(client, name) for name in times}}


def _day(time_us: int | None) -> str:
    return "" if time_us is None else datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M")


def _show(value: dict[str, Any], as_json: bool, text: str) -> None:
    import msgspec

    click.echo(msgspec.json.encode(value).decode() if as_json else text)


def _fail(reason: str, status: int) -> NoReturn:
    click.echo(f"stakelog clients: {reason}", err=True)
    sys.exit(status)
