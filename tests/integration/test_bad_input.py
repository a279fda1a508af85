"""What any producer may put on the commands topic, in any language: a rejection or a dead letter, and on it goes."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Message, TopicPartition
from confluent_kafka.schema_registry import Schema

from commands.codec import Outcome
from commands.rejections import from_event
from commands.types import PostEntry
from events.follow import Ends
from events.money import to_units
from events.partitioner import partition_of
from events.types import CommandRejected, EntryPosted
from partita.wiring import Wiring
from tests.support.samples import CREDIT, UNIT, repeats
from tests.support.services import PARTITIONS, Ledger, eventually

_WITHIN = 20.0


@dataclass
class Producer:
    """Somebody else's producer, and what comes back to it on the outcomes and the dead letter topics."""

    wiring: Wiring
    reply_key: str = field(default_factory=lambda: f"raw-{uuid.uuid4()}")

    def __post_init__(self) -> None:
        topics, clients = self.wiring.topics, self.wiring.clients
        self.producer = clients.producer()
        self.consumer = clients.consumer(self.reply_key)
        self.replies = (topics.outcomes, partition_of(self.reply_key, PARTITIONS))
        ends = {
            name: Ends(clients).high(name, [p], timeout=10)[p] for name, p in (self.replies, (topics.deadletter, 0))
        }
        self.consumer.assign([TopicPartition(*self.replies, ends[topics.outcomes])])
        self.dead = clients.consumer(self.reply_key)
        self.dead.assign([TopicPartition(topics.deadletter, 0, ends[topics.deadletter])])

    def send(self, value: bytes | None, *, key: bytes = b"somebody", partition: int = 0) -> tuple[int, int]:
        """Produce bytes, and return where they are."""
        places: list[tuple[int, int]] = []

        def delivered(error: object, message: Message) -> None:
            assert error is None, error
            places.append((message.partition() or 0, message.offset() or 0))

        self.producer.produce(self.wiring.topics.commands, value, key, partition, on_delivery=delivered)
        assert self.producer.flush(10) == 0
        return places[0]

    def command(self, account_id: str, **fields: Any) -> PostEntry:
        """Return a command to be answered to this producer."""
        command_id = uuid.uuid4().hex
        return PostEntry(command_id, self.reply_key, account_id, CREDIT, UNIT, "USD")._replace(**fields)

    def ask(self, command: PostEntry, value: bytes | None = None, *, partition: int | None = None) -> Outcome:
        """Produce a command, as these bytes if they are given, and return its outcome."""
        home = partition_of(command.account_id, PARTITIONS) if partition is None else partition
        self.send(value or self.wiring.command_codec.encode(command), key=command.account_id.encode(), partition=home)
        outcomes: list[Outcome] = []

        def came() -> bool:
            message = self.consumer.poll(0.2)
            if message is not None and message.key() == self.reply_key.encode():
                outcomes.append(self.wiring.outcome_codec.decode(message.value() or b""))
            return bool(outcomes)

        eventually(came, within=_WITHIN, every=0)
        assert outcomes[0].event.command_id == command.command_id
        return outcomes[0]

    def letter(self, place: tuple[int, int]) -> Message:
        """Return the dead letter of the command that was at `place`."""
        letters: list[Message] = []

        def came() -> bool:
            message = self.dead.poll(0.2)
            if message is not None:
                headers = _headers(message)
                if (headers["source-partition"], headers["source-offset"]) == (str(place[0]), str(place[1])):
                    letters.append(message)
            return bool(letters)

        eventually(came, within=_WITHIN, every=0)
        return letters[0]

    def close(self) -> None:
        self.consumer.close()
        self.dead.close()


def _headers(message: Message) -> dict[str, str]:
    pairs: Any = message.headers() or []
    return {name: value.decode() for name, value in pairs}


@pytest.fixture
async def producer(running: Ledger) -> AsyncIterator[Producer]:
    wiring = running.wiring()
    producer = Producer(wiring)
    yield producer
    producer.close()
    wiring.close()


def _goes_on(producer: Producer, account: str) -> None:
    """Assert that the handler still answers, in every partition."""
    for p in range(PARTITIONS):
        name = next(n for n in (f"{account}-{i}" for i in range(1000)) if partition_of(n, PARTITIONS) == p)
        assert isinstance(producer.ask(producer.command(name)).event, EntryPosted)


def _bytes_of(name: str, producer: Producer) -> bytes | None:
    """Return bytes that are no command."""
    good = producer.wiring.command_codec.encode(producer.command("alice"))
    wrong_enum = bytearray(good)
    wrong_enum[good.index(b"\x0aalice") + 6] = 126
    known = producer.wiring.schema_ids
    string = producer.wiring.registry._client.register_schema("some-key", Schema('"string"', "AVRO"))
    return {
        "nothing": None,
        "empty": b"",
        "json": json.dumps({"command_id": "c"}).encode(),
        "random": bytes(range(256)),
        "a megabyte": b"\0" + known["PostEntry"].to_bytes(4, "big") + b"x" * 1_000_000,
        "an unknown schema": b"\0\x7f\xff\xff\xff" + good[5:],
        "an event": b"\0" + known["EntryPosted"].to_bytes(4, "big") + good[5:],
        "a string": b"\0" + string.to_bytes(4, "big") + good[5:],
        "an unknown enum": bytes(wrong_enum),
        "cut short": good[:-3],
        "too long": good + b"\0",
        "no account": producer.wiring.command_codec.encode(producer.command("")),
        "an account of 10 kB": producer.wiring.command_codec.encode(producer.command("a" * 10_000)),
        "no command id": producer.wiring.command_codec.encode(producer.command("alice", command_id="")),
    }[name]


