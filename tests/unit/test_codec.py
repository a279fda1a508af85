"""Bytes to values and back, and bytes that are none."""

import copy
import io
from collections.abc import Callable
from typing import Any

import fastavro
import pytest

import schemas
from commands.codec import Outcome, OutcomeCodec, command_codec
from commands.types import PostEntry
from events.codec import Undecodable, event_codec
from events.money import MAX_UNITS, to_decimal
from events.types import EntryPosted, PartitionOpened
from tests.support.samples import (
    CODECS,
    DEBIT,
    IDS,
    NOON,
    UNIT,
    no_such_schema,
    post,
    posted,
    rejected,
    with_amount_bytes,
)

HEADER = b"\0" + IDS["PostEntry"].to_bytes(4, "big")
FULL = post(
    "счёт",
    MAX_UNITS,
    DEBIT,
    reply_key="r",
    reference="r \N{GRINNING FACE}",
    metadata="{}",
    effective_at=NOON,
    expected_version=2**63 - 1,
)


def knowing(schema: Any, schema_id: int = 77) -> Callable[[int], dict[str, Any]]:
    """Be a registry that knows one more schema."""

    def lookup(wanted: int) -> dict[str, Any]:
        found: dict[str, Any] = schema if wanted == schema_id else no_such_schema(wanted)
        return found

    return lookup


