"""The whole stack: what it keeps when its parts are killed, where it listens and what it takes."""

import http.client
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # exported, if not by name

import partita.stack as local
from partita.stack.processes import descendants, recorded
from partita.stack.site import pid_file
from tests.support.stack import NativeStack, Stack


def produced(addresses: Mapping[str, str], topic: str) -> list[bytes | None]:
    """Make a topic and put ten records into it, in one transaction; return their values."""
    admin = AdminClient({"bootstrap.servers": addresses["kafka_bootstrap"]})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    settings = {"bootstrap.servers": addresses["kafka_bootstrap"], "transactional.id": topic}
    producer = Producer(settings)
    producer.init_transactions()
    producer.begin_transaction()
    for number in range(10):
        producer.produce(topic, str(number).encode())
    producer.commit_transaction()
    return [str(number).encode() for number in range(10)]


def consumed(addresses: Mapping[str, str], topic: str, count: int) -> list[bytes | None]:
    """Read the first records of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": addresses["kafka_bootstrap"],
            "group.id": topic,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # a broker that is still recovering may say that 0 is out of range
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    records: list[Message] = []
    deadline = time.monotonic() + 60
    while len(records) < count and time.monotonic() < deadline:
        records += [record for record in consumer.consume(count, 1) if record.error() is None]
    consumer.close()
    return [record.value() for record in records]


def ask(url: str, path: str, body: object | None = None) -> object:
    """Ask a JSON service."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        headers = {"Content-Type": "application/json"}
        method = "GET" if body is None else "POST"
        connection.request(method, parts.path + path, None if body is None else json.dumps(body), headers)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def registered(addresses: Mapping[str, str], subject: str) -> int:
    """Register a schema of this name and return its id."""
    record = {"type": "record", "name": subject.replace("-", "_"), "fields": [{"name": "n", "type": "long"}]}
    url = addresses["schema_registry_url"]
    answer = ask(url, f"/subjects/{subject}/versions", {"schema": json.dumps(record)})
    assert isinstance(answer, dict)
    return int(answer["id"])


@pytest.fixture
def name() -> str:
    return f"stack-test-{uuid4().hex[:8]}"


@pytest.mark.parametrize("kill", [True, False])
def test_kafka_keeps_its_records(kill: bool, stack: Stack, name: str) -> None:
    before = dict(stack.addresses)
    values = produced(before, name)
    stack.stop("kafka", kill=kill)
    stack.start("kafka")
    assert stack.addresses == before
    assert consumed(before, name, len(values)) == values


@pytest.mark.parametrize("kill", [True, False])
def test_the_registry_keeps_its_ids(kill: bool, stack: Stack, name: str) -> None:
    """Schema ids are part of every record: the same schema has the same id for ever, another has another."""
    ids = [registered(stack.addresses, f"{name}-{number}") for number in range(5)]
    stack.stop("registry", kill=kill)
    stack.start("registry")
    assert [registered(stack.addresses, f"{name}-{number}") for number in range(5)] == ids
    assert registered(stack.addresses, f"{name}-new") not in ids
    found = ask(stack.addresses["schema_registry_url"], f"/schemas/ids/{ids[3]}")
    assert f"{name}_3".replace("-", "_") in json.dumps(found)


@pytest.mark.parametrize("kill", [True, False])
async def test_postgresql_keeps_what_it_committed(kill: bool, stack: Stack, name: str) -> None:
    table = name.replace("-", "_")
    connection = await asyncpg.connect(stack.addresses["postgres_url"])
    await connection.execute(f"CREATE TABLE {table} AS SELECT generate_series(1, 1000) AS n")
    assert await connection.fetchval("SELECT setting FROM pg_settings WHERE name = 'synchronous_commit'") == "on"
    connection.terminate()
    stack.stop("postgres", kill=kill)
    stack.start("postgres")
    connection = await asyncpg.connect(stack.addresses["postgres_url"])
    assert await connection.fetchval(f"SELECT sum(n) FROM {table}") == 500500
    await connection.execute(f"DROP TABLE {table}")
    await connection.close()


