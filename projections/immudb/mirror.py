"""The mirror: every event of the log under a key of its own in immudb. What is written there, and reading it back.

A key names the topic, the partition and the sequence, with so many zeros that a scan is in the order of the log. The
value is the SHA-256 of the event and the event itself, its bytes as they are on the topic.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from events.follow import StoredEvent
from projections.immudb import evidence
from projections.immudb.errors import ImmudbTampered
from projections.immudb.evidence import Evidence, Shown
from projections.immudb.verified import Kept, VerifiedDatabase

_PARTITION_DIGITS: Final = 4
_SEQUENCE_DIGITS: Final = 20
_HASH_BYTES: Final = 32


def key_of(topic: str, partition: int, sequence: int) -> bytes:
    """Return the key of the event at a place of the log."""
    return f"{topic}/{partition:0{_PARTITION_DIGITS}}/{sequence:0{_SEQUENCE_DIGITS}}".encode()


def value_of(event: bytes) -> bytes:
    """Return the value for an event's bytes."""
    return sha256(event).digest() + event


def verify_receipt_part(part: Mapping[str, Any], *, topic: str, partition: int, sequence: int, event: bytes) -> Shown:
    """Verify the `immudb` part of a receipt offline, and return what it has shown.

    `event` are the event's bytes as they are on the topic. Hold one of the states that are returned against a copy
    that you trust.

    Raises:
        ProofInvalid: it does not show that immudb has this event at this place.
    """
    return evidence.verify(part, key=key_of(topic, partition, sequence), value=value_of(event))


def event_of(found: Evidence) -> bytes:
    """Return the bytes of the event in a value that `Mirror.find` has returned."""
    return found.value[_HASH_BYTES:]


class Mirror:
    """The events of one topic in a database of immudb. Calls block."""

    def __init__(self, database: VerifiedDatabase, topic: str) -> None:
        self.database = database
        self._topic = topic

    def keep(self, events: Sequence[StoredEvent]) -> Kept:
        """See to it that immudb has each of the events, once; raises as `VerifiedDatabase.keep`."""
        return self.database.keep([(self.key(stored), value_of(stored.data)) for stored in events])

    def key(self, stored: StoredEvent) -> bytes:
        """Return the key of an event."""
        return key_of(self._topic, stored.partition, stored.event.sequence)

    def find(self, partition: int, sequence: int) -> Evidence | None:
        """Return the event at a place of the log, with its evidence; None: not there yet.

        Raises:
            ImmudbTampered: it was written over, or deleted, or the proof does not hold.
            ImmudbUnavailable, ImmudbRefused, TrustedStateInvalid, TrustedStateBusy: as they say.
        """
        key = key_of(self._topic, partition, sequence)
        found = self.database.get(key)
        if found is None:
            return None
        name = key.decode()
        if found.revision != 1 or found.metadata:
            raise ImmudbTampered(f"{name} was written more than once in {self.database.place}", key=name)
        if found.value[:_HASH_BYTES] != sha256(found.value[_HASH_BYTES:]).digest():
            raise ImmudbTampered(f"{name} in {self.database.place} is no event of ours", key=name)
        return found

    def first_fault(self, events: Sequence[StoredEvent]) -> str | None:
        """Return the first of the events that immudb does not have as it is, and why; None: it is proven of all.

        Raises:
            TrustedStateInvalid, TrustedStateBusy, ImmudbUnavailable, ImmudbRefused: it can't be told.
        """
        pairs = [(self.key(stored), value_of(stored.data)) for stored in events]
        try:
            wrong = self.database.differing(pairs)
        except ImmudbTampered as error:
            return self._first_refused(pairs) or error.message
        return next((f"{key.decode()}: {wrong[key]}" for key, _ in pairs if key in wrong), None)

    def _first_refused(self, pairs: Sequence[tuple[bytes, bytes]]) -> str | None:
        """Return the first of the pairs that can't be proven alone; None when each can."""
        for key, value in pairs:
            try:
                self.database.differing([(key, value)])
            except ImmudbTampered as error:
                return f"{key.decode()}: {error.message}"
        return None

    def receipt_part(self, partition: int, sequence: int) -> dict[str, Any] | None:
        """Return the `immudb` part of an entry's receipt, JSON-ready; None: not there yet. Raises as `find`."""
        found = self.find(partition, sequence)
        return None if found is None else evidence.to_json(found)
