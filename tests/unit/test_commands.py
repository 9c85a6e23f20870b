"""The commands: which shapes are valid, and the bytes whose hash detects a reused command_id."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest

from ledger.core.commands import (
    COMMAND_TYPES,
    AnyCommand,
    Command,
    Deposit,
    OpenWallet,
    PlaceBet,
    SetAgentLevel,
    SetLimits,
    canonical,
    whole,
)
from ledger.core.follow_up_commands import AnyFollowUp

AN_ORDER = {"type": "deposit", "command_id": "c-1", "user_id": "u1", "order_id": "o1", "asset": "INR", "amount": 500}


def decoded(command: dict[str, Any] | bytes) -> Command:
    body = command if isinstance(command, bytes) else msgspec.json.encode(command)
    of_a_known_type: Command = msgspec.json.decode(body, type=AnyCommand)
    return of_a_known_type


def malformed(command: dict[str, Any] | bytes) -> bool:
    try:
        decoded(command)
    except msgspec.DecodeError:  # of which ValidationError is one
        return True
    return False


# --- shapes


def test_the_type_decides_which_command_it_is() -> None:
    assert decoded(AN_ORDER) == Deposit(command_id="c-1", user_id="u1", order_id="o1", asset="INR", amount=500)


def test_all_types_are_distinct_and_are_those_of_the_contract() -> None:
    assert {command_type.__struct_config__.tag for command_type in COMMAND_TYPES} == {
        *("open_wallet", "deposit", "request_withdrawal", "approve_withdrawal", "reject_withdrawal"),
        *("place_bet", "settle_bet", "cancel_bet", "hold", "capture_hold", "release_hold", "transfer", "grant_bonus"),
        *("adjust", "propose_adjustment", "approve_adjustment", "reject_adjustment", "reverse", "set_limits"),
        *("freeze_wallet", "unfreeze_wallet", "close_wallet", "set_agent_level"),
        *("record_result", "cancel_period", "claim_attendance"),
        *("create_gift", "close_gift", "claim_gift", "claim_referral_code"),
    }


def test_what_a_frozen_wallet_refuses_is_what_the_contract_lists() -> None:
    assert {
        command_type.__struct_config__.tag for command_type in COMMAND_TYPES if command_type.refused_when_frozen
    } == {
        *("place_bet", "hold", "capture_hold", "request_withdrawal", "approve_withdrawal", "transfer"),
    }


@pytest.mark.parametrize("follow_up", AnyFollowUp.__args__)
def test_a_client_cannot_post_the_ledgers_own_commands(follow_up: type[msgspec.Struct]) -> None:
    assert malformed({**AN_ORDER, "type": follow_up.__struct_config__.tag})


@pytest.mark.parametrize("name", ["type", "command_id", "user_id", "order_id", "asset", "amount"])
def test_a_required_field_may_be_neither_absent_nor_null(name: str) -> None:
    assert malformed({key: value for key, value in AN_ORDER.items() if key != name})
    assert malformed({**AN_ORDER, name: None})


def test_an_unknown_field_is_malformed_even_when_null() -> None:
    assert malformed({**AN_ORDER, "comment": "x"})
    assert malformed({**AN_ORDER, "comment": None})


@pytest.mark.parametrize("body", [b"[]", b"null", b'"deposit"', b"{}", b"", b"{", b'{"type":"deposit"'])
def test_a_command_is_one_json_object(body: bytes) -> None:
    assert malformed(body)


@pytest.mark.parametrize("amount", [b"5.0", b"5e0", b'"5"', b"true", b"null", b"[5]", b"05", b"+5", b"NaN"])
def test_what_is_not_a_json_integer_is_no_amount(amount: bytes) -> None:
    body = msgspec.json.encode(AN_ORDER)
    assert malformed(body.replace(b"500", amount))


@pytest.mark.parametrize("amount", [0, -1, 2**53, 2**64, 10**40, -(10**40), 10**1000])
def test_any_integer_passes_for_its_range_is_a_rule_not_a_shape(amount: int) -> None:
    body = msgspec.json.encode(AN_ORDER).replace(b"500", str(amount).encode())
    command = decoded(body)
    assert isinstance(command, Deposit)
    assert command.amount == amount


# --- names


@pytest.mark.parametrize("user_id", ["u1", "7", "A" * 64, "a_b-c.d:e@f", "gamer:1", "game", "partition", "Game:x"])
def test_a_user_id(user_id: str) -> None:
    assert decoded({**AN_ORDER, "user_id": user_id}).user_id == user_id


@pytest.mark.parametrize(
    "user_id",
    ["", "A" * 65, "_u", "-u", ".u", ":u", "@u", "u 1", "u/1", "ü", "u1\n", "u\x00", "game:wingo_30s", "partition:3"],
)
@pytest.mark.parametrize("field", ["user_id", "to_user_id", "referrer_id"])
def test_no_user_id(field: str, user_id: str) -> None:
    commands: dict[str, dict[str, Any]] = {
        "user_id": AN_ORDER,
        "to_user_id": {
            "type": "transfer",
            "command_id": "c-1",
            "user_id": "u1",
            "to_user_id": "u2",
            "transfer_id": "t1",
            "asset": "INR",
            "amount": 1,
        },
        "referrer_id": {"type": "open_wallet", "command_id": "c-1", "user_id": "u1"},
    }
    assert not malformed(commands[field])
    assert malformed({**commands[field], field: user_id})


@pytest.mark.parametrize("field", ["command_id", "order_id"])
@pytest.mark.parametrize("name", ["c", "!", "}", "a~", "x" * 128, 'a"\\/b', "%2F", "<&>"])
def test_an_id_is_up_to_128_printable_ascii_characters(field: str, name: str) -> None:
    assert not malformed({**AN_ORDER, field: name})


@pytest.mark.parametrize("field", ["command_id", "order_id"])
@pytest.mark.parametrize("name", ["", "~1", "x" * 129, "a b", "é", "a\n", "a\x7f", "\t"])
def test_other_ids_are_malformed_and_those_of_the_ledger_are_too(field: str, name: str) -> None:
    assert malformed({**AN_ORDER, field: name})


@pytest.mark.parametrize("field", ["bet_id", "hold_id", "transfer_id", "grant_id", "adjustment_id", "order_id"])
def test_every_kind_of_id_has_the_same_shape(field: str) -> None:
    owners = [command_type for command_type in COMMAND_TYPES if field in command_type.__struct_fields__]
    assert owners
    for owner in owners:
        shape = msgspec.json.schema(owner)["$defs"][owner.__name__]["properties"][field]
        assert (
            shape["pattern"]
            == msgspec.json.schema(OpenWallet)["$defs"]["OpenWallet"]["properties"]["command_id"]["pattern"]
        )


@pytest.mark.parametrize("position", ["0:1", "3:42", "1023:9007199254740991", "0:0"])
def test_a_position(position: str) -> None:
    assert not malformed({**A_REVERSAL, "position": position})


@pytest.mark.parametrize(
    "position", ["", "3", "3:", ":42", "3:042", "03:42", "3:-1", "3:4 ", "3:42\n", "a:b", "3:4:2", "³:1"]
)
def test_a_malformed_position(position: str) -> None:
    assert malformed({**A_REVERSAL, "position": position})


A_REVERSAL = {"type": "reverse", "command_id": "c-1", "user_id": "u1", "position": "3:42", "reason": "r"}


def test_a_bet_spends_cash_or_bonus_first() -> None:
    bet = {
        "type": "place_bet",
        "command_id": "c-1",
        "user_id": "u1",
        "bet_id": "b1",
        "game": "external",
        "period": "p",
        "selection": "s",
        "asset": "INR",
        "stake": 1,
    }
    assert not malformed(bet)
    assert not malformed({**bet, "spend": "cash_first"})
    assert not malformed({**bet, "spend": "bonus_first"})
    assert malformed({**bet, "spend": "bonus"})
    assert malformed({**bet, "spend": "cash_first\n"})


# --- texts and metadata


def test_a_reason_is_at_most_500_code_points() -> None:
    assert not malformed({**A_REVERSAL, "reason": "🎲" * 500})
    assert malformed({**A_REVERSAL, "reason": "r" * 501})


def test_metadata_is_a_flat_map_of_at_most_16_strings() -> None:
    assert not malformed({**AN_ORDER, "metadata": {f"key {n}": "value" for n in range(16)}})
    assert malformed({**AN_ORDER, "metadata": {f"key {n}": "value" for n in range(17)}})
    assert not malformed({**AN_ORDER, "metadata": {"é" * 64: "🎲" * 512}})
    assert malformed({**AN_ORDER, "metadata": {"k" * 65: "v"}})
    assert malformed({**AN_ORDER, "metadata": {"k": "v" * 513}})
    assert malformed({**AN_ORDER, "metadata": {"k": 1}})
    assert malformed({**AN_ORDER, "metadata": {"k": None}})
    assert malformed({**AN_ORDER, "metadata": {"k": {"deeper": "v"}}})


@pytest.mark.parametrize("expires_at_us", [-(2**53) + 1, 0, 1_795_438_800_000_000, 2**53 - 1])
def test_any_time_may_be_an_expiry(expires_at_us: int) -> None:
    assert not malformed({**A_HOLD, "expires_at_us": expires_at_us})


@pytest.mark.parametrize("expires_at_us", [2**53, -(2**53), 1.5, "1795438800000000", True])
def test_an_expiry_is_an_integer_that_every_reader_keeps_exact(expires_at_us: object) -> None:
    assert malformed({**A_HOLD, "expires_at_us": expires_at_us})


A_HOLD = {"type": "hold", "command_id": "c-1", "user_id": "u1", "hold_id": "h1", "asset": "INR", "amount": 1}


# --- the canonical form


def test_the_canonical_form_has_sorted_keys_and_no_spaces() -> None:
    command = decoded(
        b'{"user_id": "u1", "type": "deposit", "order_id": "o1", "command_id": "c-1",'
        b' "metadata": {"b": "2", "a": "1"}, "amount": 500, "asset": "INR"}'
    )
    assert canonical(command) == (
        b'{"amount":500,"asset":"INR","command_id":"c-1","metadata":{"a":"1","b":"2"},'
        b'"order_id":"o1","type":"deposit","user_id":"u1"}'
    )


def test_the_hash_of_a_command_stays_what_it_is() -> None:
    assert sha256(canonical(decoded(AN_ORDER))).hexdigest() == (
        "d80261f10aee8931d5e387864fff3668156e7daecac44cd65bdd631df1fffe10"
    )


def test_absent_and_null_are_the_same_command() -> None:
    assert canonical(decoded({**AN_ORDER, "bonus": None, "metadata": None})) == canonical(decoded(AN_ORDER))


def test_private_is_a_flat_map_of_at_most_16_strings_and_no_part_of_what_a_command_asks_for() -> None:
    command = decoded({**AN_ORDER, "private": {"iban": "DE02", "é" * 64: "🎲" * 512}})
    assert command.private == {"iban": "DE02", "é" * 64: "🎲" * 512}
    assert canonical(command) == canonical(decoded(AN_ORDER))
    assert b'"private":{"iban":"DE02","' in whole(command)
    assert malformed({**AN_ORDER, "private": {f"key {n}": "value" for n in range(17)}})
    assert malformed({**AN_ORDER, "private": {"k" * 65: "v"}})
    assert malformed({**AN_ORDER, "private": {"k": "v" * 513}})
    assert malformed({**AN_ORDER, "private": {"k": {"deeper": "v"}}})


def test_an_explicit_default_is_another_command_than_an_absent_field() -> None:
    assert canonical(decoded({**AN_ORDER, "bonus": 0})) != canonical(decoded(AN_ORDER))
    assert canonical(decoded({**AN_ORDER, "metadata": {}})) != canonical(decoded(AN_ORDER))


@pytest.mark.parametrize(
    ("name", "value"),
    [("command_id", "c-2"), ("user_id", "u2"), ("order_id", "o2"), ("asset", "GOLD"), ("amount", 501)],
)
def test_another_value_of_any_field_is_another_command(name: str, value: object) -> None:
    assert canonical(decoded({**AN_ORDER, name: value})) != canonical(decoded(AN_ORDER))


def test_the_way_a_string_was_escaped_does_not_matter() -> None:
    escaped = decoded(msgspec.json.encode(A_REVERSAL).replace(b'"r"', rb'"\u00e9\/\ud83c\udfb2"'))
    assert canonical(escaped) == canonical(decoded({**A_REVERSAL, "reason": "é/🎲"}))
    assert '"reason":"é/🎲"'.encode() in canonical(escaped)


def test_a_string_escapes_only_what_json_must() -> None:
    command = decoded({**A_REVERSAL, "reason": 'a"b\\c/<é>\u2028'})
    assert '"reason":"a\\"b\\\\c/<é>\u2028"'.encode() in canonical(command)


def test_keys_are_sorted_by_code_point_not_by_utf_16() -> None:
    command = decoded({**AN_ORDER, "metadata": {"🎲": "beyond the first plane", "\uffee": "within it"}})
    assert '"metadata":{"\uffee":"within it","🎲":"beyond the first plane"}'.encode() in canonical(command)


def test_an_integer_is_written_in_decimal_however_long() -> None:
    command = Deposit(command_id="c-1", user_id="u1", order_id="o1", asset="INR", amount=10**40)
    assert b'"amount":1' + b"0" * 40 + b"," in canonical(command)


def test_in_set_limits_null_is_a_value_and_absence_is_not() -> None:
    limits = {"type": "set_limits", "command_id": "c-1", "user_id": "u1", "asset": "INR"}
    assert decoded(limits) == SetLimits(command_id="c-1", user_id="u1", asset="INR")
    assert canonical(decoded(limits)) == b'{"asset":"INR","command_id":"c-1","type":"set_limits","user_id":"u1"}'
    assert canonical(decoded({**limits, "credit_limit": None, "balance_max": 0})) == (
        b'{"asset":"INR","balance_max":0,"command_id":"c-1","credit_limit":null,"type":"set_limits","user_id":"u1"}'
    )


def test_every_command_survives_its_canonical_form() -> None:
    bet = PlaceBet(
        command_id="c-1", user_id="u1", bet_id="b1", game="external", period="p", selection="s", asset="INR", stake=1
    )
    assert decoded(canonical(bet)) == bet


@pytest.mark.parametrize("level", [-1, 11, "1", 1.0, True])
def test_a_level_of_an_agent_is_an_integer_from_0_to_10(level: Any) -> None:
    command = {"type": "set_agent_level", "command_id": "c-1", "user_id": "u1"}
    assert malformed({**command, "level": level})
    assert malformed(command), "the level is not optional"
    assert decoded({**command, "level": 0}) == SetAgentLevel(command_id="c-1", user_id="u1", level=0)
    assert decoded({**command, "level": 10}) == SetAgentLevel(command_id="c-1", user_id="u1", level=10)
