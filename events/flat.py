"""Flat Avro records, fast: the writer and the reader of one schema, put together once and used by the million.

The handler reads one record and writes two or more for every command, and with fastavro, which finds out anew for
each field of each record what its type is, that was more than half of all its work (docs/adr/0006). So from each
schema the source of a function is composed that does just what its fields need, one after the other, without a call
for each, and is compiled once; `source_of` shows it. Records whose fields are boolean, int, long, string, bytes,
decimal, an enum, a map or array of strings, null-or-one-of-these, or an array of such records are coded here.
fastavro is the reference (the tests hold both against each other, for malformed bytes too), and codes all else:
records of other schema versions, and outcomes.

Binary encoding as in the Avro 1.12 specification. Decimals are integers: the unscaled value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any, Final, Generic, TypeVar

from events.longs import LONGS, Malformed, read_branch, read_count, read_length, read_long, write_long

T = TypeVar("T", bound=tuple[Any, ...])
Schema = Mapping[str, Any]
Write = Callable[[Any], bytes]
Read = Callable[[bytes, int], tuple[Any, int]]
"""Takes the data and a position, and returns the value and the position after it."""


@dataclass(frozen=True, slots=True)
class Names:
    """What stands for the names in a schema: values for an enum's symbols, named tuples for nested records."""

    symbols: Mapping[str, Any]
    records: Mapping[str, type[Any]]


def _write_text(value: str) -> bytes:
    raw = value.encode()
    return LONGS[len(raw)] + raw


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    length, at = read_length(data, at)
    end = at + length
    return data[at:end].decode(), end


def _write_map(value: Mapping[str, str]) -> bytes:
    items = b"".join(_write_text(key) + _write_text(item) for key, item in value.items())
    return LONGS[len(value)] + items + b"\0" if value else b"\0"


def _read_map(data: bytes, at: int) -> tuple[dict[str, str], int]:
    found: dict[str, str] = {}
    while True:
        count, at = read_count(data, at)
        if count == 0:
            return found, at
        for _ in range(count):
            key, at = _read_text(data, at)
            found[key], at = _read_text(data, at)


def _array(write_item: Write, read_item: Read) -> tuple[Write, Read]:
    """Return the coder of an array whose items take at least one byte each."""

    def write(value: Sequence[Any]) -> bytes:
        return b"".join((LONGS[len(value)], *map(write_item, value), b"\0")) if value else b"\0"

    def read(data: bytes, at: int) -> tuple[Any, int]:
        found: list[Any] = []
        while True:
            count, at = read_count(data, at)
            if count == 0:
                return tuple(found), at
            for _ in range(count):
                item, at = read_item(data, at)
                found.append(item)

    return write, read


def _symbol_reader(members: Sequence[Any]) -> Read:
    def read(data: bytes, at: int) -> tuple[Any, int]:
        index, at = read_long(data, at)
        if not 0 <= index < len(members):
            raise Malformed(f"an enum of {len(members)} symbols has none with index {index}")
        return members[index], at

    return read


# What is composed. `{value}` is the name of a variable; those that read move `at`. A length that goes beyond the end
# is not looked for here: whatever is read next is an `IndexError` then, or there are bytes too many.

_READ_LONG: Final = """\
{value} = data[at]
if {value} < 0x80:
    {value} = ({value} >> 1) ^ -({value} & 1)
    at += 1
else:
    {value}, at = read_long(data, at)
"""
_READ_BYTES: Final = """\
size = data[at]
if size < 0x80 and not size & 1:
    at += 1
    size >>= 1
else:
    size, at = read_length(data, at)
{value} = data[at : at + size]
at += size
"""
_READ_TEXT: Final = _READ_BYTES.replace("size]", "size].decode()")
_READ_DECIMAL: Final = _READ_BYTES.replace(
    "data[at : at + size]", 'from_bytes(data[at : at + size], "big", signed=True)'
)
_READ_BOOLEAN: Final = """\
{value} = data[at] == 1
if data[at] > 1:
    raise Malformed(f"a boolean has no value {{data[at]}}")
at += 1
"""
_READ_ENUM: Final = """\
{value} = {members}.get(data[at])
if {value} is None:
    {value}, at = {read}(data, at)
else:
    at += 1
"""
_READ_OPTIONAL: Final = """\
branch = data[at]
at += 1
if branch and branch != 2:
    branch, at = read_branch(data, at - 1)
if branch:
{some}
else:
    {value} = None
"""
_RECORD: Final = """\
def write(record):
    {values}, = record
    return join(({parts},))


def read(data, at):
{lines}
    return new(kind, ({values},)), at
"""
_SCOPE: Final[Mapping[str, Any]] = {
    "Malformed": Malformed,
    "from_bytes": int.from_bytes,
    "join": b"".join,
    "longs": LONGS,
    "new": tuple.__new__,
    "read_branch": read_branch,
    "read_length": read_length,
    "read_long": read_long,
}
_PRIMITIVES: Final[Mapping[str, tuple[Sequence[str], str]]] = {
    "boolean": (['(b"\\1" if {value} else b"\\0")'], _READ_BOOLEAN),
    "int": (["longs[{value}]"], _READ_LONG),
    "long": (["longs[{value}]"], _READ_LONG),
    "bytes": (["longs[len({value})]", "{value}"], _READ_BYTES),
    "string": (["longs[len(raw := {value}.encode())]", "raw"], _READ_TEXT),
}
_DECIMAL: Final = (
    ["longs[size := ({value}.bit_length() + 8) >> 3]", '{value}.to_bytes(size, "big", signed=True)'],
    _READ_DECIMAL,
)


