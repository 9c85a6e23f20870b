"""``stakelog audit verify``: verifies the log."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from api.cli.audit.sources import (
    CannotAudit,
    CheckFailed,
    data_folder,
    failures_reported,
    opened,
    rules_of,
    rules_option,
    source_options,
)
from api.cli.progress import progress

if TYPE_CHECKING:
    from api.identity.receipts import PublicKeys
    from ledger.core.record import Head
    from ledger.operations.audit import RecordsFrom, Verified
    from ledger.operations.seals import SealCounts
    from ledger.operations.verifying.anchors import Anchor

_SOURCES_SHOWN: Final = 3
_SHA256: Final = re.compile("[0-9a-f]{64}")


@click.command()
@source_options
@click.option(
    "--heads",
    "heads_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Heads published earlier (the JSON of GET /v1/partitions) that the log must contain.",
)
@click.option(
    "--seals",
    "copies",
    type=click.Path(path_type=Path, exists=True),
    help="Seals kept outside of the data folder (the file, or its folder) that the log must contain.",
)
@click.option(
    "--keys",
    "jwks",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public keys that you trust (the JSON of GET /.well-known/jwks.json), for seals and for --receipt.",
)
@rules_option
@click.option(
    "--receipt",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Check this receipt by --keys, and nothing else: it needs no log.",
)
def verify(
    data: Path | None,
    url: str | None,
    login: Path | None,
    heads_file: Path | None,
    copies: Path | None,
    jwks: Path | None,
    rules_files: tuple[Path, ...],
    receipt: Path | None,
) -> None:
    """Verify the log: chain, postings, balances from zero, requests, unique ids, follow-ups, the payouts of games,
    the amounts of money flows, seals and heads.

    Works on a folder, in use or not, and over HTTP. Nothing is changed.
    """
    from ledger.operations.audit import verify as verify_log
    from ledger.operations.seals import SealCounts
    from ledger.operations.verifying.money_rules import WrongRules
    from ledger.operations.verifying.pay_tables import WrongTable

    if receipt is not None:
        if jwks is None or data or url or login or heads_file or copies or rules_files:
            raise click.UsageError("--receipt takes --keys, and no other option")
        with failures_reported("stakelog audit verify"):
            click.echo(_verified_receipt(receipt, jwks))
        return
    with failures_reported("stakelog audit verify"), opened(data, url, login) as records:
        published = _published(heads_file) if heads_file else {}
        keys = _keys(jwks, data, records)
        counts = SealCounts()
        # Read the seals before the log's ends: a seal made during the read may name records after these ends.
        anchors = [*_own_seals(data, records, keys, counts), *(_seals_in(copies, keys, counts) if copies else ())]
        with progress("verifying", "events") as tell:
            tables, money = rules_of(records, rules_files)
            try:
                verified = verify_log(
                    records, published=published, anchors=anchors, tables=tables, money=money, progress=tell
                )
            except (WrongTable, WrongRules) as error:
                raise CheckFailed(str(error)) from error
    transit = ", ".join(f"{amount} {asset}" for asset, amount in verified.in_transit.items())
    click.echo(
        f"well: {verified.events} events in {len(verified.heads)} partitions; chain, postings, balances, requests, "
        f"ids, follow-ups and payouts agree "
        f"({verified.open_transfers} transfers under way{': ' + transit if transit else ''})"
        + (f"; {len(published)} published heads are in it" if published else "")
    )
    click.echo(_anchored(verified))
    if verified.missing_tables:
        click.echo(_unchecked("which legs won, for bets", "pay tables", verified.missing_tables))
    if verified.missing_rules:
        what = "the amounts of bonuses, commissions and wagering"
        click.echo(_unchecked(what, "rules of money flows", verified.missing_rules))
    if counts.seals:
        click.echo(_signatures(counts, jwks, keys))


def _unchecked(what: str, kind: str, digests: tuple[str, ...]) -> str:
    """What was not examined, because rules are not known here."""
    return (
        f"WARNING: not checked {what} under {len(digests)} unknown {kind} ({', '.join(digests[:_SOURCES_SHOWN])}): "
        "give the rules files that have them by --rules; games whose rules this auditor lacks stay unchecked"
    )


def _verified_receipt(receipt: Path, jwks: Path) -> str:
    """Raises CannotAudit, Fault."""
    from api.identity.receipts import NotReadable, read_keys, read_receipt, receipt_fault
    from ledger.operations.audit import Fault
    from ledger.operations.seals import utc

    try:
        keys, found = read_keys(jwks.read_bytes()), read_receipt(receipt.read_bytes())
    except (NotReadable, OSError) as error:
        raise CannotAudit(f"{receipt} cannot be checked by {jwks}: {error}") from error
    fault = receipt_fault(found, keys)
    if fault is not None:
        raise Fault(found.partition, found.seq, fault)
    return (
        f"well: the key {found.kid} signed at {utc(found.signed_at_us)} that the ledger has this record at partition "
        f"{found.partition}, seq {found.seq}"
    )


def _keys(jwks: Path | None, data: Path | None, records: "RecordsFrom") -> "PublicKeys | None":
    """The given keys, or those of the service or of the folder; None: the folder has none. Raises CannotAudit."""
    from api.cli.audit.http_records import HttpRecords
    from api.identity.receipt_keys import keys_in
    from api.identity.receipts import NotReadable, read_keys

    try:
        if jwks is not None:
            return read_keys(jwks.read_bytes())
        if isinstance(records, HttpRecords):
            found = records.keys()
            return None if found is None else read_keys(found, refuse_unknown=False)
        return keys_in(data_folder(data))
    except (NotReadable, OSError) as error:
        raise CannotAudit(f"the keys cannot be read: {error}") from error


def _signatures(counts: "SealCounts", jwks: Path | None, keys: "PublicKeys | None") -> str:
    """What the signatures of the seals show."""
    where = "the keys beside the log, which its writer could replace: name keys that you kept with --keys"
    found = f"seals: {counts.seals}, {counts.signed} of them signed"
    if keys is not None:
        found += f", {counts.checked} by {where if jwks is None else f'the keys in {jwks}'}"
    if counts.checked < counts.signed:
        found += (
            f". WARNING: {counts.signed - counts.checked} signatures were not checked: name their keys with --keys"
        )
    if counts.signed < counts.seals:
        found += (
            f". WARNING: {counts.seals - counts.signed} are not signed: trust them only if they were kept where the "
            "log's writer cannot write"
        )
    return found


def _own_seals(
    data: Path | None, records: "RecordsFrom", keys: "PublicKeys | None", counts: "SealCounts"
) -> "list[Anchor]":
    """The seals of the data folder, or of the service."""
    from api.cli.audit.http_records import HttpRecords
    from ledger.operations.seals import SEALS, anchors_of

    if isinstance(records, HttpRecords):
        return anchors_of(records.seals(), keys, counts)
    file = data_folder(data) / SEALS
    return _seals_in(file, keys, counts) if file.exists() else []


def _seals_in(path: Path, keys: "PublicKeys | None", counts: "SealCounts") -> "list[Anchor]":
    """Raises CannotAudit, Fault."""
    from ledger.operations.seals import SEALS, anchors_of, read_lines

    file = path / SEALS if path.is_dir() else path
    try:
        return anchors_of(read_lines(file), keys, counts)
    except OSError as error:
        raise CannotAudit(f"the seals in {file} cannot be read: {error.strerror}") from error


def _anchored(verified: "Verified") -> str:
    """What the end of the log is compared with, and how many records follow that."""
    if not verified.anchored:
        return (
            "anchored: to nothing. WARNING: a log without its last records, or with its last records rewritten, "
            "looks the same; name seals kept outside with --seals, or heads published earlier with --heads"
        )
    trusted = {anchor.partition: anchor.seq for anchor in verified.anchored}
    behind = sum(head.seq - trusted.get(partition, 0) for partition, head in enumerate(verified.heads))
    counts = Counter(anchor.source for anchor in verified.anchored)
    sources = ", ".join(f"{source} ({count} partitions)" for source, count in counts.most_common(_SOURCES_SHOWN))
    more = len(counts) - _SOURCES_SHOWN
    return (
        f"anchored: {sources}{f' and {more} others' if more > 0 else ''}; {behind} records after them are not "
        "anchored"
    )


def _published(file: Path) -> "dict[int, Head]":
    from ledger.core.record import Head

    try:
        items = json.loads(file.read_bytes())["items"]
        heads = {int(item["partition"]): Head(int(item["seq"]), str(item["head"])) for item in items}
        if not all(_SHA256.fullmatch(head.sha256) and head.seq >= 0 for head in heads.values()):
            raise ValueError("a head is 64 hexadecimal digits")
    except (ValueError, KeyError, TypeError) as error:
        raise CannotAudit(
            f'{file} is not the JSON of GET /v1/partitions: {{"items": [{{"partition", "seq", "head", …}}]}}'
        ) from error
    return {partition: head for partition, head in heads.items() if head.seq}
