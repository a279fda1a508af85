"""What requesters were told, held against the log (I2): all of it is in the log, and of every answer one was told.

Outcomes are kept for a day, and of those only the last `MOST_OUTCOMES` of each partition are looked at, so that
memory is bounded. Who was told what before that can't be known any more.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from commands.codec import OutcomeCodec
from events.checks import CheckResult
from events.codec import Undecodable
from events.follow import Record, StoredEvent
from events.types import (
    BatchEntryPosted,
    BatchEvent,
    BatchPosted,
    BatchRejected,
    CommandRejected,
    PartitionOpened,
    Promise,
)

MOST_OUTCOMES: Final = 200_000
"""Outcomes of one partition that are looked at: 150 bytes of memory for each."""

_MARGIN: Final = 60_000_000
"""Microseconds by which the clocks of handlers may differ, and a time of the log be ahead of them."""


def _digest(event: object) -> bytes:
    return blake2b(repr(event).encode(), digest_size=16).digest()


@dataclass(slots=True)
class OutcomeAudit:
    """Takes outcomes first, then all events; then says what holds.

    From `complete_from` on (microseconds since 1970) all outcomes are among those that it was given.
    """

    codec: OutcomeCodec
    complete_from: int = 0
    _told: dict[tuple[int, int], bytes] = field(default_factory=dict)
    _checked: int = 0
    _fault: str | None = None

    def take_outcome(self, record: Record) -> None:
        """Take in one record of the topic."""
        self._checked += 1
        where = f"outcome in partition {record.partition} at offset {record.offset}"
        try:
            outcome = self.codec.decode(record.value or b"")
        except Undecodable as error:
            self._note(f"{where}: {error.reason}")
            return
        event = outcome.event
        if event.sequence < 0:  # a dry run, or a refusal that passes: in no log
            return
        place, digest = (outcome.partition, event.sequence), _digest(event)
        if self._told.setdefault(place, digest) != digest:
            self._note(f"{where}: another one told another event at sequence {event.sequence}")

    def take(self, stored: StoredEvent) -> None:
        """Take in one event of the log."""
        place = stored.partition, stored.event.sequence
        told = self._told.pop(place, None)
        if told is not None:
            if told != _digest(stored.event):
                self._note(f"partition {place[0]}, sequence {place[1]}: requesters were told another event")
        elif _is_told(stored.event) and stored.event.recorded_at > self.complete_from + _MARGIN:
            self._note(f"partition {place[0]}, sequence {place[1]}: nobody was told of it")

    def _note(self, fault: str) -> None:
        self._fault = self._fault or fault

    def result(self) -> CheckResult:
        """Return what holds of a log of which all events were taken."""
        if self._told:
            partition, sequence = min(self._told)
            self._note(f"partition {partition}, sequence {sequence}: it was told, and the log does not have it")
        title = "what was told is in the log, and of every answer somebody was told"
        return CheckResult("I2", title, self._fault is None, self._checked, self._fault)


def _is_told(event: Any) -> bool:
    """Whether an event is the answer of a command, which its requester is told in the same transaction."""
    match event:
        case PartitionOpened() | BatchEntryPosted():
            return False
        case CommandRejected() | BatchPosted() | BatchRejected():
            return True
        case _:
            return not isinstance(event, Promise | BatchEvent)
