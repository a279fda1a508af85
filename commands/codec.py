"""Commands and outcomes as bytes."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import schemas
from commands.types import PostEntry
from events.codec import (
    HEADER,
    MAGIC,
    EventCodec,
    RecordCodec,
    SchemaLookup,
    TopicCodec,
    Undecodable,
    parsed,
    read_record,
    schema_id_of,
    writers_schema,
)
from events.flat import Malformed, read_long, write_long
from events.types import AccountEvent, CommandRejected, EntryPosted

CommandCodec = TopicCodec[PostEntry]

_OUTCOME: Final = "PostEntryOutcome"


class Outcome(NamedTuple):
    """What a requester is told: the event that answers the command, and whether it had been asked before."""

    replayed: bool
    partition: int
    event: AccountEvent


def command_codec(ids: Mapping[str, int], lookup: SchemaLookup) -> CommandCodec:
    """Return the codec of `ledger.commands`; `ids` maps a schema's short name to its registered id."""
    return TopicCodec({PostEntry: RecordCodec("PostEntry", PostEntry, ids["PostEntry"])}, lookup)


class OutcomeCodec:
    """Codes outcomes.

    An outcome holds its event as a record, and Avro writes a record inside another as it writes it alone: so the
    event's bytes, which are there already, are put in as they are.
    """

    def __init__(self, ids: Mapping[str, int], events: EventCodec, lookup: SchemaLookup) -> None:
        self._schema = parsed(schemas.load(_OUTCOME))
        self._id = ids[_OUTCOME]
        self._header = HEADER.pack(MAGIC, self._id)
        self._branches = {HEADER.pack(MAGIC, ids[cls.__name__]): write_long(i) for i, cls in enumerate(_BRANCHES)}
        self._bodies = {
            branch: RecordCodec[Any](cls.__name__, cls, ids[cls.__name__]) for branch, cls in enumerate(_BRANCHES)
        }
        self._events = events
        self._lookup = lookup
        self._writers: dict[int, Any] = {self._id: self._schema}
        self._records = {body.full_name: body for body in self._bodies.values()}

    def encode(self, *, replayed: bool, partition: int, event: bytes) -> bytes:
        """Return the wire bytes of the outcome of an event, given as its own wire bytes."""
        branch = self._branches.get(event[: HEADER.size])
        if branch is None:  # written with an older version of its schema
            event = self._events.encode(self._events.decode(event))
            branch = self._branches[event[: HEADER.size]]
        return b"".join(
            (self._header, b"\x01" if replayed else b"\x00", write_long(partition), branch, event[HEADER.size :])
        )

    def decode(self, data: bytes) -> Outcome:
        """Return the outcome in `data`; raises `Undecodable`."""
        schema_id = schema_id_of(data)
        if schema_id == self._id:
            return self._decode_own(data)
        writer = self._writers.get(schema_id)
        if writer is None:
            name, writer = writers_schema(schema_id, self._lookup)
            if name != self._schema["name"]:
                raise Undecodable(f"schema {schema_id} is {name}, not an outcome")
            self._writers[schema_id] = writer
        record = read_record(data, writer, self._schema, named_unions=True)
        name, event = cast(tuple[str, dict[str, Any]], record["event"])
        return Outcome(record["replayed"], record["partition"], self._records[name].value(event))

    def _decode_own(self, data: bytes) -> Outcome:
        try:
            partition, at = read_long(data, HEADER.size + 1)
            branch, at = read_long(data, at)
            event = self._bodies[branch].read_body(data, at)
            return Outcome(_BOOLEANS[data[HEADER.size]], partition, event)
        except (LookupError, Malformed) as error:
            raise Undecodable(f"not an outcome: {error}") from error


_BOOLEANS: Final = {0: False, 1: True}
_BRANCHES: Final = (EntryPosted, CommandRejected)
