"""Whatever is valid comes back as it was; whatever isn't is `Undecodable` and nothing else."""

import io
from contextlib import suppress
from typing import Any

import fastavro
from hypothesis import given
from hypothesis import strategies as st

import schemas
from commands.codec import Outcome
from commands.types import PostEntry
from events import money
from events.codec import Undecodable, parsed
from events.types import Event, PartitionOpened
from tests.properties import strategies as some
from tests.support.samples import CODECS, IDS


@given(some.commands)
def test_every_command_comes_back(command: PostEntry) -> None:
    assert CODECS.commands.decode(CODECS.commands.encode(command)) == command


@given(some.events)
def test_every_event_comes_back(event: Event) -> None:
    decoded = CODECS.events.decode(CODECS.events.encode(event))
    assert decoded == event
    assert type(decoded) is type(event)


@given(some.outcomes)
def test_every_outcome_comes_back(outcome: Outcome) -> None:
    event = CODECS.events.encode(outcome.event)
    data = CODECS.outcomes.encode(replayed=outcome.replayed, partition=outcome.partition, event=event)
    assert CODECS.outcomes.decode(data) == outcome
    assert event[5:] in data


@given(some.commands | some.events)
def test_fastavro_writes_the_same_bytes(value: PostEntry | Event) -> None:
    codec: Any = CODECS.commands if isinstance(value, PostEntry) else CODECS.events
    record: dict[str, Any] = value._asdict()
    for name in ("amount", "running_balance", "balance"):
        if name in record:
            record[name] = money.to_bytes(record[name])
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed(schemas.load(type(value).__name__)), record)
    assert codec.encode(value)[5:] == out.getvalue()


@given(st.integers())
def test_money_comes_back_from_bytes(units: int) -> None:
    assert money.from_bytes(money.to_bytes(units)) == units
    padding = b"\xff" if units < 0 else b"\0"
    assert money.from_bytes(padding * 3 + money.to_bytes(units)) == units


@given(some.units)
def test_money_comes_back_from_text_and_decimals(units: int) -> None:
    assert money.to_units(money.to_text(units)) == units
    assert money.to_units(money.to_decimal(units)) == units
    assert money.to_units(money.to_scaled(units)) == units


@given(st.integers(0, 62).map(lambda bits: 1 << bits), st.integers(-2, 2), st.sampled_from([1, -1]))
def test_an_integer_takes_as_few_bytes_as_can_be(power: int, beside: int, sign: int) -> None:
    value = (power + beside) * sign
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    event = PartitionOpened(value, 0, 0, 0, 0)
    assert CODECS.events.encode(event)[5:] == out.getvalue() + b"\0" * 4
    assert CODECS.events.decode(CODECS.events.encode(event)) == event


def _decodes_or_says_why(data: bytes) -> None:
    for decode in (CODECS.commands.decode, CODECS.events.decode, CODECS.outcomes.decode):
        with suppress(Undecodable):
            decode(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_decoded_or_undecodable(data: bytes) -> None:
    _decodes_or_says_why(data)


@given(st.sampled_from(sorted(IDS.values())), st.binary(max_size=300))
def test_any_bytes_behind_a_good_header_are_decoded_or_undecodable(schema_id: int, body: bytes) -> None:
    _decodes_or_says_why(b"\0" + schema_id.to_bytes(4, "big") + body)


@given(some.commands | some.events, st.data())
def test_one_changed_byte_is_decoded_or_undecodable(value: PostEntry | Event, data: st.DataObject) -> None:
    codec: Any = CODECS.commands if isinstance(value, PostEntry) else CODECS.events
    encoded = bytearray(codec.encode(value))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    _decodes_or_says_why(bytes(encoded))


@given(st.sampled_from(["PostEntry", "EntryPosted", "CommandRejected"]), st.binary(max_size=120))
def test_what_we_read_fastavro_reads_the_same(name: str, body: bytes) -> None:
    """fastavro is the laxer of the two: what our own reader takes, it takes too, and finds the same in it."""
    codec: Any = CODECS.commands if name == "PostEntry" else CODECS.events
    try:
        value = codec.decode(b"\0" + IDS[name].to_bytes(4, "big") + body)
    except Undecodable:
        return
    read: Any = fastavro.schemaless_reader(io.BytesIO(body), parsed(schemas.load(name)), None)
    for field in ("amount", "running_balance", "balance"):
        if field in read:
            read[field] = money.from_bytes(read[field])
    assert value._asdict() == read
