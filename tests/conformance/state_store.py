"""What every ``StateStore`` must do. An adapter passes if a subclass of ``StateStoreContract`` passes.

The subclass has a fixture ``open_store``: each call opens the same, at first empty, storage once more.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from ledger.core.events import Balance
from ledger.core.follow_up_commands import ConcludeTransfer, CountReferral, ReceiveTransfer
from ledger.core.items import Bet, Drawn, GrantTaken, Hold, Order, Proposal, Reversible, SentTransfer
from ledger.core.record import Head
from ledger.core.state_values import Value
from ledger.core.wallet import DayCount, ExpiringHold, FirstDeposit, Grant, Limits, Wallet
from ledger.errors import LedgerError
from ledger.ports import StateStore

OpenStore = Callable[[], StateStore]

AMOUNT_MAX: Final = 2**53 - 1
FIRST: Final = Head(1, "a" * 64)
SECOND: Final = Head(2, "b" * 64)

FULL_WALLET: Final = Wallet(
    "u1",
    "frozen",
    1_795_438_800_000_000,
    "the:referrer@x",
    {"INR": Balance(-500, 0, AMOUNT_MAX), "GOLD": Balance(0, 3, 0)},
    {"INR": AMOUNT_MAX},
    {"INR": Limits(500, None, 0, AMOUNT_MAX)},
    {"INR": DayCount(20_000, 5, 6)},
    (
        Grant("g1", "GOLD", 1, -AMOUNT_MAX, 7, 10, True, "3:41"),
        Grant("g2", "GOLD", 2, None, 8, 2, False, "3:42"),
    ),
    (ExpiringHold(-5, "h1", "INR", 1, "3:1"), ExpiringHold(AMOUNT_MAX, "h2", "INR", 2, "3:2")),
    4,
    FirstDeposit("o1", "INR", 1, "3:2", 1_795_438_800_000_001),
)

VALUES: Final[dict[str, Value]] = {
    "a wallet with nothing": Wallet("u2"),
    "a wallet with all": FULL_WALLET,
    "a deposit": Order("deposit", "completed", "INR", 1, 20_000),
    "a withdrawal": Order("withdrawal", "pending", "INR", AMOUNT_MAX, 20_000),
    "an open bet": Bet("open", "INR", 1, 2, (Drawn("g1", 2, None, 7, 10, True), Drawn("g2", 1, -3, 8, 9, False)), 5),
    "a bet cancelled before it arrived": Bet("cancelled_before"),
    "a hold without an expiry": Hold("open", "INR", 5, None),
    "a hold": Hold("expired", "INR", 5, AMOUNT_MAX),
    "a transfer": SentTransfer("sent"),
    "a taken grant": GrantTaken(),
    "a proposal": Proposal("open", "op-1", "INR", -AMOUNT_MAX),
    "a reversible": Reversible("INR", -5, 6, (("house/deposits", -5), ("house/bonuses", -6)), "g1", None, True),
    "a reversible of nothing more": Reversible("INR", 5, 0, (), None, None),
    "a transfer on its way": ReceiveTransfer(
        command_id="~x:0",
        user_id="u",
        cause="1:2",
        cause_time_us=3,
        transfer_id="t",
        from_user_id="f",
        asset="INR",
        amount=1,
    ),
    "a transfer refused": ConcludeTransfer(
        command_id="~x:0",
        user_id="u",
        cause="1:2",
        cause_time_us=3,
        transfer_id="t",
        to_user_id="f",
        asset="INR",
        amount=AMOUNT_MAX,
        refusal="wallet_closed",
    ),
    "a referral": CountReferral(command_id="~x:0", user_id="u", cause="1:2", cause_time_us=3, member="m", level=6),
    "the first seq": 1,
    "no seq": 0,
    "a seq of one byte more": 128,
    "the last seq": 2**53,
    "a mark": True,
}


def copied(store: StateStore, partition: int, values_max: int, bytes_max: int) -> list[bytes]:
    """All pages of a copy, whose counts and keys are right."""
    copy = store.copy(partition)
    assert copy is not None
    pages: list[bytes] = []
    after = ""
    while (found := copy.page(after, values_max, bytes_max)) is not None:
        page, values, after = found
        lines = page.split(b"\n")
        assert len(lines) == 2 * values <= 2 * values_max
        assert lines[-2].decode() == after
        assert values == 1 or len(page) <= bytes_max
        pages.append(page)
    copy.close()
    return pages


class StateStoreContract:
    """The tests; ``open_store`` comes from the subclass."""

    def test_a_new_store_knows_nothing(self, open_store: OpenStore) -> None:
        store = open_store()
        assert store.checkpoint(0) is None
        assert store.get(0, ["u1", "u2"]) == {}
        assert store.get(0, []) == {}
        assert store.scan(0, "", "\U0010ffff", 10) == []
        store.close()

    def test_what_is_saved_is_there_with_its_checkpoint(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(3, {"u1": Wallet("u1"), "u1 c:x": 7}, FIRST)
        assert store.checkpoint(3) == FIRST
        assert store.get(3, ["u1", "u1 c:x", "u2"]) == {"u1": Wallet("u1"), "u1 c:x": 7}
        store.close()

    @pytest.mark.parametrize("name", VALUES)
    def test_every_value_survives(self, open_store: OpenStore, name: str) -> None:
        store = open_store()
        store.save(0, {name: VALUES[name]}, FIRST)
        for seen in (store, open_store()):
            found = seen.get(0, [name])[name]
            assert found == VALUES[name]
            assert type(found) is type(VALUES[name])
            assert seen.scan(0, name, name + "\0", 1) == [(name, VALUES[name])]
            seen.close()

    def test_all_values_survive_together(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, VALUES, FIRST)
        assert store.get(0, list(VALUES)) == VALUES
        assert store.scan(0, "", "\U0010ffff", 1_000) == sorted(VALUES.items())
        store.close()

    def test_partitions_know_nothing_of_each_other(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, {"k": 1}, FIRST)
        store.save(1, {"k": 2, "only": 3}, SECOND)
        assert (store.get(0, ["k", "only"]), store.get(1, ["k", "only"])) == ({"k": 1}, {"k": 2, "only": 3})
        assert (store.checkpoint(0), store.checkpoint(1), store.checkpoint(2)) == (FIRST, SECOND, None)
        assert store.scan(0, "", "z", 10) == [("k", 1)]
        store.close()

    def test_a_later_save_changes_deletes_and_leaves_the_rest(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, {"changed": 1, "deleted": 2, "kept": 3}, FIRST)
        store.save(0, {"changed": 10, "deleted": None, "never there": None, "new": 4}, SECOND)
        assert dict(store.scan(0, "", "z", 10)) == {"changed": 10, "kept": 3, "new": 4}
        assert store.get(0, ["changed", "deleted", "kept", "new"]) == {"changed": 10, "kept": 3, "new": 4}
        assert store.checkpoint(0) == SECOND
        store.close()

    def test_the_same_save_twice_is_harmless(self, open_store: OpenStore) -> None:
        store = open_store()
        for _ in range(2):
            store.save(0, {"a": 1, "b": None}, FIRST)
        assert store.scan(0, "", "z", 10) == [("a", 1)]
        store.close()

    def test_a_save_of_nothing_moves_the_checkpoint(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, {"a": 1}, FIRST)
        store.save(0, {}, SECOND)
        assert (store.checkpoint(0), store.get(0, ["a"])) == (SECOND, {"a": 1})
        store.close()

    def test_a_scan_is_in_the_order_of_code_points(self, open_store: OpenStore) -> None:
        store = open_store()
        keys = [
            "",
            "!",
            "!f1",
            "!f10",
            "!f2",
            "A",
            "Z",
            "_",
            "a",
            "a ",
            "a b",
            "a\0",
            "ab",
            "é",
            "\uffff",
            "\U0001f600",
        ]
        store.save(0, dict.fromkeys(reversed(keys), 1), FIRST)
        assert [key for key, _ in store.scan(0, "", "\U0010ffff", 100)] == sorted(keys)
        store.close()

    def test_a_scan_begins_with_its_first_key_and_ends_before_its_last(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, {"b": 1, "c": 2, "d": 3, "e": 4}, FIRST)
        assert store.scan(0, "c", "e", 10) == [("c", 2), ("d", 3)]
        assert store.scan(0, "bb", "dd", 10) == [("c", 2), ("d", 3)]
        assert store.scan(0, "b", "z", 3) == [("b", 1), ("c", 2), ("d", 3)]
        assert store.scan(0, "e", "b", 10) == []
        assert store.scan(0, "c", "c", 10) == []
        assert store.scan(0, "x", "z", 10) == []
        store.close()

    def test_keys_come_page_by_page_in_the_order_of_code_points(self, open_store: OpenStore) -> None:
        store = open_store()
        keys = ["!f1", "A", "a", "a b", "ab", "é", "\uffff", "\U0001f600"]
        store.save(0, dict.fromkeys(reversed(keys), 1), FIRST)
        store.save(1, {"of another": 1}, FIRST)
        assert store.keys(0, "", 100) == keys
        assert store.keys(0, "", 3) == keys[:3]
        assert store.keys(0, keys[2], 3) == keys[3:6]
        assert store.keys(0, "aa", 1) == ["ab"]
        assert store.keys(0, keys[-1], 3) == []
        assert store.keys(2, "", 3) == []
        store.save(0, {"A": None}, SECOND)
        assert "A" not in store.keys(0, "", 100)
        store.close()

    @pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 341, 5_000])
    def test_large_saves_and_look_ups_are_whole(self, open_store: OpenStore, size: int) -> None:
        store = open_store()
        values: dict[str, Value] = {f"k{number}": number for number in range(size)}
        store.save(0, values, FIRST)
        assert store.get(0, list(values)) == values
        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(store.get_in_thread, [0] * 8, [[*values, "absent"]] * 8):
                assert found == values
        assert store.get(0, [*(f"absent{number}" for number in range(size)), *values]) == values
        store.save(0, dict.fromkeys(list(values)[::2]), SECOND)
        assert store.get(0, list(values)) == dict(list(values.items())[1::2])
        store.close()

    def test_a_key_that_is_requested_twice_is_found(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, {"a": 1, "b": 2}, FIRST)
        assert store.get(0, ["a", "b", "a"]) == {"a": 1, "b": 2}
        store.close()

    def test_a_value_that_is_changed_after_the_save_stays_as_it_was_saved(self, open_store: OpenStore) -> None:
        store = open_store()
        wallet = Wallet("u1", "open", balances={"INR": Balance(5)})
        store.save(0, {"u1": wallet}, FIRST)
        wallet.status = "closed"
        found = store.get(0, ["u1"])["u1"]
        assert isinstance(found, Wallet)
        assert found.status == "open"
        store.close()

    def test_a_save_in_another_thread_is_seen(self, open_store: OpenStore) -> None:
        store = open_store()
        saver = threading.Thread(target=store.save, args=(0, {"a": 1}, FIRST))
        saver.start()
        saver.join()
        assert (store.get(0, ["a"]), store.checkpoint(0)) == ({"a": 1}, FIRST)
        store.close()

    def test_reads_continue_during_a_save_and_see_all_of_it_or_nothing(self, open_store: OpenStore) -> None:
        store = open_store()
        size = 500
        store.save(0, {f"k{number:03d}": 0 for number in range(size)}, Head(1, "0" * 64))

        def save_ten_times() -> None:
            for turn in range(1, 11):
                store.save(0, {f"k{number:03d}": turn for number in range(size)}, Head(turn + 1, "0" * 64))

        saver = threading.Thread(target=save_ten_times)
        saver.start()
        while saver.is_alive():
            values = {value for _, value in store.scan(0, "k", "l", size)}
            assert len(values) == 1, "half a save is visible"
        saver.join()
        assert store.checkpoint(0) == Head(11, "0" * 64)
        assert {value for _, value in store.scan(0, "k", "l", size)} == {10}
        store.close()

    # --- the log's place, copies and replacements ------------------------------------------------------------------

    def test_the_logs_place_is_kept_with_the_checkpoint(self, open_store: OpenStore) -> None:
        store = open_store()
        assert store.place(0) is None
        store.save(0, {"a": 1}, FIRST, b"\x00here\xff")
        store.save(1, {"a": 1}, FIRST)
        for seen in (store, open_store()):
            assert (seen.place(0), seen.place(1), seen.place(2)) == (b"\x00here\xff", None, None)
        store.save(0, {}, SECOND, b"there")
        assert (store.checkpoint(0), store.place(0)) == (SECOND, b"there")
        store.save(0, {}, SECOND)
        assert store.place(0) is None
        store.close()

    @pytest.mark.parametrize(("values_max", "bytes_max"), [(1, 10**6), (3, 10**6), (1_000, 10**6), (1_000, 300)])
    def test_what_was_copied_replaces_a_state_byte_for_byte(
        self, open_store: OpenStore, values_max: int, bytes_max: int
    ) -> None:
        store = open_store()
        store.save(3, VALUES, SECOND, b"place")
        pages = copied(store, 3, values_max, bytes_max)
        assert len(pages) > 1 or values_max == 1_000
        store.save(0, {"u9": Wallet("u9"), "a wallet with all": Wallet("u1")}, FIRST)
        store.save(1, {"u9": Wallet("u9")}, FIRST)
        store.replace(0, pages, SECOND, b"other place")
        assert dict(store.scan(0, "", "\U0010ffff", 1_000)) == VALUES
        assert (store.checkpoint(0), store.place(0)) == (SECOND, b"other place")
        assert copied(store, 0, 1_000, 10**6) == copied(store, 3, 1_000, 10**6)
        assert store.get(1, ["u9"]) == {"u9": Wallet("u9")}
        store.save(0, {"u9": Wallet("u9"), "a mark": None}, Head(3, "c" * 64))
        assert store.get(0, ["u9", "a mark"]) == {"u9": Wallet("u9")}
        store.close()

    def test_there_is_no_copy_of_a_state_that_is_not_there(self, open_store: OpenStore) -> None:
        store = open_store()
        assert store.copy(0) is None
        store.save(0, {}, FIRST)
        assert copied(store, 0, 10, 10**6) == []
        store.replace(1, [], SECOND, None)
        assert (store.checkpoint(1), store.place(1)) == (SECOND, None)
        store.close()

    def test_a_copy_is_of_one_moment_and_later_saves_do_not_change_it(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, {"a": 1, "b": 2, "c": 3}, FIRST, b"place")
        copy = store.copy(0)
        assert copy is not None
        assert copy.page("", 1, 10**6) == (b"a\n1", 1, "a")
        store.save(0, {"a": 10, "b": None, "d": 4}, SECOND, b"later")
        assert copy.page("a", 10, 10**6) == (b"b\n2\nc\n3", 2, "c")
        assert copy.page("c", 10, 10**6) is None
        assert (copy.at, copy.place) == (FIRST, b"place")
        copy.close()
        copy.close()
        assert store.copy(1) is None
        store.close()

    def test_a_replacement_that_ends_in_the_middle_leaves_no_state(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, {"before": 1}, FIRST, b"place")

        def broken() -> Iterator[bytes]:
            yield b"a\n1"
            raise LedgerError("a chunk is missing")

        with pytest.raises(LedgerError, match="a chunk is missing"):
            store.replace(0, broken(), SECOND, b"place")
        for seen in (store, open_store()):
            assert (seen.checkpoint(0), seen.place(0)) == (None, None)
            assert seen.scan(0, "", "\U0010ffff", 10) == []
        store.replace(0, [b"a\n1"], SECOND, b"place")
        assert store.get(0, ["a", "before"]) == {"a": 1}
        store.close()

    def test_a_page_that_is_not_made_of_pairs_replaces_nothing(self, open_store: OpenStore) -> None:
        store = open_store()
        with pytest.raises(LedgerError, match="damaged"):
            store.replace(0, [b"a\n1", b"b"], SECOND, None)
        assert (store.checkpoint(0), store.scan(0, "", "z", 10)) == (None, [])
        store.close()

    def test_a_replacement_in_another_thread_leaves_other_partitions_unchanged(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, {f"k{number:05d}": number for number in range(20_000)}, FIRST)
        pages = copied(store, 0, 1_000, 10**6)
        replacing = threading.Thread(target=store.replace, args=(1, pages, SECOND, None))
        replacing.start()
        turn = 0
        while replacing.is_alive():
            turn += 1
            store.save(2, {"turn": turn}, Head(turn, "0" * 64))
        replacing.join()
        store.save(2, {"turn": turn}, Head(turn, "0" * 64))
        assert store.get(2, ["turn"]) == {"turn": turn}
        assert copied(store, 1, 1_000, 10**6) == pages
        store.close()

    def test_a_store_that_is_opened_again_is_the_same(self, open_store: OpenStore) -> None:
        store = open_store()
        store.save(0, VALUES, FIRST)
        store.save(5, {"k": 1}, SECOND)
        store.close()
        again = open_store()
        assert again.get(0, list(VALUES)) == VALUES
        assert (again.checkpoint(0), again.checkpoint(5), again.get(5, ["k"])) == (FIRST, SECOND, {"k": 1})
        again.close()
        again.close()  # again is harmless
