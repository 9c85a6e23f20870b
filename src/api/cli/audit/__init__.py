"""``stakelog audit``: an auditor's commands, on a folder (also in use) or over HTTP. They never change the log.

``verify``, ``replay``, ``export`` and ``reconcile`` are the commands. ``sources`` opens the records of a folder or of
a service. ``http_records`` and ``http_reads`` read from a service, ``folder_reads`` from the tables of a folder.
"""

import click

from api.cli.audit.export import export
from api.cli.audit.reconcile import reconcile
from api.cli.audit.replay import replay
from api.cli.audit.verify import verify


@click.group()
def audit() -> None:
    """Examine the log: verify it, read it, export it, and compare the reads with it."""


audit.add_command(verify)
audit.add_command(replay)
audit.add_command(export)
audit.add_command(reconcile)
