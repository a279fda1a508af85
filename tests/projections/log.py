"""A ledger of a test's own: topics and a schema with names that nobody else has, and a log written by hand."""

import itertools
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncpg

from events.clients import KafkaClients
from events.codec import EventCodec
from events.errors import TopicMissing
from events.money import to_units
from events.partitioner import partition_of
from events.topics import Topics, ensure_topics
from events.types import (
    AccountOpened,
    BatchEntryPosted,
    CommandRejected,
    EntryPosted,
    EntryType,
    Event,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
    PartitionOpened,
)
from projections.database import Database

E = TypeVar("E", bound=Event)

UNIT = 10**18
NOON = 1_790_000_000_000_000
"""A time, in microseconds since 1970."""


@dataclass
class Writer:
    """Makes the events that a handler would append, without checking any rule."""

    partitions: int
    sequences: dict[int, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    balances: dict[tuple[str, str], int] = field(default_factory=dict)
    held: dict[tuple[str, str], int] = field(default_factory=dict)
    posted: list[tuple[int, EntryPosted | BatchEntryPosted]] = field(default_factory=list)
    commands: Iterable[int] = field(default_factory=itertools.count)

    def opened(self) -> list[tuple[int, Event]]:
        return [(p, self.open(p)) for p in range(self.partitions)]

    def open(self, partition: int) -> PartitionOpened:
        return PartitionOpened(self._next(partition), 1, NOON, partition, self.partitions)

    def _next(self, partition: int) -> int:
        sequence = self.sequences.get(partition, 0)
        self.sequences[partition] = sequence + 1
        return sequence

    def make(self, kind: type[E], account: str, **fields: Any) -> tuple[int, E]:
        """Make the next event of an account, which changes it; a field that is not told is None."""
        partition = partition_of(account, self.partitions)
        version = self.versions[account] = self.versions.get(account, 0) + 1
        return partition, self._event(kind, partition, account, **{"version": version, **fields})

    def _event(self, kind: type[E], partition: int, account: str, **fields: Any) -> E:
        sequence = self._next(partition)
        told = {
            "sequence": sequence,
            "writer_epoch": 1,
            "recorded_at": NOON + sequence + 1,
            "command_id": f"c-{next(iter(self.commands))}",
            "command_offset": sequence + 1,
            "payload_hash": b"\0" * 32,
            "account_id": account,
            **fields,
        }
        made: E = kind(**{**dict.fromkeys(kind._fields), **told})
        return made

    def post(self, account: str, units: int = UNIT, *, asset: str = "USD", **fields: Any) -> tuple[int, EntryPosted]:
        """Credit `units`, or debit them when negative."""
        balance = self.balances[account, asset] = self.balances.get((account, asset), 0) + units
        amounts = {"amount": abs(units), "asset": asset, "running_balance": balance}
        direction = EntryType.CREDIT if units > 0 else EntryType.DEBIT
        made = self.make(EntryPosted, account, **{"entry_type": direction, **amounts, **fields})
        self.posted.append(made)
        return made

    def open_account(self, account: str, floor: int | None = 0, **fields: Any) -> tuple[int, AccountOpened]:
        return self.make(AccountOpened, account, **{"floor": floor, "assets": (), **fields})

    def place(self, account: str, hold_id: str, units: int, **fields: Any) -> tuple[int, HoldPlaced]:
        amounts = self._hold(account, units, units, fields.pop("asset", "USD"))
        return self.make(HoldPlaced, account, **{"hold_id": hold_id, "command_id": hold_id, **amounts, **fields})

    def release(self, account: str, hold_id: str, units: int, **fields: Any) -> tuple[int, HoldReleased]:
        """Release a hold, which reserves `units`."""
        amounts = self._hold(account, units, -units, fields.pop("asset", "USD"))
        return self.make(HoldReleased, account, **{"hold_id": hold_id, "expired": False, **amounts, **fields})

    def settle(
        self, account: str, hold_id: str, units: int, remaining: int = 0, **fields: Any
    ) -> tuple[int, HoldSettled]:
        """Settle `units` of a hold, which reserves `remaining` after it."""
        amounts = self._hold(account, units, -units, fields.pop("asset", "USD"))
        balance = self.balances[account, amounts["asset"]] = amounts.pop("balance") - units
        told = {"hold_id": hold_id, "remaining": remaining, "running_balance": balance}
        return self.make(HoldSettled, account, **{**told, **amounts, **fields})

    def _hold(self, account: str, units: int, change: int, asset: str) -> dict[str, Any]:
        held = self.held[account, asset] = self.held.get((account, asset), 0) + change
        balance = self.balances.setdefault((account, asset), 0)
        return {"amount": units, "asset": asset, "balance": balance, "held": held}

    def reject(self, account: str, **fields: Any) -> tuple[int, CommandRejected]:
        partition = partition_of(account, self.partitions)
        told = {
            "command_type": "PostEntry",
            "code": "InsufficientFunds",
            "message": "not enough",
            "details": {"available": "0", "requested": "1"},
            "version": self.versions.get(account, 0),
            "asset": "USD",
            "balance": self.balances.get((account, "USD"), 0),
        }
        return partition, self._event(CommandRejected, partition, account, **{**told, **fields})

    def skip(self, account: str) -> None:
        """Leave a sequence of the account's partition out."""
        self._next(partition_of(account, self.partitions))


def _ensure_topics(clients: KafkaClients, topics: Topics, partitions: int) -> None:
    """Create the topics; the broker may need a moment until it lists what it has made."""
    for _ in range(20):
        try:
            ensure_topics(clients, topics, partitions=partitions, replication=1)
        except TopicMissing:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the topics were not there in time")


def account_in(partition: int, partitions: int, nth: int = 0) -> str:
    """Return an account whose events belong to `partition`."""
    found = (f"a-{i}" for i in itertools.count() if partition_of(f"a-{i}", partitions) == partition)
    return next(itertools.islice(found, nth, None))


@dataclass
class TestLedger:
    """One ledger on a stack that others use too."""

    __test__ = False

    name: str
    addresses: Mapping[str, str]
    clients: KafkaClients
    topics: Topics
    codec: EventCodec
    database: Database
    writer: Writer

    @classmethod
    def create(cls, addresses: Mapping[str, str], codec: EventCodec, *, partitions: int = 4) -> "TestLedger":
        name = f"t{uuid.uuid4().hex[:12]}"
        clients = KafkaClients(bootstrap=addresses["kafka_bootstrap"])
        topics = Topics(prefix=name)
        _ensure_topics(clients, topics, partitions)
        database = Database(url=addresses["postgres_url"], schema=name)
        ledger = cls(name, addresses, clients, topics, codec, database, Writer(partitions))
        ledger.append(ledger.writer.opened())
        return ledger

    def append(self, events: Iterable[tuple[int, Event | bytes]]) -> None:
        """Put events, or any bytes, on the events topic, each in its partition, and wait until they are there."""
        producer = self.clients.producer(linger_ms=5)
        failed: list[object] = []
        for partition, event in events:
            value = event if isinstance(event, bytes) else self.codec.encode(event)
            while True:
                try:
                    producer.produce(
                        self.topics.events,
                        value,
                        partition=partition,
                        on_delivery=lambda error, _: failed.append(error) if error else None,
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0
        assert not failed, failed

    def append_in_transaction(self, events: Iterable[tuple[int, Event]], *, commit: bool) -> None:
        producer = self.clients.producer(transactional_id=f"{self.name}.writer")
        producer.init_transactions(30)
        producer.begin_transaction()
        for partition, event in events:
            producer.produce(self.topics.events, self.codec.encode(event), partition=partition)
        producer.flush(30)
        if commit:
            producer.commit_transaction()
        else:
            producer.abort_transaction()

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Run SQL with the ledger's schema in front."""
        connection = await self.database.connect()
        try:
            await connection.execute(f"SET search_path TO {self.name}")
            rows: list[asyncpg.Record] = await connection.fetch(query, *arguments)
            return rows
        finally:
            await connection.close()

    async def execute(self, statement: str) -> None:
        connection = await self.database.connect()
        try:
            await connection.execute(f"SET search_path TO {self.name}; {statement}")
        finally:
            await connection.close()

    def wanted(self) -> dict[int, int]:
        """Return the last sequence that was made of each partition."""
        return {p: n - 1 for p, n in self.writer.sequences.items()}

    async def rows_are_the_log(self) -> None:
        """Assert that the tables hold exactly what the writer posted."""
        got = {row["entry_id"]: row for row in await self.fetch("SELECT * FROM entries")}
        posted = {f"{p}-{event.sequence}": event for p, event in self.writer.posted}
        assert got.keys() == posted.keys()
        for entry_id, event in posted.items():
            row = got[entry_id]
            assert (row["account_id"], row["version"]) == (event.account_id, event.version)
            assert to_units(row["amount"]) == event.amount
            assert to_units(row["running_balance"]) == event.running_balance
        balances = await self.fetch("SELECT account_id, asset, balance FROM balances")
        assert {(r[0], r[1]): to_units(r[2]) for r in balances} == self.writer.balances

    async def drop(self) -> None:
        await self.execute(f"DROP SCHEMA IF EXISTS {self.name} CASCADE")
        names = list(self.topics.settings())
        admin = self.clients.admin()
        for deleted in admin.delete_topics(names).values():
            deleted.result(30)

    def service_arguments(self, **settings: Any) -> str:
        """Return what `tests.projections.service` is told on its command line."""
        return json.dumps({"name": self.name, **self.addresses, "settings": settings})
