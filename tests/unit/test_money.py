"""Amounts are exact, or refused: nothing is rounded on the way in or out."""

import time
from decimal import Decimal
from typing import Any

import pytest

from events.money import (
    MAX_UNITS,
    UNITS_PER_WHOLE,
    NotAnAmount,
    decimals,
    from_bytes,
    to_bytes,
    to_decimal,
    to_scaled,
    to_text,
    to_units,
)

LONGEST = "9" * 20 + "." + "9" * 18


@pytest.mark.parametrize(
    ("value", "units"),
    [
        ("0", 0),
        ("12.50", 12_500_000_000_000_000_000),
        ("-3", -3 * UNITS_PER_WHOLE),
        ("007", 7 * UNITS_PER_WHOLE),
        ("0.000000000000000001", 1),
        ("1.000000000000000000000000", UNITS_PER_WHOLE),
        (LONGEST, MAX_UNITS),
        (Decimal("12.5"), 12_500_000_000_000_000_000),
        (Decimal("1E+3"), 1000 * UNITS_PER_WHOLE),
        (Decimal("1E-18"), 1),
        (Decimal("-0"), 0),
        (7, 7 * UNITS_PER_WHOLE),
        (10**19, 10**37),
    ],
)
def test_exact_decimals_become_units(value: Decimal | str | int, units: int) -> None:
    assert to_units(value) == units


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        1.0,
        float("nan"),
        float("inf"),
        True,
        False,
        None,
        b"1",
        [1],
        1 + 0j,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        "",
        " 1",
        "1 ",
        "1\n",
        "+1",
        "--1",
        "1.",
        ".5",
        "1_000",
        "1,5",
        "1e3",
        "1E-2",
        "0x10",
        "NaN",
        "Infinity",
        "١٢",
        "1.2.3",
        "1\x00",
    ],
    ids=repr,
)
def test_what_is_no_plain_decimal_is_refused(value: Any) -> None:
    with pytest.raises(NotAnAmount):
        to_units(value)


@pytest.mark.parametrize("value", ["0.0000000000000000001", Decimal("1E-19"), Decimal("1.0000000000000000001")])
def test_nineteen_decimals_are_refused_not_rounded(value: Decimal | str) -> None:
    with pytest.raises(NotAnAmount, match="18 decimals"):
        to_units(value)


@pytest.mark.parametrize("value", ["1" + "0" * 20, f"-1{'0' * 20}", 10**20, Decimal(10**20), Decimal("1E+20")])
def test_thirty_nine_digits_are_refused(value: Decimal | str | int) -> None:
    with pytest.raises(NotAnAmount, match="38 digits"):
        to_units(value)


@pytest.mark.parametrize(
    "value",
    [
        Decimal("1E+999999"),
        Decimal("1E-999999"),
        Decimal("0E+999999"),
        Decimal((0, (1,), 999_999_999)),
        Decimal((0, (1,) * 100_000, -50_000)),
        "9" * 1_000_000,
        "0." + "0" * 1_000_000,
        1 << 10_000_000,
    ],
    ids=["huge", "tiny", "zero", "largest", "long", "text", "zeros", "int"],
)
def test_a_number_made_to_be_slow_is_refused_at_once(value: Decimal | str | int) -> None:
    begun = time.perf_counter()
    with pytest.raises(NotAnAmount) as refused:
        to_units(value)
    assert time.perf_counter() - begun < 0.1
    assert len(str(refused.value)) < 100


def test_a_tenth_and_two_tenths_are_three_tenths() -> None:
    assert to_units("0.1") + to_units("0.2") - to_units("0.3") == 0


@pytest.mark.parametrize(
    ("units", "text", "places"),
    [
        (0, "0", 0),
        (1, "0.000000000000000001", 18),
        (-1, "-0.000000000000000001", 18),
        (UNITS_PER_WHOLE, "1", 0),
        (10 * UNITS_PER_WHOLE, "10", 0),
        (12_500_000_000_000_000_000, "12.5", 1),
        (-12_500_000_000_000_000_000, "-12.5", 1),
        (MAX_UNITS, LONGEST, 18),
        (10**28, "10000000000", 0),
        (10**36, "1000000000000000000", 0),
    ],
)
def test_units_are_written_plainly(units: int, text: str, places: int) -> None:
    assert to_text(units) == text
    assert to_units(text) == units
    assert decimals(units) == places
    assert f"{to_decimal(units):f}" == text
    assert to_scaled(units) == to_decimal(units)


@pytest.mark.parametrize(
    ("units", "data"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "0080"),
        (255, "00ff"),
        (-1, "ff"),
        (-128, "ff80"),
        (-129, "ff7f"),
        (MAX_UNITS, "4b3b4ca85a86c47a098a223fffffffff"),
    ],
)
def test_bytes_are_the_unscaled_value_in_twos_complement(units: int, data: str) -> None:
    assert from_bytes(to_bytes(units)) == units
    assert from_bytes(bytes.fromhex(data)) == units
    assert len(to_bytes(units)) <= 17


@pytest.mark.parametrize(
    ("data", "units"), [(b"", 0), (b"\0\0\0\1", 1), (b"\xff\xff\xff", -1), (b"\0" * 15 + b"\1", 1)]
)
def test_padded_bytes_mean_the_same(data: bytes, units: int) -> None:
    assert from_bytes(data) == units
