"""Flat Avro records, fast: the writer and the reader of one schema, put together once and used by the million.

The handler reads one record and writes two for every command, and with fastavro, which finds out anew for each field
of each record what its type is, that was more than half of all its work (docs/adr/0006). So records whose fields are
boolean, int, long, string, bytes, decimal, an enum, a map or array of strings, null-or-one-of-these, or an array of
such records are coded here. fastavro is the reference (the tests hold both against each other, for malformed bytes
too), and codes all else: records of other schema versions, and outcomes.

Binary encoding as in the Avro 1.12 specification. Decimals are integers: the unscaled value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

Write = Callable[[Any], bytes]
Read = Callable[[bytes, int], tuple[Any, int]]
"""Takes the data and a position, and returns the value and the position after it."""


@dataclass(frozen=True, slots=True)
class Names:
    """What stands for the names in a schema: values for an enum's symbols, named tuples for nested records."""

    symbols: Mapping[str, Any]
    records: Mapping[str, type[Any]]


class Malformed(ValueError):
    """The bytes are no record of the schema."""


_LONGEST: Final = 10
_LOWEST: Final = -(1 << 63)
_HIGHEST: Final = (1 << 63) - 1
_UNSIGNED: Final = (1 << 64) - 1
_SMALL: Final = 1 << 14
_THREE_BYTES: Final = 1 << 20
_FOUR_BYTES: Final = 1 << 27


def _encoded(value: int) -> bytes:
    if not _LOWEST <= value <= _HIGHEST:
        raise OverflowError(f"not a 64-bit integer: {value}")
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL_LONGS: Final = tuple(_encoded(value) for value in range(_SMALL))
_recent: Final = lru_cache(maxsize=1024)(_encoded)
"""For times: a group of events shares one."""


def write_long(value: int) -> bytes:
    """Return an Avro int or long: zigzag, then base 128 with the low bits first."""
    if 0 <= value < _SMALL:
        return _SMALL_LONGS[value]
    if 0 <= value < _THREE_BYTES:
        value <<= 1
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    if 0 <= value < _FOUR_BYTES:
        value <<= 1
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80, value >> 21))
    return _recent(value)


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """Read an Avro int or long."""
    byte = data[at]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at + 1
    value, shift = byte & 0x7F, 7
    for position in range(at + 1, at + _LONGEST):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _UNSIGNED:
                break
            return (value >> 1) ^ -(value & 1), position + 1
        shift += 7
    raise Malformed("an integer of more than 64 bits")


def _write_bytes(value: bytes) -> bytes:
    return write_long(len(value)) + value


def _read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    length = data[at]
    if length < 0x80 and not length & 1:  # nearly all: a length of one byte
        at += 1
        length >>= 1
    else:
        length, at = read_long(data, at)
    end = at + length
    if length < 0 or end > len(data):
        raise Malformed(f"a length of {length} where {len(data) - at} bytes are left")
    return data[at:end], end


def _write_string(value: str) -> bytes:
    raw = value.encode()
    return write_long(len(raw)) + raw


def _read_string(data: bytes, at: int) -> tuple[str, int]:
    raw, at = _read_bytes(data, at)
    return raw.decode(), at


def _write_decimal(units: int) -> bytes:
    length = (units.bit_length() + 8) >> 3
    return _SMALL_LONGS[length] + units.to_bytes(length, "big", signed=True)


def _read_decimal(data: bytes, at: int) -> tuple[int, int]:
    raw, at = _read_bytes(data, at)
    return int.from_bytes(raw, "big", signed=True), at


def _write_map(value: Mapping[str, str]) -> bytes:
    items = b"".join(_write_string(key) + _write_string(item) for key, item in value.items())
    return write_long(len(value)) + items + b"\0" if value else b"\0"