async def test_killing_postgresql_leaves_the_write_side_its_schemas(stack: Stack, name: str) -> None:
    schema = registered(stack.addresses, name)
    stack.stop("postgres", kill=True)
    try:
        assert registered(stack.addresses, name) == schema
    finally:
        stack.start("postgres")


@pytest.mark.parametrize("kill", [True, False])
def test_immudb_and_the_evm_node_come_back(kill: bool, full_stack: Stack) -> None:
    before = dict(full_stack.addresses)
    for part in ("immudb", "anvil"):
        full_stack.stop(part, kill=kill)
        full_stack.start(part)
    assert full_stack.addresses == before


def rpc(addresses: Mapping[str, str], method: str, *params: object) -> object:
    """Call the EVM node."""
    answer = ask(addresses["evm_rpc_url"], "/", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert isinstance(answer, dict)
    return answer["result"]


def test_the_evm_node_finalises_and_keeps_its_blocks(full_stack: Stack) -> None:
    for _ in range(5):
        rpc(full_stack.addresses, "evm_mine")
    head = rpc(full_stack.addresses, "eth_blockNumber")
    finalized = rpc(full_stack.addresses, "eth_getBlockByNumber", "finalized", False)
    assert isinstance(finalized, dict)
    assert int(finalized["number"], 16) > 0
    full_stack.stop("anvil")
    full_stack.start("anvil")
    assert rpc(full_stack.addresses, "eth_blockNumber") == head
    again = rpc(full_stack.addresses, "eth_getBlockByNumber", finalized["number"], False)
    assert isinstance(again, dict)
    assert again["hash"] == finalized["hash"]


def test_every_address_has_its_key(full_stack: Stack) -> None:
    addresses = full_stack.addresses
    assert set(addresses) == {
        "kafka_bootstrap", "schema_registry_url", "postgres_url", "immudb_host", "immudb_port", "evm_rpc_url"
    }  # fmt: skip
    assert re.fullmatch(r"127\.0\.0\.1:\d+", addresses["kafka_bootstrap"])
    assert addresses["schema_registry_url"].endswith("/apis/ccompat/v7")
    assert re.fullmatch(r"postgresql://partita:\S+@127\.0\.0\.1:\d+/partita", addresses["postgres_url"])


def listening(pid: int) -> Iterator[str]:
    """Yield the local addresses, as the kernel writes them, on which a process listens."""
    inodes = set()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(str(handle.readlink()).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            continue
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in inodes:
                yield words[1].partition(":")[0]


def test_everything_listens_on_loopback_only(full_stack: Stack) -> None:
    if not isinstance(full_stack, NativeStack):
        pytest.skip("containers listen on addresses of their own")
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    for part in local.ALL_PARTS:
        process = recorded(pid_file(full_stack.directory, part))
        assert process is not None
        found = {address for member in (process, *descendants(process)) for address in listening(member.pid)}
        assert found, part
        assert found <= loopback, part


def _when_healthy(directory: Path) -> local.StackStatus:
    """Return the status; a busy machine may have a part miss a probe."""
    deadline = time.monotonic() + 30
    while not (status := local.status(directory)).healthy:
        assert time.monotonic() < deadline, status.parts
        time.sleep(0.2)
    return status


def test_the_whole_takes_less_than_three_gibibytes(full_stack: Stack) -> None:
    if not isinstance(full_stack, NativeStack):
        pytest.skip("the engine caps containers")
    status = _when_healthy(full_stack.directory)
    assert 0 < sum(part.memory_mb for part in status.parts) < 3 * 1024


def test_parts_outlive_whoever_started_them(stack: Stack) -> None:
    if not isinstance(stack, NativeStack):
        pytest.skip("the engine owns containers")
    for part in local.CORE_PARTS:
        process = recorded(pid_file(stack.directory, part))
        assert process is not None
        assert os.getsid(process.pid) != os.getsid(0)
