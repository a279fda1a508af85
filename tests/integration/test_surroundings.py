"""What a ledger stands on: when it is not there, or is not as it must be, that is said clearly and soon."""

import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]  # exported, if not by name

import schemas
from events.clients import KafkaClients
from events.errors import SchemaIncompatible
from events.follow import PartitionReader
from events.partitioner import partition_of
from events.registry import Registry
from events.topics import Topics, ensure_topics
from partita import (
    BrokerUnavailable,
    LedgerEngine,
    LedgerError,
    PartitionCountMismatch,
    ReadModelUnavailable,
    RegistryUnavailable,
    TopicMissing,
)
from partita.stack.java import java_executable
from partita.stack.kafka import fetch_kafka_tools, kafka_classpath
from tests.support.services import PARTITIONS, Ledger, eventually
from tests.support.stack import Stack

NOWHERE = "127.0.0.1:1"
SOON = 10.0


async def _fails(call: Callable[[], Awaitable[object]], kind: type[LedgerError], says: str) -> LedgerError:
    begun = time.monotonic()
    with pytest.raises(kind) as told:
        await call()
    assert time.monotonic() - begun < SOON
    assert says in told.value.message
    assert told.value.retriable
    assert told.value.to_dict()["error"] == kind.__name__
    return told.value


async def test_without_kafka(ledger: Ledger) -> None:
    async with ledger.engine(kafka_bootstrap=NOWHERE) as engine:
        await _fails(lambda: engine.create_entry("alice", 1, "credit"), BrokerUnavailable, NOWHERE)


async def test_without_the_registry(ledger: Ledger) -> None:
    ensure_topics(ledger.wiring().clients, Topics(prefix=ledger.name), partitions=PARTITIONS, replication=1)
    async with ledger.engine(schema_registry_url=f"http://{NOWHERE}") as engine:
        await _fails(lambda: engine.create_entry("alice", 1, "credit"), RegistryUnavailable, NOWHERE)


async def test_without_postgresql(running: Ledger, account: Callable[[], str]) -> None:
    url = f"postgresql://user:secret@{NOWHERE}/db"
    async with LedgerEngine(
        kafka_bootstrap=running.addresses["kafka_bootstrap"],
        schema_registry_url=running.addresses["schema_registry_url"],
        postgres_url=url,
        ledger=running.name,
    ) as engine:
        await engine.create_entry(account(), 1, "credit")  # posting needs no PostgreSQL
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: engine.get_balance("alice"),
            lambda: engine.get_entry("0-1"),
            lambda: engine.list_entries("alice"),
        ]
        for call in calls:
            error = await _fails(call, ReadModelUnavailable, NOWHERE)
            assert "secret" not in str(error.to_dict())


async def test_without_a_ledger(ledger: Ledger) -> None:
    async with ledger.engine() as engine:
        await _fails(lambda: engine.create_entry("alice", 1, "credit"), TopicMissing, f"{ledger.name}.commands")
        await _fails(lambda: engine.get_balance("alice"), ReadModelUnavailable, "")


@pytest.mark.parametrize(
    ("service", "option", "code"),
    [
        ("handler", "KAFKA_BOOTSTRAP", "BrokerUnavailable"),
        ("balances", "KAFKA_BOOTSTRAP", "BrokerUnavailable"),
        ("handler", "SCHEMA_REGISTRY_URL", "RegistryUnavailable"),
    ],
)
def test_a_service_says_what_it_misses(ledger: Ledger, service: str, option: str, code: str) -> None:
    process = ledger.service(service)
    process.environment[f"PARTITA_{option}"] = f"http://{NOWHERE}" if option.endswith("URL") else NOWHERE
    process.environment["PARTITA_CONNECT_TIMEOUT"] = "2"
    process.start()
    eventually(lambda: code in process.log_text() or NOWHERE in process.log_text(), within=30)
    process.stop()
    assert "Traceback" not in process.log_text()


def test_a_handler_configured_with_another_partition_count_is_refused(ledger: Ledger) -> None:
    ensure_topics(ledger.wiring().clients, Topics(prefix=ledger.name), partitions=PARTITIONS, replication=1)
    process = ledger.service("handler", partitions=PARTITIONS + 1).start()
    assert process.ended() != 0
    assert "PartitionCountMismatch" in process.log_text()
    assert "Traceback" not in process.log_text()


async def test_topics_that_grew_apart_are_refused(ledger: Ledger) -> None:
    wiring = ledger.wiring()
    assert wiring.ensure_topics() == PARTITIONS
    admin = wiring.clients.admin()
    for done in admin.create_partitions([NewPartitions(wiring.topics.commands, PARTITIONS + 1)]).values():
        done.result(10)
    grown = {"commands": PARTITIONS + 1, "events": PARTITIONS, "outcomes": PARTITIONS}
    eventually(lambda: _mismatch(ledger) == grown)
    async with ledger.engine() as engine:
        with pytest.raises(PartitionCountMismatch):
            await engine.create_entry("alice", 1, "credit")


def _mismatch(ledger: Ledger) -> dict[str, Any] | None:
    try:
        ledger.wiring().partition_count()
    except PartitionCountMismatch as error:
        return error.details
    return None


