"""Bytes to values and back: Avro in the Confluent wire format (magic 0, schema id in 4 bytes, Avro body).

Amounts stay integers on the way: the unscaled value of an Avro `decimal` is what `events.money` calls units. The
codec is given the ids of its own schemas and a way to look up others; it does no I/O of its own.
"""

import io
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar, cast

import fastavro

import schemas
from events import money
from events.avro_types import essence, is_flat
from events.flat import FlatRecord, Names
from events.longs import Malformed
from events.types import EVENT_TYPES, NESTED, EntryType, Event

MAGIC: Final = 0
HEADER: Final = struct.Struct(">BI")
_MOST_REFUSED: Final = 1000
_REFUSED_FOR: Final = 30.0
_ENTRY_TYPES: Final = {member.value: member for member in EntryType}
_NAMES: Final = Names(_ENTRY_TYPES, NESTED)

T = TypeVar("T", bound=tuple[Any, ...])
Schema = dict[str, Any]
SchemaLookup = Callable[[int], Schema]
"""Gives the writer's schema of an id; raises `Undecodable` when there is no such id."""


class Undecodable(ValueError):
    """The bytes are not what the topic promises; `reason` names what is wrong, for the dead letter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def plain(schema: Any) -> Any:
    """Return `schema` without logical types, so that decimals are bytes and times are integers."""
    match schema:
        case {"logicalType": _, "type": str() as primitive}:
            return primitive
        case dict():
            return {key: plain(value) for key, value in schema.items() if key != "doc"}
        case list():
            return [plain(item) for item in schema]
        case _:
            return schema


def parsed(schema: Schema) -> Schema:
    """Return `schema`, plain, in the form that fastavro reads and writes with."""
    return cast(Schema, fastavro.parse_schema(plain(schema), named_schemas={}))


class RecordCodec(Generic[T]):
    """Codes one named tuple whose fields are those of one record schema, in its order.

    Decimals become units, enums their members and arrays tuples; the others pass as they are.
    """

    def __init__(self, name: str, cls: type[T], schema_id: int) -> None:
        self.full_name = schemas.full_name(name)
        self.schema_id = schema_id
        self.registered = schemas.load(name)
        self._schema = parsed(self.registered)
        self._flat = FlatRecord(schemas.load(name), cls, _NAMES)
        self.header = HEADER.pack(MAGIC, schema_id)
        self._names: tuple[str, ...] = tuple(field["name"] for field in schemas.load(name)["fields"])
        self._values = itemgetter(*self._names)
        self._make: Callable[[Iterable[Any]], T] = cls._make  # type: ignore[attr-defined]  # T is a named tuple
        self._from_avro = {
            field["name"]: convert
            for field in self.registered["fields"]
            if (convert := _conversion(field["type"])) is not None
        }

    def encode(self, value: T) -> bytes:
        """Return the wire bytes of `value`."""
        return self.header + self._flat.write(value)

    def decode(self, data: bytes, writer: Schema) -> T:
        """Return the value in `data`, which was written with `writer` (as `parsed` gives it).

        Raises:
            Undecodable: truncated, trailing or malformed bytes.
        """
        if writer is not self._schema:
            return self.value(read_record(data, writer, self._schema))
        return self.decode_own(data)

    def decode_own(self, data: bytes) -> T:
        """Return the value in `data`, which was written with this very schema; raises as `decode`."""
        try:
            return self._flat.read(data, HEADER.size)
        except Malformed as error:
            raise Undecodable(f"not a {self.full_name}: {error}") from error

    def read_body(self, data: bytes, at: int) -> T:
        """Return the value whose record, of this very schema, takes the rest of `data` from `at`; or `Malformed`."""
        return self._flat.read(data, at)

    def value(self, record: dict[str, Any]) -> T:
        """Return the value of a record whose decimals are bytes."""
        for name, convert in self._from_avro.items():
            if record[name] is not None:
                record[name] = convert(record[name])
        return self._make(self._values(record))

    @property
    def schema(self) -> Schema:
        """The codec's own schema, as `parsed` gives it."""
        return self._schema


def _conversion(schema: Any) -> Callable[[Any], Any] | None:
    """Return what makes our value of what fastavro reads for this type; None when it is the same."""
    match schema:
        case ["null", some]:
            return _conversion(some)
        case {"logicalType": "decimal"}:
            return money.from_bytes
        case {"type": "enum"}:
            return _ENTRY_TYPES.__getitem__
        case {"type": "array", "items": {"type": "record", "name": str() as name, "fields": fields}}:
            return lambda items: tuple(_nested(NESTED[name], fields, item) for item in items)
        case {"type": "array"}:
            return tuple
        case _:
            return None


def _nested(make: type[Any], fields: Iterable[Any], item: dict[str, Any]) -> Any:
    values = ((_conversion(field["type"]), item[field["name"]]) for field in fields)
    return make(*(value if convert is None or value is None else convert(value) for convert, value in values))


