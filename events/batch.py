"""A batch in flight, as the log of its own partition tells it: the fold of its events. Pure.

A batch whose accounts are all with one handler is posted at once and never in flight (docs/adr/0016).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, assert_never

from events.types import (
    BatchCommitted,
    BatchEntryPosted,
    BatchEvent,
    BatchPosted,
    BatchRejected,
    BatchReserved,
    BatchSettled,
    BatchStarted,
    EntryReleased,
    EntryReserved,
    EntryResult,
    PlacedEntry,
    Promise,
)

PASSING: Final = frozenset({"AccountLocked", "LockLost"})
"""Refusals that pass: the same id may be asked again. They are in the log only when they end a batch in flight."""


class Flight(NamedTuple):
    """A batch that has been started and not answered.

    `attempt` is the sequence of its `BatchStarted`. `reserved` are the partitions that have promised their entries,
    `results` what was posted, by the number of the entry; `committed` says that the batch is decided.
    """

    attempt: int
    payload_hash: bytes
    reply_key: str | None
    entries: Sequence[PlacedEntry]
    reference: str | None = None
    metadata: str | None = None
    reversal_of: str | None = None
    forced: bool = False
    reserved: frozenset[int] = frozenset()
    committed: bool = False
    results: Mapping[int, EntryResult] = MappingProxyType({})

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions of its accounts."""
        return frozenset(entry.partition for entry in self.entries)


class Promises(NamedTuple):
    """What one partition has promised for a batch, and not posted or released yet: none when all that is over.

    `home` is the batch's own partition, `attempt` the sequence of its `BatchStarted`, `legs` how many entries it has.
    """

    home: int
    attempt: int
    legs: int
    forced: bool
    payload_hash: bytes
    entries: Sequence[PlacedEntry] = ()


def evolve_promises(promises: Promises | None, partition: int, event: Promise | BatchEntryPosted) -> Promises | None:
    """Return what is promised for the event's batch after it. Never validates."""
    match event:
        case EntryReserved():
            entry = PlacedEntry(
                event.leg,
                partition,
                event.account_id,
                event.entry_type,
                event.amount,
                event.asset,
                event.reference,
                event.metadata,
                event.effective_at,
            )
            before = promises.entries if promises and promises.attempt == event.attempt else ()
            entries = (*before, entry)
            return Promises(event.home, event.attempt, event.legs, event.forced, event.payload_hash, entries)
        case EntryReleased() | BatchEntryPosted():
            return promises and promises._replace(
                entries=tuple(entry for entry in promises.entries if entry.leg != event.leg)
            )
        case _ as unreachable:
            assert_never(unreachable)


def evolve_flight(flight: Flight | None, event: BatchEvent) -> Flight | None:
    """Return the batch in flight after `event`; None when it is not in flight. Never validates."""
    match event:
        case BatchStarted():
            return Flight(
                event.sequence,
                event.payload_hash,
                event.reply_key,
                event.entries,
                event.reference,
                event.metadata,
                event.reversal_of,
                event.forced,
            )
        case BatchReserved():
            return flight and flight._replace(reserved=flight.reserved | {event.partition})
        case BatchCommitted():
            return flight and flight._replace(committed=True)
        case BatchSettled():
            new = {result.leg: result for result in event.entries}
            return flight and flight._replace(results={**flight.results, **new})
        case BatchPosted() | BatchRejected():
            return None
        case _ as unreachable:
            assert_never(unreachable)