@dataclass(frozen=True, slots=True)
class _Composer:
    """Composes the source for one record; what that calls by a name of its own goes into `scope`."""

    names: Names
    scope: dict[str, Any] = field(default_factory=lambda: dict(_SCOPE))

    def record(self, fields: Sequence[Schema]) -> str:
        """Return the source of `write` and `read` for records with these fields."""
        values = [f"{each['name']}_" for each in fields]
        coders = [self._source(each["type"], value) for each, value in zip(fields, values, strict=True)]
        return _RECORD.format(
            values=", ".join(values),
            parts=", ".join(part for parts, _ in coders for part in parts),
            lines=indent("".join(lines for _, lines in coders).rstrip(), "    "),
        )

    def _source(self, schema: Any, value: str) -> tuple[list[str], str]:
        """Return expressions for the bytes of the variable `value`, in their order, and lines that read into it."""
        match schema:
            case ["null", some]:
                parts, lines = self._source(some, value)
                is_some = " + ".join(parts)
                return (
                    [f'(b"\\0" if {value} is None else b"\\2" + {is_some})'],
                    _READ_OPTIONAL.format(some=indent(lines.rstrip(), "    "), value=value),
                )
            case {"type": "enum", "symbols": [*symbols]}:
                return self._enum([self.names.symbols[symbol] for symbol in symbols], value)
            case {"type": "map", "values": "string"}:
                return self._call(_write_map, _read_map, value)
            case {"type": "array", "items": "string"}:
                return self._call(*_array(_write_text, _read_text), value)
            case {"type": "array", "items": {"type": "record", "name": str() as name, "fields": [*fields]}}:
                return self._call(*_array(*_compiled(fields, self.names.records[name], self.names)), value)
            case _:
                parts_of, lines_of = _DECIMAL if _is_decimal(schema) else _primitive(schema)
                return [part.format(value=value) for part in parts_of], lines_of.format(value=value)

    def _enum(self, members: Sequence[Any], value: str) -> tuple[list[str], str]:
        write, read, by_byte = f"write_{value}", f"read_{value}", f"members_{value}"
        self.scope[write] = {member: write_long(index) for index, member in enumerate(members)}
        self.scope[by_byte] = {write_long(index)[0]: member for index, member in enumerate(members[:64])}
        self.scope[read] = _symbol_reader(members)
        return [f"{write}[{value}]"], _READ_ENUM.format(value=value, members=by_byte, read=read)

    def _call(self, write: Write, read: Read, value: str) -> tuple[list[str], str]:
        self.scope.update({f"write_{value}": write, f"read_{value}": read})
        return [f"write_{value}({value})"], f"{value}, at = read_{value}(data, at)\n"


def _is_decimal(schema: Any) -> bool:
    return isinstance(schema, Mapping) and schema.get("logicalType") == "decimal"


def _primitive(schema: Any) -> tuple[Sequence[str], str]:
    kind = schema["type"] if isinstance(schema, Mapping) else schema
    if kind not in _PRIMITIVES:
        raise TypeError(f"not part of a flat record: {schema}")
    return _PRIMITIVES[kind]


def _compiled(fields: Sequence[Schema], kind: type[Any], names: Names) -> tuple[Write, Read]:
    composer = _Composer(names)
    source = composer.record(fields)
    composer.scope["kind"] = kind
    exec(compile(source, f"<coder of {kind.__name__}>", "exec"), composer.scope)  # noqa: S102  # composed from our schemas
    return composer.scope["write"], composer.scope["read"]


def source_of(schema: Schema, names: Names) -> str:
    """Return the source that is composed for the records of `schema`, to be read by people."""
    return _Composer(names).record(schema["fields"])


class FlatRecord(Generic[T]):
    """Writes and reads the records of one schema, as named tuples that have its fields in its order."""

    def __init__(self, schema: Schema, kind: type[T], names: Names) -> None:
        self.write, self._read = _compiled(schema["fields"], kind, names)

    def read(self, data: bytes, at: int) -> T:
        """Return the record that begins at `at` and takes all the rest of `data`.

        Raises:
            Malformed: truncated, trailing or malformed bytes.
        """
        value: T
        try:
            value, at = self._read(data, at)
        except IndexError:
            raise Malformed("it ends too early") from None
        except UnicodeDecodeError as error:
            raise Malformed(f"text that is not UTF-8: {error.reason}") from None
        if at > len(data):
            raise Malformed("it ends too early")
        if at != len(data):
            raise Malformed(f"{len(data) - at} bytes too many")
        return value
