"""Every field that is not what it must be is named by its own error, and what passes can be stored."""

import json
import time
from decimal import Decimal
from typing import Any

import pytest

from commands.errors import InvalidMetadata
from commands.types import Policy
from commands.validation import canonical_metadata, check_fields, check_identity
from events.money import MAX_UNITS
from tests.support.samples import UNIT, post


@pytest.mark.parametrize("account_id", ["", "a" * 256, "a" * 10_000, "a\0b", "a\nb", "\ud800", "a\u2028b", 7, None])
def test_a_bad_account_id_is_named(account_id: Any) -> None:
    fault = check_identity(post(account_id))
    assert fault is not None
    assert fault.code == "InvalidAccountId"
    assert len(fault.message) < 200


@pytest.mark.parametrize("command_id", ["", "c" * 129, "c\0", "c\td", "\udfff", 7, None])
def test_a_bad_command_id_is_named(command_id: Any) -> None:
    fault = check_identity(post(command_id=command_id))
    assert fault is not None
    assert fault.code == "InvalidCommandId"


@pytest.mark.parametrize("reply_key", ["", "r" * 129, "r\0"])
def test_a_bad_reply_key_is_named(reply_key: str) -> None:
    fault = check_identity(post(reply_key=reply_key))
    assert fault is not None
    assert fault.code == "InvalidCommandId"
    assert "reply_key" in fault.message


def test_ids_may_be_as_long_as_they_may_and_in_any_script() -> None:
    assert check_identity(post("a" * 255, command_id="c" * 128, reply_key="r" * 128)) is None
    assert check_identity(post("счёт 7 · 口座", command_id="é")) is None


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"asset": ""}, "InvalidAsset"),
        ({"asset": "A" * 65}, "InvalidAsset"),
        ({"asset": "US\0D"}, "InvalidAsset"),
        ({"amount": 0}, "InvalidAmount"),
        ({"amount": -1}, "InvalidAmount"),
        ({"amount": MAX_UNITS + 1}, "InvalidAmount"),
        ({"amount": 1 << 100_000}, "InvalidAmount"),
        ({"reference": "r" * 1025}, "InvalidReference"),
        ({"reference": "r\0"}, "InvalidReference"),
        ({"reference": "\ud800"}, "InvalidReference"),
        ({"reference": 7}, "InvalidReference"),
        ({"effective_at": -1}, "InvalidEffectiveTime"),
        ({"effective_at": 253_402_300_800_000_000}, "InvalidEffectiveTime"),
        ({"effective_at": 2**63 - 1}, "InvalidEffectiveTime"),
        ({"expected_version": -1}, "InvalidExpectedVersion"),
        ({"expected_version": 2**63}, "InvalidExpectedVersion"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], code: str) -> None:
    fault = check_fields(post()._replace(**fields), Policy())
    assert fault is not None
    assert fault.code == code
    assert fault.details["reason"] == fault.message


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": 1},
        {"amount": MAX_UNITS},
        {"asset": "A" * 64},
        {"reference": ""},
        {"reference": "r" * 1024},
        {"reference": "line\nline \N{GRINNING FACE}"},
        {"effective_at": 0},
        {"effective_at": 253_402_300_799_999_999},
        {"expected_version": 0},
        {"expected_version": 2**63 - 1},
    ],
)
def test_the_last_value_that_is_right_passes(fields: dict[str, Any]) -> None:
    assert check_fields(post()._replace(**fields), Policy()) is None


