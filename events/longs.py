"""Avro's integers as bytes: zigzag, then base 128 with the low bits first (Avro 1.12, binary encoding).

They are in every field of every record, as values, lengths, counts and branches; so the common ones come from tables.
"""

from functools import lru_cache
from typing import Final


class Malformed(ValueError):
    """The bytes are no record of the schema."""


_LONGEST: Final = 10
_LOWEST: Final = -(1 << 63)
_HIGHEST: Final = (1 << 63) - 1
_UNSIGNED: Final = (1 << 64) - 1
_KEPT: Final = 1 << 14
_LOW_BITS: Final = 13
_LOW: Final = (1 << _LOW_BITS) - 1
_TWO_TABLES: Final = 1 << 27
_RECENT: Final = 1024


def _base_128(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@lru_cache(maxsize=_RECENT)
def _encoded(value: int) -> bytes:
    """Encode what no table has: times, and a group of events shares one."""
    if not _LOWEST <= value <= _HIGHEST:
        raise OverflowError(f"not a 64-bit integer: {value}")
    return _base_128((value << 1) ^ (value >> 63))


_TWO_BYTES: Final = tuple(bytes((value << 1 & 0x7F | 0x80, value >> 6 | 0x80)) for value in range(_LOW + 1))
"""The first two bytes of what takes more, by its low 13 bits."""

_REST: Final = tuple(_base_128(value) for value in range(_TWO_TABLES >> _LOW_BITS))


def write_long(value: int) -> bytes:
    """Return an int or long as bytes; raises `OverflowError` beyond 64 bits."""
    if _LOW < value < _TWO_TABLES:
        return _TWO_BYTES[value & _LOW] + _REST[value >> _LOW_BITS]
    return _encoded(value)


class _Longs(dict[int, bytes]):
    """`write_long` as a table: what it does not hold is encoded, and not kept."""

    __missing__ = staticmethod(write_long)


LONGS: Final = _Longs((value, _base_128(value << 1)) for value in range(_KEPT))
"""`LONGS[value]` is `write_long(value)`, and fast for nearly all: small ones, and every length."""


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """Return the int or long at `at`, and the position after it; raises `Malformed`, or `IndexError` at the end."""
    first = data[at]
    if first < 0x80:
        return (first >> 1) ^ -(first & 1), at + 1
    second = data[at + 1]
    if second < 0x80:
        value = first & 0x7F | second << 7
        return (value >> 1) ^ -(value & 1), at + 2
    third = data[at + 2]
    if third < 0x80:
        value = first & 0x7F | (second & 0x7F) << 7 | third << 14
        return (value >> 1) ^ -(value & 1), at + 3
    if data[at + 3] < 0x80:
        value = first & 0x7F | (second & 0x7F) << 7 | (third & 0x7F) << 14 | data[at + 3] << 21
        return (value >> 1) ^ -(value & 1), at + 4
    if at + 8 <= len(data) and (time := _recent_time(data[at : at + 8])) is not None:
        return time, at + 8
    return _read_longer(data, at)


@lru_cache(maxsize=_RECENT)
def _recent_time(data: bytes) -> int | None:
    """Return the long that takes all of these eight bytes, as times do; None when it does not."""
    try:
        value, end = _read_longer(data, 0)
    except IndexError:
        return None
    return value if end == len(data) else None


def _read_longer(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    for position in range(at, at + _LONGEST):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _UNSIGNED:
                break
            return (value >> 1) ^ -(value & 1), position + 1
        shift += 7
    raise Malformed("an integer of more than 64 bits")


def read_length(data: bytes, at: int) -> tuple[int, int]:
    """Return the length at `at`, and the position after it."""
    length, at = read_long(data, at)
    if length < 0:
        raise Malformed(f"a length of {length}")
    return length, at


def read_count(data: bytes, at: int) -> tuple[int, int]:
    """Return how many items the block at `at` has, and the position of the first; no items end a list."""
    count, at = read_long(data, at)
    if count >= 0:
        return count, at
    _, at = read_long(data, at)  # how many bytes it has, for those who skip it
    return -count, at


def read_branch(data: bytes, at: int) -> tuple[int, int]:
    """Return the branch, 0 or 1, of a union of two, and the position after it."""
    branch, at = read_long(data, at)
    if branch not in (0, 1):
        raise Malformed(f"a union of two has no branch {branch}")
    return branch, at