def test_a_ledger_whose_topics_grew_together_is_refused_by_what_is_recorded(ledger: Ledger) -> None:
    """The topics agree with each other and with the settings; the log's first events do not."""
    handler = ledger.service("handler").start()
    ledger.await_handler(handler)
    handler.stop()
    wiring = ledger.wiring(partitions=PARTITIONS * 2)
    admin = wiring.clients.admin()
    names = [wiring.topics.commands, wiring.topics.events, wiring.topics.outcomes]
    for grown in admin.create_partitions([NewPartitions(name, PARTITIONS * 2) for name in names]).values():
        grown.result(10)
    eventually(lambda: _count_is(ledger, PARTITIONS * 2))
    process = ledger.service("handler", partitions=PARTITIONS * 2).start()
    assert process.ended() != 0
    assert "PartitionCountMismatch" in process.log_text()


def _count_is(ledger: Ledger, count: int) -> bool:
    try:
        return ledger.wiring().partition_count() == count
    except PartitionCountMismatch:
        return False


@pytest.mark.parametrize("name", schemas.ALL)
@pytest.mark.parametrize("change", ["new field", "no field", "other type", "other enum"])
def test_the_registry_refuses_an_incompatible_schema(stack: Stack, name: str, change: str) -> None:
    registry = Registry(stack.addresses["schema_registry_url"])
    subject = f"test.{uuid.uuid4().hex}.{name}"
    original: dict[str, Any] = schemas.load(name)
    registry.register_schema(subject, original)
    fields = list(original["fields"])
    match change:
        case "new field":
            fields.append({"name": "must_be_given", "type": "string"})
        case "no field":
            fields.pop(0)
        case "other type":
            fields[0] = {"name": fields[0]["name"], "type": {"type": "array", "items": "string"}}
        case _:
            fields.append({"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A"]}})
    with pytest.raises(SchemaIncompatible) as refused:
        registry.register_schema(subject, {**original, "fields": fields})
    assert refused.value.details["subject"] == subject
    registry.close()


@pytest.mark.parametrize("name", schemas.ALL)
def test_the_registry_takes_a_field_with_a_default_and_its_removal(stack: Stack, name: str) -> None:
    registry = Registry(stack.addresses["schema_registry_url"])
    subject = f"test.{uuid.uuid4().hex}.{name}"
    original: dict[str, Any] = schemas.load(name)
    added = {"name": "added", "type": ["null", "string"], "default": None}
    first = registry.register_schema(subject, original)
    second = registry.register_schema(subject, {**original, "fields": [*original["fields"], added]})
    assert first != second
    assert registry.register_schema(subject, original) == first
    registry.close()


def test_registering_again_gives_the_same_ids(stack: Stack) -> None:
    registry = Registry(stack.addresses["schema_registry_url"])
    assert registry.register() == registry.register()
    registry.close()


KEYS = ["21", "foobar", "alice", "a", "ab", "abc", "abcd", "счёт", "口座-7", *(f"account-{i}" for i in range(500))]


@pytest.fixture
def keyed(stack: Stack) -> tuple[KafkaClients, str]:
    """A topic of twelve partitions."""
    clients = KafkaClients(bootstrap=stack.addresses["kafka_bootstrap"])
    topics = Topics(prefix=f"keys{uuid.uuid4().hex[:10]}")
    ensure_topics(clients, topics, partitions=12, replication=1)
    return clients, topics.commands


def _partitions(clients: KafkaClients, topic: str) -> dict[str, int]:
    reader = PartitionReader(clients, topic)
    reader.start(dict.fromkeys(range(12), 0))
    found: dict[str, int] = {}

    def all_came() -> bool:
        found.update({(record.key or b"").decode(): record.partition for record in reader.poll(0.5)})
        return len(found) == len(KEYS)

    eventually(all_came)
    reader.close()
    return found


def test_our_producers_put_keys_where_we_say(keyed: tuple[KafkaClients, str]) -> None:
    clients, topic = keyed
    producer = clients.producer()
    for key in KEYS:
        producer.produce(topic, b"", key.encode())
    assert producer.flush(10) == 0
    assert _partitions(clients, topic) == {key: partition_of(key, 12) for key in KEYS}


def test_the_java_client_puts_keys_where_we_say(
    keyed: tuple[KafkaClients, str], stack: Stack, stack_cache: Path
) -> None:
    """With Kafka's own console producer, which leaves the partition to the Java client's default partitioner."""
    fetch_kafka_tools(stack_cache)
    clients, topic = keyed
    argv = [
        *(str(java_executable()), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
        *("-Dfile.encoding=UTF-8", "-Dstdin.encoding=UTF-8"),
        *("-cp", kafka_classpath(stack_cache, tools=True), "org.apache.kafka.tools.ConsoleProducer"),
        *("--bootstrap-server", stack.addresses["kafka_bootstrap"], "--topic", topic),
        *("--reader-property", "parse.key=true", "--reader-property", "key.separator=="),
    ]
    lines = "".join(f"{key}=value\n" for key in KEYS)
    ran = subprocess.run(argv, input=lines.encode(), capture_output=True, timeout=60)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert _partitions(clients, topic) == {key: partition_of(key, 12) for key in KEYS}


def test_services_that_start_at_once_may_register_the_same_schemas(stack: Stack) -> None:
    """Handler and projection of a new ledger do; Apicurio refuses the second of two that set a rule at once."""
    registries = [Registry(stack.addresses["schema_registry_url"]) for _ in range(6)]
    with ThreadPoolExecutor(len(registries)) as pool:
        for _ in range(10):
            subject = f"test.{uuid.uuid4().hex}"
            work = [
                pool.submit(registry.register_schema, subject, schemas.load("PostEntry")) for registry in registries
            ]
            assert len({done.result(30) for done in work}) == 1
    for registry in registries:
        registry.close()
