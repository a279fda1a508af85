"""Commands and outcomes as bytes."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import schemas
from commands.types import COMMAND_TYPES, STEP_TYPES, Command, Step
from events.codec import (
    HEADER,
    MAGIC,
    EventCodec,
    RecordCodec,
    Schema,
    SchemaLookup,
    TopicCodec,
    Undecodable,
    parsed,
    read_record,
    schema_id_of,
    writers_schema,
)
from events.longs import Malformed, read_long, write_long
from events.types import EVENT_TYPES, Answer

CommandCodec = TopicCodec[Command | Step]

_EVENTS: Final = {schemas.full_name(cls.__name__): cls for cls in EVENT_TYPES}


class Outcome(NamedTuple):
    """What a requester is told: the event that answers the command, and whether it had been asked before.

    `merkle_root` is that of the partition's tree of `tree_size` events, of which the event is one; None for an event
    that is in no log. The event is the same for ever, the tree in which it is told of grows.
    """

    replayed: bool
    partition: int
    event: Answer
    tree_size: int | None = None
    merkle_root: bytes | None = None


_NO_TREE: Final = b"\x00\x00"
_SOME: Final = b"\x02"


def tree_head(size: int, root: bytes) -> bytes:
    """Return the size and root of a tree as an outcome has them."""
    return b"".join((_SOME, write_long(size), _SOME, write_long(len(root)), root))


def command_codec(ids: Mapping[str, int], lookup: SchemaLookup) -> CommandCodec:
    """Return the codec of `ledger.commands`; `ids` maps a schema's short name to its registered id."""
    types = (*COMMAND_TYPES, *STEP_TYPES)
    return TopicCodec({cls: RecordCodec(cls.__name__, cls, ids[cls.__name__]) for cls in types}, lookup)


class OutcomeCodec:
    """Codes the outcomes of all types of commands.

    An outcome holds its event as a record, and Avro writes a record inside another as it writes it alone: so the
    event's bytes, which are there already, are put in as they are.
    """

    def __init__(self, ids: Mapping[str, int], events: EventCodec, lookup: SchemaLookup) -> None:
        bodies = {cls: RecordCodec[Any](cls.__name__, cls, ids[cls.__name__]) for cls in EVENT_TYPES}
        shapes = [(cls, _Shape(f"{cls.__name__}Outcome", ids, bodies)) for cls in COMMAND_TYPES]
        self._by_command = dict(shapes)
        self._by_id = {shape.schema_id: shape for _, shape in shapes}
        self._by_name = {shape.schema["name"]: shape for _, shape in shapes}
        self._events = events
        self._lookup = lookup
        self._others: dict[int, tuple[_Shape, Schema]] = {}

    def encode(self, command: type[Any], *, replayed: bool, partition: int, event: bytes) -> bytes:
        """Return the wire bytes of the outcome of a command of this type; `event` is in its own wire bytes.

        It tells of no tree until it is sealed.
        """
        shape = self._by_command[command]
        branch = shape.branches.get(event[: HEADER.size])
        if branch is None:  # written with an older version of its schema
            event = self._events.encode(self._events.decode(event))
            branch = shape.branches[event[: HEADER.size]]
        return b"".join(
            (
                shape.header,
                b"\x01" if replayed else b"\x00",
                write_long(partition),
                _NO_TREE,
                branch,
                event[HEADER.size :],
            )
        )

    def seal(self, outcome: bytes, heads: Mapping[int, bytes]) -> bytes:
        """Return an outcome, as `encode` gives it, with the head of its partition's tree, as `tree_head` gives it.

        An outcome whose event is in no log stays as it is.
        """
        partition, at = read_long(outcome, HEADER.size + 1)
        rest = at + len(_NO_TREE)
        if outcome[rest + 1] & 1:  # after the branch, of which there are few: the event's sequence, a negative one
            return outcome
        return b"".join((outcome[:at], heads[partition], outcome[rest:]))

    def decode(self, data: bytes) -> Outcome:
        """Return the outcome in `data`; raises `Undecodable`."""
        schema_id = schema_id_of(data)
        if shape := self._by_id.get(schema_id):
            return shape.decode(data)
        shape, writer = self._others.get(schema_id) or self._learn(schema_id)
        record = read_record(data, writer, shape.schema, named_unions=True)
        name, event = cast(tuple[str, dict[str, Any]], record["event"])
        answer = shape.by_name[name].value(event)
        return Outcome(record["replayed"], record["partition"], answer, record["tree_size"], record["merkle_root"])

    def _learn(self, schema_id: int) -> "tuple[_Shape, Schema]":
        """Look up the schema of another version; at most a few exist."""
        name, writer = writers_schema(schema_id, self._lookup)
        if name not in self._by_name:
            raise Undecodable(f"schema {schema_id} is {name}, not an outcome")
        self._others[schema_id] = self._by_name[name], writer
        return self._others[schema_id]


class _Shape:
    """The outcome of one type of command: which events it can hold, and as which branch of its union."""

    def __init__(self, name: str, ids: Mapping[str, int], bodies: Mapping[type[Any], RecordCodec[Any]]) -> None:
        self.schema = parsed(schemas.load(name))
        self.schema_id = ids[name]
        self.header = HEADER.pack(MAGIC, self.schema_id)
        named = [branch if isinstance(branch, str) else _full_name(branch) for branch in _union(name)]
        self._bodies = dict(enumerate(bodies[_EVENTS[event]] for event in named))
        self.branches = {
            HEADER.pack(MAGIC, body.schema_id): write_long(branch) for branch, body in self._bodies.items()
        }
        self.by_name = {body.full_name: body for body in self._bodies.values()}

    def decode(self, data: bytes) -> Outcome:
        """Return the outcome in `data`, which has this very schema."""
        try:
            partition, at = read_long(data, HEADER.size + 1)
            size, root, at = _read_tree(data, at)
            branch, at = read_long(data, at)
            event = self._bodies[branch].read_body(data, at)
            return Outcome(_BOOLEANS[data[HEADER.size]], partition, event, size, root)
        except (LookupError, Malformed) as error:
            raise Undecodable(f"not an outcome: {error}") from error


def _union(name: str) -> list[Any]:
    (event,) = (field["type"] for field in schemas.load(name)["fields"] if field["name"] == "event")
    return cast(list[Any], event)


def _full_name(record: Mapping[str, str]) -> str:
    return f"{record['namespace']}.{record['name']}"


def _read_tree(data: bytes, at: int) -> tuple[int | None, bytes | None, int]:
    """Return the size and the root of an outcome's tree, if it has them, and where they end."""
    size = root = None
    is_there, at = read_long(data, at)
    if is_there:
        size, at = read_long(data, at)
    is_there, at = read_long(data, at)
    if is_there:
        length, at = read_long(data, at)
        root, at = data[at : at + length], at + length
        if len(root) != length:
            raise Malformed(f"a root of {length} bytes where {len(root)} are")
    return size, root, at


_BOOLEANS: Final = {0: False, 1: True}
