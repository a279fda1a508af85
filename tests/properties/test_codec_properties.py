"""Whatever is valid comes back as it was; whatever isn't is `Undecodable` and nothing else."""

import io
from contextlib import suppress
from typing import Any

import fastavro
from hypothesis import given
from hypothesis import strategies as st

import schemas
from commands.codec import Outcome, tree_head
from commands.payload import payload_hash
from commands.types import COMMAND_TYPES, STEP_TYPES, Command, Step
from events import money
from events.codec import Undecodable, parsed
from events.types import Event, PartitionOpened
from tests.properties import strategies as some
from tests.support.samples import CODECS, IDS


@given(some.commands | some.steps)
def test_every_command_comes_back(command: Command | Step) -> None:
    assert CODECS.commands.decode(CODECS.commands.encode(command)) == command


@given(some.events)
def test_every_event_comes_back(event: Event) -> None:
    decoded = CODECS.events.decode(CODECS.events.encode(event))
    assert decoded == event
    assert type(decoded) is type(event)


@given(some.outcomes, st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_every_outcome_comes_back(asked: tuple[type[Any], Outcome], size: int, root: bytes) -> None:
    """One that is in the log also when it is sealed; one that is in no log has no tree."""
    command, outcome = asked
    event = CODECS.events.encode(outcome.event)
    data = CODECS.outcomes.encode(command, replayed=outcome.replayed, partition=outcome.partition, event=event)
    assert CODECS.outcomes.decode(data) == outcome
    assert event[5:] in data
    sealed = CODECS.outcomes.decode(CODECS.outcomes.seal(data, {outcome.partition: tree_head(size, root)}))
    in_log = outcome.event.sequence >= 0
    assert sealed == (outcome._replace(tree_size=size, merkle_root=root) if in_log else outcome)


MONEY = ("amount", "running_balance", "balance", "held", "remaining", "floor")


def _as_avro(value: Any) -> dict[str, Any]:
    """Return the record that fastavro writes for a named tuple, lists of such included."""
    record: dict[str, Any] = value._asdict()
    for name in MONEY:
        if record.get(name) is not None:
            record[name] = money.to_bytes(record[name])
    for name in ("entries", "locks", "results"):
        if name in record:
            record[name] = [_as_avro(item) for item in record[name]]
    return record


@given(some.commands | some.steps | some.events)
def test_fastavro_writes_the_same_bytes(value: Command | Step | Event) -> None:
    codec: Any = CODECS.commands if isinstance(value, (*COMMAND_TYPES, *STEP_TYPES)) else CODECS.events
    record = _as_avro(value)
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


@given(some.commands, st.data())
def test_the_payload_hash_tells_every_field_of_the_payload(command: Command, data: st.DataObject) -> None:
    other = data.draw(some.of(type(command)))
    name = data.draw(st.sampled_from(command._fields))
    changed = command._replace(**{name: getattr(other, name)})
    same = changed == command or name in ("command_id", "reply_key", "lock_token", "locks", "dry_run")
    assert (payload_hash(changed) == payload_hash(command)) == same


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


@given(some.commands | some.steps | some.events, st.data())
def test_one_changed_byte_is_decoded_or_undecodable(value: Command | Step | Event, data: st.DataObject) -> None:
    codec: Any = CODECS.commands if isinstance(value, (*COMMAND_TYPES, *STEP_TYPES)) else CODECS.events
    encoded = bytearray(codec.encode(value))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    _decodes_or_says_why(bytes(encoded))


@given(st.sampled_from(schemas.COMMANDS + schemas.STEPS + schemas.EVENTS), st.binary(max_size=120))
def test_what_we_read_fastavro_reads_the_same(name: str, body: bytes) -> None:
    """fastavro is the laxer of the two: what our own reader takes, it takes too, and finds the same in it."""
    codec: Any = CODECS.commands if name in schemas.COMMANDS + schemas.STEPS else CODECS.events
    try:
        value = codec.decode(b"\0" + IDS[name].to_bytes(4, "big") + body)
    except Undecodable:
        return
    read: Any = fastavro.schemaless_reader(io.BytesIO(body), parsed(schemas.load(name)), None)
    assert _as_avro(value) == _canonical(read)


def _canonical(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record that fastavro has read, its amounts without padding and its lists as ours."""
    for name in MONEY:
        if record.get(name) is not None:
            record[name] = money.to_bytes(money.from_bytes(record[name]))
    if "entries" in record:
        record["entries"] = [_canonical(entry) for entry in record["entries"]]
    if "assets" in record:
        record["assets"] = tuple(record["assets"])
    return record
