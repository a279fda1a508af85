"""What people say of discrepancies, and anchors: events onto their topic, and from there into PostgreSQL, each once.

The topic is the record and the tables are folded from it, so what was said outlives the tables.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final, assert_never

from confluent_kafka import KafkaException

from events.clients import KafkaClients, unavailable
from events.codec import Undecodable
from events.errors import LogCorrupt
from events.follow import Ends, Record, read_between
from events.reconciliation import (
    CheckpointsAnchored,
    DiscrepancyExplained,
    DiscrepancyIgnored,
    DiscrepancyReopened,
    DiscrepancyResolved,
    ReconciliationCodec,
    ReconciliationEvent,
    Said,
)
from reconciler.errors import ReconciliationConflict
from reconciler.store import ChainStore, Offset

log = logging.getLogger(__name__)

TOPIC: Final = "reconciliation"
"""What the topic is called in the table of offsets."""
_MOST_CONFLICTS: Final = 10
_ONLY: Final = 0
"""Its one partition: what is said is in one order."""


@dataclass(slots=True)
class Resolutions:
    """The topic, and the table that is folded from it."""

    clients: KafkaClients
    topic: str
    codec: ReconciliationCodec
    store: ChainStore
    timeout: float = 30.0

    async def say(self, event: ReconciliationEvent) -> None:
        """Append an event; it is durable, and in the table, when this returns.

        Raises:
            BrokerUnavailable: Kafka did not acknowledge it in time: it may have been appended or not. Saying it again
                with the same `event_id` does no harm.
        """
        await asyncio.to_thread(self._append, event)
        await self.catch_up()

    def _append(self, event: ReconciliationEvent) -> None:
        key = event.root.hex() if isinstance(event, CheckpointsAnchored) else event.discrepancy_id
        failed: list[KafkaException] = []
        producer = self.clients.producer(delivery_timeout_ms=int(self.timeout * 1000))

        def on_delivery(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(KafkaException(error))

        producer.produce(
            self.topic,
            key=key.encode(),
            value=self.codec.encode(event),
            partition=_ONLY,
            on_delivery=on_delivery,
        )
        if producer.flush(self.timeout + 5) or failed:
            error = failed[0] if failed else TimeoutError(f"no answer within {self.timeout:.0f} s")
            raise unavailable(self.clients, error)

    async def catch_up(self) -> int:
        """Read the topic up to where it ends now, and return how many events were new.

        Raises:
            LogCorrupt: an event of it can't be read; nothing behind it was taken.
        """
        ends = await asyncio.to_thread(Ends(self.clients).stable, self.topic, [_ONLY], timeout=self.timeout)
        for _ in range(_MOST_CONFLICTS):
            try:
                return await self._fold_up_to(ends)
            except ReconciliationConflict as conflict:
                log.info("%s; starting over from there", conflict.message)
        raise ReconciliationConflict(f"others read {self.topic} all the time")

    async def _fold_up_to(self, ends: dict[int, int]) -> int:
        at = (await self.store.offsets(TOPIC, 1))[_ONLY]
        if at.next_offset >= ends[_ONLY]:
            return 0
        records = await asyncio.to_thread(self._read, at.next_offset, ends[_ONLY])
        events = [(record.offset, self._event(record)) for record in records]
        said = [_row(event, offset) for offset, event in events if not isinstance(event, CheckpointsAnchored)]
        anchored = [(event, offset) for offset, event in events if isinstance(event, CheckpointsAnchored)]
        move = (at.next_offset, Offset(ends[_ONLY], 0, 0))
        await self.store.fold(TOPIC, said, anchored, {_ONLY: move})
        return len(events)

    def _read(self, start: int, end: int) -> list[Record]:
        found = read_between(self.clients, self.topic, {_ONLY: start}, {_ONLY: end}, idle_timeout=self.timeout)
        return [record for records in found for record in records]

    def _event(self, record: Record) -> ReconciliationEvent:
        try:
            return self.codec.decode(record.value)
        except Undecodable as error:
            raise LogCorrupt(f"{self.topic}, offset {record.offset}: {error.reason}", offset=record.offset) from error


def _row(event: Said, position: int) -> tuple[Any, ...]:
    """Return what was said as a row, in the order of the table's columns; the time still in microseconds."""
    batch_id = event.batch_id if isinstance(event, DiscrepancyResolved) else None
    head = event.event_id, event.discrepancy_id, action(event), event.reason
    return *head, batch_id, event.actor, event.recorded_at, position


def action(event: Said) -> str:
    """Return what an event does to its discrepancy, as the table calls it."""
    match event:
        case DiscrepancyExplained():
            return "explained"
        case DiscrepancyIgnored():
            return "ignored"
        case DiscrepancyResolved():
            return "resolved"
        case DiscrepancyReopened():
            return "reopened"
        case _:
            assert_never(event)
