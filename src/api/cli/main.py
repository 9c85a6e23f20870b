"""The program ``stakelog``. Exit status: 0 success, 1 a check failed or the service had to stop, 2 wrong use."""

import logging
import os
import sys
from importlib import import_module
from typing import Final

import click

from api.cli.audit import audit
from api.cli.backup import backup
from api.cli.clients import clients
from api.cli.importing.command import import_
from api.cli.keys import keys
from api.cli.migrate import migrate
from api.cli.project import project
from api.cli.upgrade import upgrade
from api.cli.what_if import what_if

_PROGRAMS: Final = {"bench": "bench.command", "demo": "demo.command"}
"""Separate programs: command -> its module. They are clients of the service, so it imports neither."""


class _Stakelog(click.Group):
    """Imports `demo` and `bench` only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_PROGRAMS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _PROGRAMS:
            return super().get_command(ctx, cmd_name)
        command = getattr(import_module(_PROGRAMS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Stakelog, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stakelog")
def stakelog() -> None:
    """An event-sourced wallet ledger for betting backends."""
    # Our own messages report its failures. By itself it logs thousands of lines while a broker is unreachable.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


@stakelog.command()
def serve() -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C.

    Settings come from the environment; the default is in brackets.

    \b
    STAKELOG_DATA         folder of the embedded files [./data]
    STAKELOG_CREATE       if-missing creates a ledger in a folder without one;
                          never refuses such a folder [if-missing]
    STAKELOG_HOST         address to listen on [127.0.0.1]
    STAKELOG_PORT         port to listen on [8080]
    STAKELOG_AUTH         on, or off: no login, on loopback only [on]
    STAKELOG_IDENTITY     where clients and tokens are: sqlite, postgresql://…
                          or mysql://…; with Kafka the default is the read
                          model's database [sqlite]
    STAKELOG_ADMIN_SECRET  first secret of the client admin; unset: made at
                          the first start and printed once
    STAKELOG_MASTER_KEY_FILE  file with the key that wraps all others: 32 random
                          bytes in base64; nodes that share a log need it
                          [master.key in the folder, made at the first start]
    STAKELOG_MASTER_KEY   the same key as a setting [none]
    STAKELOG_RATE_CLIENT  requests and commands of a client a second; 0
                          means no limit, here and in the next three [50000]
    STAKELOG_RATE_USER    of a client for one user, and of a player [200]
    STAKELOG_RATE_ADDRESS  requests without a valid token a second, from one
                          address [200]
    STAKELOG_RATE_LOGIN_PER_MIN  failed logins of one client from one address,
                          a minute [10]
    STAKELOG_FEEDS        live feeds at once, at most 3000 [3000]
    STAKELOG_FEEDS_PER_USER  the same of one user [20]
    STAKELOG_TRUSTED_PROXIES  networks, such as 10.0.0.0/8, whose
                          X-Forwarded-For names the address of a client [none]
    STAKELOG_ADJUST_MAX   what an operator may adjust or grant alone by one
                          command, in minor units, as INR:1000000,GOLD:0; or
                          none [10,000 of each unit]
    STAKELOG_ISSUER       address of the service for its clients, which its
                          tokens name, as https://ledger.example [none]
    STAKELOG_PARTITIONS   1 to 1024, fixed when the log is created [16]
    STAKELOG_ASSETS       CODE:EXPONENT,… with exponents from 0 to 18
                          [INR:2,USDT:6,GOLD:0]
    STAKELOG_LOG          sqlite, or kafka://host:port,… shared by any
                          number of nodes [sqlite]
    STAKELOG_INTERNAL     host:port for metrics and for the other nodes; many
                          nodes need it [none]
    STAKELOG_CLUSTER_SECRET  shared by all nodes; needed where STAKELOG_INTERNAL
                          is beyond loopback [none]
    STAKELOG_TLS_CERT     file of the certificate with its chain, PEM; read
                          again on SIGHUP [none: no TLS]
    STAKELOG_TLS_KEY      file of its key, PEM, without a password [none]
    STAKELOG_CORS         origins of web pages that may read responses, with
                          commas between, or * [none]
    STAKELOG_ADVERTISE    where the other nodes reach this one
                          [http:// and STAKELOG_INTERNAL]
    STAKELOG_READ_MODEL   sqlite, postgresql://… or mysql://… [sqlite]
    STAKELOG_READ_MODEL_REPLICA  a copy of that database, for reads [none]
    STAKELOG_CACHE        memory (no cache besides the read model), or
                          redis://… [memory]
    STAKELOG_SEAL_S       seconds between two seals of the log [3600]
    STAKELOG_SEALS        a folder, or an http(s) URL, that gets a copy of
                          each seal [none]
    STAKELOG_SUSPECT_READS  mark or refuse reads of rows that differ from the
                          log [mark]
    STAKELOG_LOG_FORMAT   of the log on stderr: text, or json [text]
    STAKELOG_ACCESS_LOG   on: a line in it for each request [off]
    STAKELOG_SLOW_REQUEST_MS  requests that take longer get a line; 0: none [1000]
    STAKELOG_SLOW_QUERY_MS  the same for reads of the read model [200]
    STAKELOG_TRACES         where traces go, such as http://collector:4318 [nowhere]
    STAKELOG_TRACE_RATIO    the share of requests that is traced, 0 to 1 [0.01]
    STAKELOG_WEBHOOK_NETWORKS  private networks that webhooks may go to, such as 10.20.0.0/16 [none]
    STAKELOG_RULES        the built-in games, or a JSON file of games, pay tables and money flows
    """
    from api.cli.logs import set_up_logs
    from api.cli.serve import CannotServe, NoLedger
    from api.cli.serve import serve as serve_until_stopped
    from api.cli.tls import TlsUnusable, refuse_unusable
    from api.composition.settings import SettingsError, read_settings, refuse_unsafe
    from api.identity.master_key import MasterKeyUnusable
    from ledger.errors import (
        FolderMigrated,
        LogMisconfigured,
        LogOutdated,
        RulesMissing,
        WrongAssets,
        WrongPartitions,
    )

    set_up_logs(os.environ)
    try:
        settings = read_settings(os.environ)
        refuse_unsafe(settings)
        if settings.tls is not None:
            refuse_unusable(settings.tls)
    except (SettingsError, TlsUnusable) as error:
        click.echo(f"stakelog serve: {error}", err=True)
        sys.exit(2)
    try:
        serve_until_stopped(settings)
    except CannotServe as error:
        click.echo(f"stakelog serve: {error}", err=True)
        wrong_settings = (
            LogMisconfigured
            | LogOutdated
            | WrongPartitions
            | WrongAssets
            | RulesMissing
            | FolderMigrated
            | MasterKeyUnusable
        )
        sys.exit(2 if isinstance(error, NoLedger) or isinstance(error.__cause__, wrong_settings) else 1)


stakelog.add_command(project)
stakelog.add_command(audit)
stakelog.add_command(backup)
stakelog.add_command(clients)
stakelog.add_command(keys)
stakelog.add_command(migrate)
stakelog.add_command(upgrade)
stakelog.add_command(what_if)
stakelog.add_command(import_)


def main() -> None:
    if not __debug__:
        click.echo("stakelog checks itself with assertions; do not run it with python -O", err=True)
        sys.exit(2)
    stakelog()
