"""``stakelog audit``: the auditor's desk, on a folder, in use or not, or over HTTP. Nothing of the log is changed."""

import click

from api.cli.audit.export import export
from api.cli.audit.reconcile import reconcile
from api.cli.audit.replay import replay
from api.cli.audit.verify import verify


@click.group()
def audit() -> None:
    """Examine the log: prove it, read it, take it with you, compare the reads with it."""


audit.add_command(verify)
audit.add_command(replay)
audit.add_command(export)
audit.add_command(reconcile)