def read_record(data: bytes, writer: Schema, reader: Schema, *, named_unions: bool = False) -> dict[str, Any]:
    """Return the record behind the header of `data`, written with `writer`, as `reader` has it.

    With `named_unions`, a union of records is a pair of the type's full name and the record.

    Raises:
        Undecodable: truncated, trailing or malformed bytes.
    """
    body = io.BytesIO(data)
    body.seek(HEADER.size)
    try:
        record = fastavro.schemaless_reader(
            body, writer, None if writer is reader else reader, return_record_name=named_unions
        )
    except Exception as error:
        name = f"{reader.get('namespace', '')}.{reader['name']}".lstrip(".")
        raise Undecodable(f"not a {name}: {type(error).__name__}: {error}"[:200]) from error
    if body.tell() != len(data):
        raise Undecodable(f"{len(data) - body.tell()} bytes too many after the record")
    return cast(dict[str, Any], record)


def schema_id_of(data: bytes | None) -> int:
    """Return the schema id in the header of `data`; raises `Undecodable` when there is none."""
    if data is None or len(data) < HEADER.size:
        raise Undecodable("empty value" if not data else "shorter than the 5-byte header")
    magic, schema_id = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Undecodable(f"starts with byte {magic}, not the magic byte 0 of the wire format")
    return int(schema_id)


def writers_schema(schema_id: int, lookup: SchemaLookup) -> tuple[str, Schema]:
    """Return the full name of the record schema with this id, and the schema as `parsed` gives it.

    Raises:
        Undecodable: there is none, or it is no record's: a registry holds other things too.
    """
    found: Any = lookup(schema_id)
    try:
        schema: Any = parsed(found)
    except Exception as error:  # whatever fastavro says of what it can't read
        raise Undecodable(f"schema {schema_id} can't be read with: {error}"[:200]) from error
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise Undecodable(f"schema {schema_id} is no record's")
    return str(schema["name"]), schema


def check_readable(schema_id: int, writer: Schema, own: Schema) -> None:
    """See that records written with `writer` mean what those of `own` mean; both schemas as they are registered.

    Anyone may register a schema of the same name under another subject. Fields that both have must have the same
    type, logical type and scale included: Avro's own promotions would take the text "12.50" for an amount. And all
    must be flat, so that reading a record takes no more than the record is long.

    Raises:
        Undecodable: they differ.
    """
    own_types = {field["name"]: field["type"] for field in own["fields"]}
    for field in writer.get("fields", ()):
        if not is_flat(field["type"]):
            raise Undecodable(f"schema {schema_id}: field {field['name']} is of no flat type")
        if field["name"] in own_types and essence(field["type"]) != essence(own_types[field["name"]]):
            raise Undecodable(f"schema {schema_id}: field {field['name']} is of another type than ours")


class TopicCodec(Generic[T]):
    """Codes the values of one topic, which holds records of one or more types."""

    def __init__(self, codecs: Mapping[type[Any], RecordCodec[Any]], lookup: SchemaLookup) -> None:
        self._by_type = dict(codecs)
        self._by_name = {codec.full_name: codec for codec in codecs.values()}
        self._own: dict[bytes, RecordCodec[Any]] = {codec.header: codec for codec in codecs.values()}
        self._others: dict[int, tuple[RecordCodec[Any], Schema]] = {}
        self._lookup = lookup
        self._refused: dict[int, tuple[float, str]] = {}

    def encode(self, value: T) -> bytes:
        """Return the wire bytes of `value`."""
        return self._by_type[type(value)].encode(value)

    def decode(self, data: bytes | None) -> T:
        """Return the value in `data`.

        Raises:
            Undecodable: no Confluent wire format, an unknown schema id, another topic's type, malformed Avro.
        """
        value: T
        if data is not None and (own := self._own.get(data[: HEADER.size])) is not None:
            value = own.decode_own(data)
            return value
        schema_id = schema_id_of(data)
        codec, writer = self._others.get(schema_id) or self._reader(schema_id)
        value = codec.decode(data or b"", writer)
        return value

    def _reader(self, schema_id: int) -> tuple[RecordCodec[Any], Schema]:
        """Learn of an id that is not ours; one that was refused is refused for a while without asking again."""
        until, reason = self._refused.get(schema_id, (0.0, ""))
        if time.monotonic() < until:
            raise Undecodable(reason)
        try:
            return self._learn(schema_id)
        except Undecodable as error:
            if len(self._refused) >= _MOST_REFUSED:
                self._refused.clear()
            self._refused[schema_id] = (time.monotonic() + _REFUSED_FOR, error.reason)
            raise

    def _learn(self, schema_id: int) -> tuple[RecordCodec[Any], Schema]:
        """Look up the schema of another version; at most a few exist."""
        found = self._lookup(schema_id)
        name, schema = writers_schema(schema_id, lambda _: found)
        codec = self._by_name.get(name)
        if codec is None:
            raise Undecodable(f"schema {schema_id} is {name}, which this topic does not hold")
        check_readable(schema_id, found, codec.registered)
        self._others[schema_id] = (codec, schema)
        return self._others[schema_id]


EventCodec = TopicCodec[Event]


def event_codec(ids: Mapping[str, int], lookup: SchemaLookup) -> EventCodec:
    """Return the codec of `ledger.events`; `ids` maps a schema's short name to its registered id."""
    return TopicCodec({cls: RecordCodec(cls.__name__, cls, ids[cls.__name__]) for cls in EVENT_TYPES}, lookup)