def written(schema: Any, record: Any, schema_id: int = 77) -> bytes:
    """Return `record` as plain fastavro writes it with `schema`, logical types and all."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return b"\0" + schema_id.to_bytes(4, "big") + out.getvalue()


def changed(name: str, **fields: Any) -> dict[str, Any]:
    """Return the schema called `name` with other fields at its end, or without those that are None."""
    schema = copy.deepcopy(schemas.load(name))
    schema["fields"] = [field for field in schema["fields"] if field["name"] not in fields]
    schema["fields"] += [{"name": name, **field} for name, field in fields.items() if field is not None]
    return schema


@pytest.mark.parametrize("command", [post(), FULL])
def test_a_command_comes_back_as_it_was(command: PostEntry) -> None:
    assert CODECS.commands.decode(CODECS.commands.encode(command)) == command


@pytest.mark.parametrize(
    "event", [PartitionOpened(0, 1, NOON, 3, 12), posted(), posted(amount=MAX_UNITS, metadata="{}"), rejected()]
)
def test_an_event_comes_back_as_it_was(event: Any) -> None:
    decoded = CODECS.events.decode(CODECS.events.encode(event))
    assert decoded == event
    assert type(decoded) is type(event)


def test_the_header_is_confluents() -> None:
    assert CODECS.commands.encode(post())[:5] == HEADER


def test_plain_fastavro_reads_what_we_write() -> None:
    body = io.BytesIO(CODECS.commands.encode(FULL)[5:])
    read: Any = fastavro.schemaless_reader(body, fastavro.parse_schema(schemas.load("PostEntry")), None)
    assert read["amount"] == to_decimal(MAX_UNITS)
    assert read["entry_type"] == "DEBIT"
    assert (read["account_id"], read["reference"]) == (FULL.account_id, FULL.reference)


def test_we_read_what_plain_fastavro_writes() -> None:
    record = FULL._asdict() | {"amount": to_decimal(FULL.amount), "entry_type": "DEBIT"}
    assert CODECS.commands.decode(written(schemas.load("PostEntry"), record, IDS["PostEntry"])) == FULL


def test_a_decimal_padded_by_another_language_is_the_same_amount() -> None:
    padded = with_amount_bytes(post(), UNIT.to_bytes(16, "big"))
    assert padded != CODECS.commands.encode(post(amount=UNIT))
    assert CODECS.commands.decode(padded) == post(amount=UNIT)
    assert CODECS.commands.decode(with_amount_bytes(post(), b"")) == post(amount=0)


def _enum_at(index: int) -> bytes:
    data = bytearray(CODECS.commands.encode(post("alice")))
    data[data.index(b"alice") + 5] = index
    return bytes(data)


GOOD = CODECS.commands.encode(post())
BAD: dict[str, tuple[bytes | None, str]] = {
    "none": (None, "empty value"),
    "empty": (b"", "empty value"),
    "short": (b"\0\0\0\0", "shorter than the 5-byte header"),
    "json": (b'{"command_id":"c"}', "starts with byte 123"),
    "no body": (HEADER, "not a partita.commands.PostEntry"),
    "unknown id": (b"\0\xff\xff\xff\xff" + GOOD[5:], "no schema with id 4294967295"),
    "another topic's type": (CODECS.events.encode(posted()), "no schema with id"),
    "trailing": (GOOD + b"\0", "1 bytes too many"),
    "twice": (GOOD + GOOD, "bytes too many"),
    "enum index 2": (_enum_at(4), "not a partita.commands.PostEntry"),
    "enum index 63": (_enum_at(126), "not a partita.commands.PostEntry"),
    "not utf-8": (GOOD.replace(b"alice", b"al\xffce"), "not a partita.commands.PostEntry"),
    "long string": (HEADER + b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01abc", "not a partita.commands.PostEntry"),
}


@pytest.mark.parametrize(("data", "says"), BAD.values(), ids=BAD.keys())
def test_what_is_no_command_is_undecodable_and_says_why(data: bytes | None, says: str) -> None:
    with pytest.raises(Undecodable, match=says) as refused:
        CODECS.commands.decode(data)
    assert len(refused.value.reason) <= 200


@pytest.mark.parametrize("index", [1, 3], ids=["-1", "-2"])
def test_a_negative_enum_index_is_undecodable(index: int) -> None:
    with pytest.raises(Undecodable):
        CODECS.commands.decode(_enum_at(index))


@pytest.mark.parametrize("kind", ["command", "posted", "rejected", "opened"])
def test_no_truncation_passes(kind: str) -> None:
    codec: Any = CODECS.commands if kind == "command" else CODECS.events
    value = {"command": FULL, "posted": posted(), "rejected": rejected(), "opened": PartitionOpened(0, 1, 2, 3, 4)}
    data = codec.encode(value[kind])
    for length in range(len(data)):
        with pytest.raises(Undecodable):
            codec.decode(data[:length])


def test_another_topics_type_is_named() -> None:
    codec = command_codec(IDS, knowing(schemas.load("EntryPosted")))
    with pytest.raises(
        Undecodable, match=r"schema 77 is partita\.events\.EntryPosted, which this topic does not hold"
    ):
        codec.decode(b"\0\0\0\0\x4d" + GOOD[5:])


@pytest.mark.parametrize(
    "schema",
    [
        "string",
        {"type": "string"},
        ["null", "string"],
        {"type": "enum", "name": "EntryType", "symbols": ["A"]},
        {
            "type": "record",
            "name": "PostEntry",
            "namespace": "partita.commands",
            "fields": [{"name": "x", "type": "y"}],
        },
        {"type": "record", "name": "PostEntry", "namespace": "partita.commands", "fields": []},
        {},
        7,
    ],
    ids=lambda schema: str(schema)[:30],
)
def test_an_id_of_a_schema_that_is_not_ours_is_undecodable(schema: Any) -> None:
    """A registry holds other things too: keys are often of the schema "string"."""
    for decode in (
        command_codec(IDS, knowing(schema)).decode,
        event_codec(IDS, knowing(schema)).decode,
        OutcomeCodec(IDS, CODECS.events, knowing(schema)).decode,
    ):
        with pytest.raises(Undecodable):
            decode(b"\0\0\0\0\x4d" + GOOD[5:])


def test_a_full_name_may_be_written_in_one_piece() -> None:
    schema = changed("PostEntry") | {"name": "partita.commands.PostEntry"}
    del schema["namespace"]
    assert command_codec(IDS, knowing(schema)).decode(b"\0\0\0\0\x4d" + GOOD[5:]) == post()


def test_a_command_of_an_older_and_of_a_newer_version_is_read() -> None:
    older = changed("PostEntry", expected_version=None)
    record = post(metadata="{}")._asdict() | {"amount": to_decimal(UNIT), "entry_type": "CREDIT"}
    assert command_codec(IDS, knowing(older)).decode(written(older, record)) == post(metadata="{}")
    newer = changed("PostEntry", urgent={"type": "boolean", "default": False})
    assert command_codec(IDS, knowing(newer)).decode(written(newer, record | {"urgent": True})) == post(metadata="{}")


def test_a_schema_is_looked_up_once() -> None:
    asked: list[int] = []

    def lookup(schema_id: int) -> dict[str, Any]:
        asked.append(schema_id)
        return schemas.load("PostEntry")

    codec = command_codec(IDS, lookup)
    for _ in range(3):
        codec.decode(b"\0\0\0\0\x4d" + GOOD[5:])
    assert asked == [77]


OUTCOMES = [
    Outcome(replayed, partition, event)
    for replayed in (False, True)
    for partition in (0, 63, 64, 999)
    for event in (posted(metadata="{}", reference="r", effective_at=1), rejected())
]


def _encoded(outcome: Outcome) -> bytes:
    return CODECS.outcomes.encode(
        PostEntry, replayed=outcome.replayed, partition=outcome.partition, event=CODECS.events.encode(outcome.event)
    )


def _as_record(outcome: Outcome) -> dict[str, Any]:
    event: dict[str, Any] = outcome.event._asdict()
    for name in ("amount", "running_balance", "balance"):
        if name in event:
            event[name] = to_decimal(event[name])
    name = schemas.full_name(type(outcome.event).__name__)
    return {"replayed": outcome.replayed, "partition": outcome.partition, "event": (name, event)}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_is_what_plain_fastavro_writes(outcome: Outcome) -> None:
    schema = schemas.load("PostEntryOutcome")
    assert _encoded(outcome) == written(schema, _as_record(outcome), IDS["PostEntryOutcome"])
    assert CODECS.outcomes.decode(_encoded(outcome)) == outcome


@pytest.mark.parametrize("outcome", OUTCOMES[:2])
def test_no_truncated_outcome_passes(outcome: Outcome) -> None:
    data = _encoded(outcome)
    for length in range(len(data)):
        with pytest.raises(Undecodable):
            CODECS.outcomes.decode(data[:length])
    with pytest.raises(Undecodable):
        CODECS.outcomes.decode(data + b"\0")


def test_an_event_of_an_older_version_inside_an_outcome_is_brought_up_to_date() -> None:
    older = changed("EntryPosted", effective_at=None)
    record = posted()._asdict() | {"amount": to_decimal(UNIT), "running_balance": to_decimal(UNIT)}
    data = written(older, record)
    events = event_codec(IDS, knowing(older))
    outcomes = OutcomeCodec(IDS, events, no_such_schema)
    outcome = outcomes.decode(outcomes.encode(PostEntry, replayed=True, partition=3, event=data))
    assert outcome == Outcome(True, 3, posted())
    assert isinstance(outcome.event, EntryPosted)


def test_an_outcome_of_a_newer_version_is_read() -> None:
    newer = changed("PostEntryOutcome", took_micros={"type": ["null", "long"], "default": None})
    codec = OutcomeCodec(IDS, CODECS.events, knowing(newer))
    outcome = Outcome(False, 1, rejected())
    assert codec.decode(written(newer, _as_record(outcome) | {"took_micros": 5})) == outcome


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("amount", {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}),
        ("amount", "bytes"),
        ("amount", "string"),
        ("effective_at", ["null", {"type": "long", "logicalType": "timestamp-millis"}]),
        ("effective_at", ["null", "long"]),
        ("extra", {"type": "array", "items": "null"}),
        ("extra", ["null", "partita.commands.PostEntry"]),
        ("extra", {"type": "map", "values": {"type": "array", "items": "null"}}),
    ],
    ids=str,
)
def test_a_writer_who_means_something_else_by_a_field_is_refused(field: str, kind: Any) -> None:
    """Under another subject anyone may register one: its 12.50 must not become another amount here."""
    schema = copy.deepcopy(schemas.load("PostEntry"))
    kept = [own for own in schema["fields"] if own["name"] != field]
    schema["fields"] = [*kept, {"name": field, "type": kind}]
    with pytest.raises(Undecodable, match=field):
        command_codec(IDS, knowing(schema)).decode(b"\0\0\0\0\x4d" + GOOD[5:])


def test_javas_hints_change_nothing() -> None:
    schema = copy.deepcopy(schemas.load("PostEntry"))
    for field in schema["fields"]:
        if field["type"] == "string":
            field["type"] = {"type": "string", "avro.java.string": "String"}
    assert command_codec(IDS, knowing(schema)).decode(b"\0\0\0\0\x4d" + GOOD[5:]) == post()


def test_an_id_that_is_not_there_is_not_asked_for_again_and_again() -> None:
    asked: list[int] = []

    def lookup(schema_id: int) -> dict[str, Any]:
        asked.append(schema_id)
        return no_such_schema(schema_id)

    codec = command_codec(IDS, lookup)
    for _ in range(100):
        with pytest.raises(Undecodable):
            codec.decode(b"\0\0\0\0\x4d" + GOOD[5:])
    assert asked == [77]
