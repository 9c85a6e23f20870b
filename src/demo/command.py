"""`stakelog demo`: play a day, check it, report the result.

Exit status 0: every check passed. 1: a check failed (named), or the service stopped responding. 2: wrong use, or no
service to play against. Only `click` is imported here, so that `stakelog --help` stays quick.
"""

from __future__ import annotations

from pathlib import Path

import click

USERS, COMMANDS = 600, 10_000
"""About half a minute on two cores that client and service share; the games alone take 23 seconds."""

QUICK_USERS, QUICK_COMMANDS, QUICK_PERIODS = 150, 2_500, 8


@click.command(name="demo")
@click.option("--users", type=click.IntRange(20, 99_999), help=f"How many users play.  [default: {USERS:,}]")
@click.option("--commands", type=click.IntRange(100), help=f"About how many commands.  [default: {COMMANDS:,}]")
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="The same seed gives the same commands; the order of the responses may differ.",
)
@click.option("--url", help="Play against this service instead of starting one.")
@click.option(
    "--login",
    type=click.Path(dir_okay=False, path_type=Path),
    help='With --url: the file with the {"client_id":…,"client_secret":…} of an admin, who adds the other clients.',
)
@click.option(
    "--rules",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The rules file that the service plays by.  [default: deploy/rules/betting-house.json; the demo's own "
    "service pays commissions for each bet, and one at --url without money flows is played without]",
)
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Keep the service's data in this folder."
)
@click.option("--keep", is_flag=True, help="Keep the data folder, and say where it is.")
@click.option("--quick", is_flag=True, help="A small day of a few seconds.")
def demo(
    users: int | None,
    commands: int | None,
    seed: int,
    url: str | None,
    login: Path | None,
    rules: Path | None,
    data: Path | None,
    *,
    keep: bool,
    quick: bool,
) -> None:
    """Play a day of betting over HTTP, then verify the log and compare every wallet.

    Several game servers open wallets, place and settle bets, move money, claim bonuses and gifts, refer new players
    and make mistakes, such as copies, lost responses and wrong ids. Their own books must agree with the service's
    wallets to the last minor unit.

    Exit status 0: every check passed; 1: a check failed and is named; 2: wrong use, or no service at --url.
    """
    if url is not None and (data is not None or keep):
        raise click.UsageError(
            "--url plays against a running service; --data and --keep are for a service that the demo starts."
        )
    if url is not None and not url.startswith(("http://", "https://")):
        raise click.UsageError("--url begins with http:// or https://.")
    if login is not None and url is None:
        raise click.UsageError("--login is for --url: the demo's own service has no login.")
    from demo.games import Plan
    from demo.run import Options, main

    options = Options(
        users=users or (QUICK_USERS if quick else USERS),
        commands=commands or (QUICK_COMMANDS if quick else COMMANDS),
        periods=QUICK_PERIODS if quick else 48,
        games=Plan(players=30, periods=2, bets=40) if quick else Plan(players=60, periods=4, bets=240),
        seed=seed,
        rules=rules,
        url=url,
        login=login,
        data=data,
        keep=keep,
    )
    raise SystemExit(main(options))
