"""Exact money: amounts as integers of 10^-18, and the only ways in and out of them.

Inside Partita an amount is an `int` count of *units*, 10^-18 of its asset, which is also the unscaled value of the
Avro `decimal(38, 18)` on the wire. Nothing here rounds.
"""

import re
from decimal import Context, Decimal
from typing import Final

SCALE: Final = 18
PRECISION: Final = 38
UNITS_PER_WHOLE: Final = 10**SCALE
MAX_UNITS: Final = 10**PRECISION - 1

_PLAIN_NUMBER: Final = re.compile(r"-?[0-9]{1,60}(\.[0-9]{1,60})?", re.ASCII)
_EXACT: Final = Context(prec=2 * PRECISION)
_MAX_EXPONENT: Final = 60


class NotAnAmount(ValueError):
    """The value is no exact decimal number of at most 38 digits, 18 of them decimals; `str()` says why."""


def to_units(value: Decimal | str | int) -> int:
    """Return `value` in units of 10^-18, exactly.

    Strings are plain decimals ("12.50"): no exponent, sign `+`, space or underscore. The sign is kept; whether
    zero or a negative is welcome is the caller's rule.

    Raises:
        NotAnAmount: a float, a bool, NaN, an infinity, text that is no plain decimal, more than 18 decimals, or
            more than 38 digits.
    """
    number = _exact_decimal(value)
    numerator, denominator = number.as_integer_ratio()
    units, rest = divmod(numerator * UNITS_PER_WHOLE, denominator)
    if rest:
        raise NotAnAmount(f"more than {SCALE} decimals")
    if abs(units) > MAX_UNITS:
        raise NotAnAmount(f"more than {PRECISION} digits ({PRECISION - SCALE} before the decimal point)")
    return units


def _exact_decimal(value: object) -> Decimal:
    if isinstance(value, str):
        if not _PLAIN_NUMBER.fullmatch(value):
            raise NotAnAmount(f"not a plain decimal number: {value[:40]!r}")
        return Decimal(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > 256:
            raise NotAnAmount(f"more than {PRECISION} digits")
        return Decimal(value)
    if not isinstance(value, Decimal):
        raise NotAnAmount(f"a Decimal or a string is needed, not {type(value).__name__}")
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise NotAnAmount(f"not a finite number: {value}")
    if abs(exponent) > _MAX_EXPONENT or abs(value.adjusted()) > _MAX_EXPONENT:
        raise NotAnAmount(f"an exponent beyond ±{_MAX_EXPONENT}")
    return value


def to_decimal(units: int) -> Decimal:
    """Return `units` as a Decimal without trailing zeros.

    Print it with `format(it, "f")`: `str` gives a small one an exponent.
    """
    return Decimal(to_text(units))


def to_scaled(units: int) -> Decimal:
    """Return `units` as a Decimal of scale 18, for a NUMERIC(38, 18) column; faster than `to_decimal`."""
    return _EXACT.scaleb(Decimal(units), -SCALE)


def to_text(units: int) -> str:
    """Return `units` as a plain decimal: `"12.5"`, `"-0.000000000000000001"`, `"0"`."""
    whole, fraction = divmod(abs(units), UNITS_PER_WHOLE)
    sign = "-" if units < 0 else ""
    if not fraction:
        return f"{sign}{whole}"
    return f"{sign}{whole}.{fraction:0{SCALE}d}".rstrip("0")


def decimals(units: int) -> int:
    """Return how many decimals `units` needs to be written exactly: 0 to 18."""
    _, _, fraction = to_text(units).partition(".")
    return len(fraction)


def to_bytes(units: int) -> bytes:
    """Return the unscaled value as Avro's `decimal` has it: two's complement, big-endian, as short as can be."""
    return units.to_bytes((units.bit_length() + 8) // 8, "big", signed=True)


def from_bytes(data: bytes) -> int:
    """Return the unscaled value that Avro `decimal` bytes stand for, padded or not; empty bytes are 0."""
    return int.from_bytes(data, "big", signed=True)