@pytest.mark.parametrize(
    ("asset", "amount", "right"),
    [
        ("USD", UNIT // 100, True),
        ("USD", UNIT // 1000, False),
        ("USD", 1, False),
        ("JPY", UNIT, True),
        ("JPY", UNIT // 10, False),
        ("ETH", 1, True),
        ("other", 1, True),
    ],
)
def test_an_amount_has_no_more_decimals_than_its_asset(asset: str, amount: int, right: bool) -> None:
    fault = check_fields(post(amount=amount, asset=asset), Policy(asset_scales={"USD": 2, "JPY": 0, "ETH": 18}))
    assert (fault is None) == right
    assert right or (fault is not None and fault.code == "InvalidAmount" and asset in fault.message)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "7",
        "{'a':1}",
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":1e400}',
        '{"a":"\\u0000"}',
        '{"a\\u0000":1}',
        '{"a":[{"b":"\\u0000"}]}',
        '{"a":"\0"}',
        '{"a":"\\ud800"}',
        '{"\\udfff":1}',
        '{"a":"\ud800"}',
        '{"a":' + "9" * 5000 + "}",
        '{"a":"' + "x" * 16_377 + '"}',
        '{"a":"' + "é" * 8_189 + '"}',
        '{"a":1}{"b":2}',
        "\ufeff{}",
    ],
    ids=lambda text: ascii(text[:24]),
)
def test_metadata_that_can_not_be_kept_is_refused(text: str) -> None:
    with pytest.raises(InvalidMetadata) as refused:
        canonical_metadata(text)
    assert len(refused.value.message) <= 200


@pytest.mark.parametrize("depth", [65, 300, 450, 900, 2700])
@pytest.mark.parametrize("inner", ["1", '"\\u0000"'])
@pytest.mark.parametrize("brackets", [('{"a":', "}"), ('{"a":[', "]}")])
def test_deep_metadata_is_refused_never_a_crash(depth: int, inner: str, brackets: tuple[str, str]) -> None:
    text = brackets[0] * depth + inner + brackets[1] * depth
    with pytest.raises(InvalidMetadata):
        canonical_metadata(text)


def test_metadata_may_be_64_levels_deep_and_as_wide_as_fits() -> None:
    canonical_metadata('{"a":' * 64 + "1" + "}" * 64)
    canonical_metadata('{"a":[' + ",".join(["{}"] * 5000) + "]}")


@pytest.mark.parametrize(
    "number",
    [
        "0.12345678901234567890",
        "12345678901234567.89",
        "1e-400",
        "1e999",
        "1e-99999999999999999999",
        "1e9999999999999999",
    ],
)
def test_a_number_that_would_be_rounded_is_refused(number: str) -> None:
    with pytest.raises(InvalidMetadata):
        canonical_metadata(f'{{"rate": {number}}}')


@pytest.mark.parametrize("number", ["0.1", "1.10", "-0.0", "1e22", "1E-7", "123456789.123456", "5e-324"])
def test_a_number_that_is_kept_is_taken(number: str) -> None:
    assert Decimal(repr(json.loads(canonical_metadata(f'{{"n": {number}}}'))["n"])) == Decimal(number)


def test_metadata_is_canonical() -> None:
    assert canonical_metadata(' { "b" : [1, 2.5, null, true] , "a" : { "d": "é", "c": "\\u00e9" } } ') == (
        '{"a":{"c":"é","d":"é"},"b":[1,2.5,null,true]}'
    )
    assert canonical_metadata("{}") == "{}"


def test_metadata_is_canonical_for_ever() -> None:
    once = canonical_metadata('{"x": 1.10, "big": 1e22, "s": "\\"\\\\ \\u007f \\ud83d\\ude00"}')
    assert canonical_metadata(once) == once


def test_integers_of_any_size_are_kept_exactly() -> None:
    big = 123_456_789_012_345_678_901_234_567_890_123_456_789
    assert json.loads(canonical_metadata(f'{{"n": {big}}}')) == {"n": big}


def test_a_backslash_before_u0000_is_no_nul() -> None:
    assert canonical_metadata('{"a":"\\\\u0000"}') == '{"a":"\\\\u0000"}'


def test_metadata_fills_its_16_kib() -> None:
    text = '{"a":"' + "x" * 16_376 + '"}'
    assert canonical_metadata(text) == text


@pytest.mark.parametrize(
    "text", ["[" * 1_000_000, '{"a":' * 200_000, " " * 2_000_000, '{"a":"' + "x" * 1_000_000 + '"}']
)
def test_a_megabyte_of_metadata_is_refused_at_once(text: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(InvalidMetadata):
        canonical_metadata(text)
    assert time.perf_counter() - begun < 0.1
