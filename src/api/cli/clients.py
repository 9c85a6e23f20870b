"""``stakelog clients``: the clients that may log in, in the data folder or in the database of the settings.

It works on the store itself, so no token is needed: who can read the folder, or has the database's password, decides
who may log in. A running service learns of each change within 5 s, and logs who made it. Exit status: 0 done; 1 the
store failed, has no such client, or refuses to disable the last admin; 2 wrong use or settings.
"""

import asyncio
import getpass
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from api.identity.clients import Clients
    from api.identity.ports import ChangedBy

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
@click.option("--data", type=click.Path(path_type=Path), help="The data folder; default STAKELOG_DATA or ./data.")
@click.pass_context
def clients(context: click.Context, data: Path | None) -> None:
    """List, add, rotate and disable the clients that may log in, and list who did so.

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
@click.option("--game", "games", multiple=True, help="Allow only this game; repeat the option for more.")
@click.option("--type", "types", multiple=True, help="Allow only this type of command; repeat the option for more.")
@click.option("--public-key", help="The key of its signed requests: the line of an Ed25519 key in PEM.")
@_json
@click.pass_obj
def add(
    data: Path | None,
    client_id: str,
    role: str,
    games: tuple[str, ...],
    types: tuple[str, ...],
    public_key: str | None,
    as_json: bool,
) -> None:
    """Add a client and print its secret, which is not shown again."""
    from api.identity.clients import ClientRefused

    async def work(found: "Clients") -> None:
        try:
            client, secret = await found.add(
                client_id, role, games or None, types or None, public_key=public_key, by=_this_user()
            )
        except ClientRefused as refused:
            _fail(refused.detail, 2)
        fields = {name: getattr(client, name) for name in ("client_id", "role", "games", "types", "public_key")}
        _show({**fields, "client_secret": secret}, as_json, f"added {client_id}, {role}; its secret: {secret}")

    _run(data, work, create=True)


@clients.command()
@click.argument("client_id")
@click.option(
    "--grace-s",
    type=click.IntRange(0, 30 * 86_400),
    default=0,
    show_default=True,
    help="How many seconds the old secret stays valid.",
)
@_json
@click.pass_obj
def rotate(data: Path | None, client_id: str, grace_s: int, as_json: bool) -> None:
    """Give a client a new secret and print it; the old one stays valid for the grace.

    Without a grace all tokens of the client and of its players are revoked, within 5 s.
    """

    async def work(found: "Clients") -> None:
        secret = await found.rotate(client_id, grace_s, _this_user())
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

    from api.identity.ports import LastAdmin

    async def work(found: "Clients") -> None:
        try:
            done = await found.disable(client_id, _this_user())
        except LastAdmin as refused:
            _fail(str(refused), 1)
        if not done:
            _fail(f"there is no client {client_id}", 1)
        _show({"client_id": client_id, "disabled": True}, as_json, f"{client_id} is disabled")

    _run(data, work, create=False)


@clients.command("log")
@_json
@click.pass_obj
def log(data: Path | None, as_json: bool) -> None:
    """List who added, rotated or disabled which client and when: over HTTP, or on a machine."""

    async def work(found: "Clients") -> None:
        changes = await found.changes()
        rows = [f"{_day(one.at_us)}  {one.origin:7}  {one.by} {one.what} {one.client_id}" for one in changes]
        _show({"items": [one._asdict() for one in changes]}, as_json, "\n".join(rows))

    _run(data, work, create=False)


def _this_user() -> "ChangedBy":
    """The user of the machine who runs this program; who became root by sudo is named."""
    from api.identity.ports import ChangedBy

    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        user = f"uid {os.getuid()}"
    name = f"{user}@{socket.gethostname()}"
    return ChangedBy(name.encode("ascii", "backslashreplace").decode()[:128], "machine")


def _run(data: Path | None, work: "Callable[[Clients], Awaitable[None]]", *, create: bool) -> None:
    """``create``: make the file of an embedded service that has none yet."""
    from api.composition.access import identity_database
    from api.composition.clock import system_clock
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
                await work(Clients(store, system_clock, hasher, settings.games))
        finally:
            await store.close()

    try:
        asyncio.run(opened())
    except (IdentityUnavailable, OSError) as error:
        _fail(str(error), 1)


async def _list(found: "Clients", as_json: bool) -> None:
    from api.http.identity_bodies import ListedClients
    from api.routes.clients import listed

    items = [listed(client) for client in await found.listed()]
    if as_json:
        _show(ListedClients(items), as_json, "")
        return
    rows: list[tuple[str, ...]] = [
        ("client_id", "role", "games", "types", "public_key", "created", "secret_since", "disabled")
    ]
    for one in items:
        games, types = ("all" if names is None else ",".join(names) for names in (one.games, one.types))
        days = map(_day, (one.created_at_us, one.secret_since_us, one.disabled_at_us))
        rows.append((one.client_id, one.role, games, types, "no" if one.public_key is None else "yes", *days))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())


def _day(time_us: int | None) -> str:
    return "-" if time_us is None else datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%MZ")


def _show(value: Any, as_json: bool, text: str) -> None:
    import msgspec

    click.echo(msgspec.json.encode(value).decode() if as_json else text)


def _fail(reason: str, status: int) -> NoReturn:
    click.echo(f"stakelog clients: {reason}", err=True)
    sys.exit(status)