@pytest.mark.parametrize(
    ("name", "reason", "says"),
    [
        ("nothing", "Undecodable", "empty"),
        ("empty", "Undecodable", "empty"),
        ("json", "Undecodable", "magic byte"),
        ("random", "Undecodable", ""),
        ("a megabyte", "Undecodable", "PostEntry"),
        ("an unknown schema", "Undecodable", "no schema with id 2147483647"),
        ("an event", "Undecodable", "which this topic does not hold"),
        ("a string", "Undecodable", "no record"),
        ("an unknown enum", "Undecodable", "PostEntry"),
        ("cut short", "Undecodable", "PostEntry"),
        ("too long", "Undecodable", "too many"),
        ("no account", "InvalidAccountId", "empty"),
        ("an account of 10 kB", "InvalidAccountId", "10000 characters"),
        ("no command id", "InvalidCommandId", "empty"),
    ],
)
async def test_what_is_no_command_becomes_a_dead_letter(
    producer: Producer, account: Callable[[], str], name: str, reason: str, says: str
) -> None:
    value = _bytes_of(name, producer)
    partition, offset = producer.send(value, key=b"somebody", partition=1)
    letter = producer.letter((partition, offset))
    assert (letter.key(), letter.value()) == (b"somebody", value)
    headers = _headers(letter)
    assert headers["reason"] == reason
    assert says in headers["message"]
    assert headers["source-topic"] == producer.wiring.topics.commands
    assert isinstance(producer.ask(producer.command(account())).event, EntryPosted)


REJECTED: dict[str, tuple[dict[str, Any], str]] = {
    "zero": ({"amount": 0}, "InvalidAmount"),
    "negative": ({"amount": -UNIT}, "InvalidAmount"),
    "39 digits": ({"amount": 10**38}, "InvalidAmount"),
    "300 digits": ({"amount": 10**300}, "InvalidAmount"),
    "10,000 digits": ({"amount": 10**10_000}, "InvalidAmount"),
    "too much scale": ({"amount": UNIT // 1000, "asset": "CENT"}, "InvalidAmount"),
    "no asset": ({"asset": ""}, "InvalidAsset"),
    "long asset": ({"asset": "A" * 10_000}, "InvalidAsset"),
    "long reference": ({"reference": "r" * 900_000}, "InvalidReference"),
    "NUL in the reference": ({"reference": "\0"}, "InvalidReference"),
    "a megabyte of metadata": ({"metadata": '{"a":"' + "x" * 1_000_000 + '"}'}, "InvalidMetadata"),
    "no JSON": ({"metadata": "{"}, "InvalidMetadata"),
    "no object": ({"metadata": "[1]"}, "InvalidMetadata"),
    "NaN in metadata": ({"metadata": '{"a":NaN}'}, "InvalidMetadata"),
    "1e400 in metadata": ({"metadata": '{"a":1e400}'}, "InvalidMetadata"),
    "NUL in metadata": ({"metadata": '{"a":"\\u0000"}'}, "InvalidMetadata"),
    "half a character": ({"metadata": '{"a":"\\ud800"}'}, "InvalidMetadata"),
    "deep metadata": ({"metadata": '{"a":' * 2000 + '"\\u0000"' + "}" * 2000}, "InvalidMetadata"),
    "the year 10000": ({"effective_at": 253_402_300_800_000_000}, "InvalidEffectiveTime"),
    "before 1970": ({"effective_at": -1}, "InvalidEffectiveTime"),
    "a negative version": ({"expected_version": -1}, "InvalidExpectedVersion"),
}


@pytest.mark.parametrize("name", REJECTED)
async def test_a_command_that_is_wrong_is_rejected_by_name_and_again(
    producer: Producer, account: Callable[[], str], name: str
) -> None:
    fields, code = REJECTED[name]
    command = producer.command(account(), **fields)
    outcome = producer.ask(command)
    assert isinstance(outcome.event, CommandRejected)
    assert from_event(outcome.event).code == code
    assert repeats(producer.ask(command), outcome)
    assert isinstance(producer.ask(producer.command(command.account_id)).event, EntryPosted)


async def test_a_producer_that_does_not_partition_by_murmur2_is_told_so(
    producer: Producer, account: Callable[[], str]
) -> None:
    alice = account()
    wrong = (partition_of(alice, PARTITIONS) + 1) % PARTITIONS
    outcome = producer.ask(producer.command(alice), partition=wrong)
    assert isinstance(outcome.event, CommandRejected)
    assert outcome.event.code == "WrongPartition"
    assert "murmur2" in outcome.event.message
    assert isinstance(producer.ask(producer.command(alice)).event, EntryPosted)


async def test_the_read_model_takes_all_that_is_accepted(
    running: Ledger, producer: Producer, account: Callable[[], str]
) -> None:
    """The limits promise that whatever is accepted can be stored."""
    alice = account()
    odd = {"s": "\x01\x7f\u2028 \N{GRINNING FACE} \ufffe", "n": 10**400, "t": 5e-324, "deep": [[[[{}]]]]}
    fields = {"reference": odd["s"], "metadata": json.dumps(odd), "effective_at": 253_402_300_799_999_999}
    outcome = producer.ask(producer.command(alice, **fields, asset="é" * 64, amount=10**38 - 1))
    assert isinstance(outcome.event, EntryPosted)
    async with running.engine() as engine, asyncio.timeout(20):
        balance = None
        while balance != outcome.event.amount:
            balance = to_units(await engine.get_balance(alice, "é" * 64))
        (entry,) = (await engine.list_entries(alice)).entries
    assert entry.metadata == odd
    assert entry.reference == odd["s"]


async def test_after_all_of_it_the_handler_goes_on_in_every_partition(
    producer: Producer, account: Callable[[], str]
) -> None:
    _goes_on(producer, account())
