"""``verify`` on what a real node writes in random weeks: the log is correct, and any one change names its record."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from random import Random
from typing import Any, Final

import pytest

from api.cli.forms_of_rules import forms_of_money, forms_of_tables
from cases import first
from ledger.core.games.rules import BUILT_IN
from ledger.core.record import EMPTY_SHA256
from ledger.operations.audit import Fault, verify
from ledger.ports import StoredRecord
from properties.reads_scenario import MONEY, Scenario, make_scenario
from properties.scenarios import book_of_money

CLEAN: Final = range(40, 52)
DAMAGED: Final = range(40, 44)
TABLES: Final = forms_of_tables(BUILT_IN.tables)
RULES: Final = forms_of_money(book_of_money(MONEY).money_kept)


class Pages:
    """Records in lists, in pages of a few."""

    def __init__(self, partitions: list[list[bytes]]) -> None:
        self.partitions = partitions

    def ends(self) -> Sequence[int]:
        return [len(records) for records in self.partitions]

    def read(self, partition: int, to_seq: int, from_seq: int = 1) -> Iterator[Sequence[StoredRecord]]:
        records = self.partitions[partition][from_seq - 1 : to_seq]
        for start in range(0, len(records), 7):
            yield [StoredRecord(record) for record in records[start : start + 7]]


@lru_cache
def scenario(seed: int) -> Scenario:
    return make_scenario(seed)


@pytest.mark.parametrize("seed", first(3, CLEAN))
def test_a_week_is_correct(seed: int) -> None:
    partitions = scenario(seed).partitions
    verified = verify(Pages(partitions), tables=TABLES, money=RULES)
    assert (verified.events, verified.missing_rules) == (sum(map(len, partitions)), ())


def damaged(partitions: list[list[bytes]], chance: Random) -> tuple[list[list[bytes]], int, int]:
    """The same records with one byte of one record changed, which is not the last of its partition."""
    changed = [list(records) for records in partitions]
    partition = chance.choice([number for number, records in enumerate(changed) if len(records) > 1])
    index = chance.randrange(len(changed[partition]) - 1)
    record = bytearray(changed[partition][index])
    at = chance.randrange(len(record))
    record[at] = (record[at] + chance.randrange(1, 256)) % 256
    changed[partition][index] = bytes(record)
    return changed, partition, index + 1


@pytest.mark.parametrize("seed", DAMAGED)
@pytest.mark.system
def test_one_changed_byte_names_the_changed_record(seed: int) -> None:
    chance = Random(seed)
    for _ in range(60):
        changed, partition, seq = damaged(scenario(seed).partitions, chance)
        with pytest.raises(Fault) as caught:
            verify(Pages(changed), tables=TABLES)
        assert (caught.value.partition, caught.value.seq) == (partition, seq), caught.value


def rechained(records: list[bytes]) -> list[bytes]:
    prev, done = EMPTY_SHA256, []
    for seq, record in enumerate(records, 1):
        event: dict[str, Any] = {**json.loads(record), "seq": seq, "prev": prev}
        done.append(json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode())
        prev = sha256(done[-1]).hexdigest()
    return done


@pytest.mark.parametrize("seed", DAMAGED)
@pytest.mark.system
def test_a_changed_number_in_data_is_found_behind_a_new_chain(seed: int) -> None:
    chance = Random(seed)
    for _ in range(20):
        changed = [list(records) for records in scenario(seed).partitions]
        partition = chance.choice([number for number, records in enumerate(changed) if records])
        places = [
            (index, name)
            for index, record in enumerate(changed[partition])
            for name in ("amount", "payout", "stake", "bonus")
            if isinstance(json.loads(record)["data"].get(name), int)
        ]
        index, name = chance.choice(places)
        event = json.loads(changed[partition][index])
        event["data"][name] += 1
        changed[partition][index] = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
        changed[partition] = rechained(changed[partition])
        with pytest.raises(Fault) as caught:
            verify(Pages(changed), tables=TABLES)
        assert (caught.value.partition, caught.value.seq) == (partition, index + 1), caught.value
