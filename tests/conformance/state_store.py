"""What every ``StateStore`` must do. An adapter passes if a subclass of ``StateStoreContract`` passes.

The subclass has a fixture ``open_store``: each call opens the same, at first empty, storage once more.
"""

import threading
from collections.abc import Callable
from typing import Final

import pytest

from ledger.commands import ConcludeTransfer, CountReferral, ReceiveTransfer
from ledger.entries import Bet, Drawn, GrantTaken, Hold, Order, Proposal, Reversible, SentTransfer
from ledger.events import Balance
from ledger.ports import StateStore, Value
from ledger.record import Head
from ledger.wallet import DayCount, ExpiringHold, FirstDeposit, Grant, Limits, Wallet

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
    "a bet cancelled before it came": Bet("cancelled_before"),
    "a hold without an end": Hold("open", "INR", 5, None),
    "a hold": Hold("expired", "INR", 5, AMOUNT_MAX),
    "a transfer": SentTransfer("sent"),
    "a taken grant": GrantTaken(),
    "a proposal": Proposal("open", "somebody", "INR", -AMOUNT_MAX),
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
        assert store.get(0, [*(f"absent{number}" for number in range(size)), *values]) == values
        store.save(0, dict.fromkeys(list(values)[::2]), SECOND)
        assert store.get(0, list(values)) == dict(list(values.items())[1::2])
        store.close()

    def test_a_key_that_is_asked_for_twice_is_answered(self, open_store: OpenStore) -> None:
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

    def test_what_is_forgotten_is_gone_and_the_rest_stays(self, open_store: OpenStore) -> None:
        store = open_store()
        for partition in range(3):
            store.save(partition, {"k": partition}, FIRST)
        store.forget([0, 2, 9])
        assert [store.checkpoint(partition) for partition in range(3)] == [None, FIRST, None]
        assert [store.get(partition, ["k"]) for partition in range(3)] == [{}, {"k": 1}, {}]
        store.save(0, {"other": 1}, SECOND)
        assert (store.get(0, ["k", "other"]), store.checkpoint(0)) == ({"other": 1}, SECOND)
        store.close()

    def test_a_save_in_another_thread_is_seen(self, open_store: OpenStore) -> None:
        store = open_store()
        saver = threading.Thread(target=store.save, args=(0, {"a": 1}, FIRST))
        saver.start()
        saver.join()
        assert (store.get(0, ["a"]), store.checkpoint(0)) == ({"a": 1}, FIRST)
        store.close()

    def test_reading_goes_on_while_a_save_is_under_way_and_sees_all_of_it_or_nothing(
        self, open_store: OpenStore
    ) -> None:
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