def _read_map(data: bytes, at: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    while True:
        count, at = read_long(data, at)
        if count == 0:
            return found, at
        if count < 0:  # the block says how many bytes it has, for those who skip it
            count = -count
            _, at = read_long(data, at)
        for _ in range(count):
            key, at = _read_string(data, at)
            found[key], at = _read_string(data, at)


def _write_boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\0"


def _read_boolean(data: bytes, at: int) -> tuple[bool, int]:
    byte = data[at]
    if byte > 1:
        raise Malformed(f"a boolean has no value {byte}")
    return byte == 1, at + 1


def _write_array(value: Sequence[str]) -> bytes:
    items = b"".join(map(_write_string, value))
    return write_long(len(value)) + items + b"\0" if value else b"\0"


def _read_array(data: bytes, at: int) -> tuple[tuple[str, ...], int]:
    found: list[str] = []
    while True:
        count, at = read_long(data, at)
        if count == 0:
            return tuple(found), at
        if count < 0:  # the block says how many bytes it has, for those who skip it
            count = -count
            _, at = read_long(data, at)
        for _ in range(count):
            item, at = _read_string(data, at)
            found.append(item)


def _enum(symbols: list[str], values: Mapping[str, Any]) -> tuple[Write, Read]:
    ordered = [values[symbol] for symbol in symbols]
    indexes = {value: write_long(index) for index, value in enumerate(ordered)}

    def read(data: bytes, at: int) -> tuple[Any, int]:
        index, at = read_long(data, at)
        if not 0 <= index < len(ordered):
            raise Malformed(f"an enum of {len(ordered)} symbols has none with index {index}")
        return ordered[index], at

    return indexes.__getitem__, read


def _optional(write_some: Write, read_some: Read) -> tuple[Write, Read]:
    def write(value: Any) -> bytes:
        return b"\0" if value is None else b"\x02" + write_some(value)

    def read(data: bytes, at: int) -> tuple[Any, int]:
        branch = data[at]
        if branch == 0:
            return None, at + 1
        if branch == 2:  # zigzag of 1
            return read_some(data, at + 1)
        branch, at = read_long(data, at)
        if branch in (0, 1):  # written longer than needed
            return read_some(data, at) if branch else (None, at)
        raise Malformed(f"a union of two has no branch {branch}")

    return write, read


_PRIMITIVES: Final[Mapping[str, tuple[Write, Read]]] = {
    "boolean": (_write_boolean, _read_boolean),
    "int": (write_long, read_long),
    "long": (write_long, read_long),
    "bytes": (_write_bytes, _read_bytes),
    "string": (_write_string, _read_string),
}


def _array(fields: list[Any], make: Callable[[list[Any]], Any], names: Names) -> tuple[Write, Read]:
    """Return the coder of an array of records of at least one field each."""
    coders = [_coder(field["type"], names) for field in fields]
    writers, readers = [write for write, _ in coders], [read for _, read in coders]

    def write(value: Sequence[tuple[Any, ...]]) -> bytes:
        if not value:
            return b"\0"
        items = [write(part) for item in value for write, part in zip(writers, item, strict=True)]
        return b"".join((write_long(len(value)), *items, b"\0"))

    def read(data: bytes, at: int) -> tuple[Any, int]:
        found: list[Any] = []
        while True:
            count, at = read_long(data, at)
            if count == 0:
                return tuple(found), at
            if count < 0:  # the block says how many bytes it has, for those who skip it
                count = -count
                _, at = read_long(data, at)
            for _ in range(count):
                values = []
                for read in readers:
                    value, at = read(data, at)
                    values.append(value)
                found.append(make(values))

    return write, read


def _coder(schema: Any, names: Names) -> tuple[Write, Read]:
    match schema:
        case str():
            return _PRIMITIVES[schema]
        case ["null", some]:
            return _optional(*_coder(some, names))
        case {"logicalType": "decimal"}:
            return _write_decimal, _read_decimal
        case {"type": "enum", "symbols": symbols}:
            return _enum(symbols, names.symbols)
        case {"type": "map", "values": "string"}:
            return _write_map, _read_map
        case {"type": "array", "items": "string"}:
            return _write_array, _read_array
        case {"type": "array", "items": {"type": "record", "name": str() as name, "fields": [*fields]}}:
            return _array(fields, names.records[name]._make, names)
        case {"type": str() as primitive}:
            return _PRIMITIVES[primitive]
        case _:
            raise TypeError(f"not part of a flat record: {schema}")


def is_flat(schema: Any) -> bool:
    """Whether a value of this type takes about as many bytes as it says: nothing that nests or repeats nothing."""
    match schema:
        case str():
            return schema in ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
        case list():
            return all(not isinstance(branch, list) and is_flat(branch) for branch in schema)
        case {"type": "enum" | "fixed"} | {"type": "map", "values": "string"} | {"type": "array", "items": "string"}:
            return True
        case {"type": "array", "items": {"type": "record", "fields": [first, *rest]}}:
            return first["type"] != "null" and all(is_flat(field["type"]) for field in (first, *rest))
        case {"type": str() as primitive}:
            return is_flat(primitive)
        case _:
            return False


def essence(schema: Any) -> Any:
    """Return what two types must agree on to mean the same: not names, documentation or a language's own hints."""
    match schema:
        case {"type": "record", "fields": fields}:
            return {field["name"]: essence(field["type"]) for field in fields}
        case {"type": "array", "items": items}:
            return [essence(items)]
        case {"type": kind}:
            kept = {
                key: schema[key]
                for key in ("logicalType", "precision", "scale", "symbols", "values")
                if key in schema
            }
            return {"type": kind, **kept} if kept else kind
        case list():
            return [essence(branch) for branch in schema]
        case _:
            return schema


class FlatRecord:
    """Writes and reads the field values of one record schema, in the order of its fields."""

    def __init__(self, schema: Mapping[str, Any], names: Names) -> None:
        coders = [_coder(field["type"], names) for field in schema["fields"]]
        self._writers = tuple(write for write, _ in coders)
        self._readers = tuple(read for _, read in coders)

    def write(self, values: tuple[Any, ...]) -> bytes:
        """Return the record's Avro body."""
        return b"".join([write(value) for write, value in zip(self._writers, values, strict=True)])

    def read(self, data: bytes, at: int) -> list[Any]:
        """Return the values of the record that begins at `at` and takes all the rest of `data`.

        Raises:
            Malformed: truncated, trailing or malformed bytes.
        """
        values = []
        try:
            for read in self._readers:
                value, at = read(data, at)
                values.append(value)
        except IndexError:
            raise Malformed("it ends too early") from None
        except UnicodeDecodeError as error:
            raise Malformed(f"text that is not UTF-8: {error.reason}") from None
        if at != len(data):
            raise Malformed(f"{len(data) - at} bytes too many")
        return values
