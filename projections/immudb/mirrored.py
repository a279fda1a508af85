"""An event of the log as immudb has it: its key, its value, and verifying the `immudb` part of a receipt. Pure.

A key names the topic, the partition and the sequence, with so many zeros that a scan is in the order of the log. The
value is the SHA-256 of the event and the event itself, its bytes as they are on the topic.
"""

import base64
import binascii
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from events.merkle import ProofInvalid
from projections.immudb import evidence
from projections.immudb.evidence import Evidence, Shown

_PARTITION_DIGITS: Final = 4
_SEQUENCE_DIGITS: Final = 20
_HASH_BYTES: Final = 32


def key_of(topic: str, partition: int, sequence: int) -> bytes:
    """Return the key of the event at a place of the log."""
    return f"{topic}/{partition:0{_PARTITION_DIGITS}}/{sequence:0{_SEQUENCE_DIGITS}}".encode()


def value_of(event: bytes) -> bytes:
    """Return the value for an event's bytes."""
    return sha256(event).digest() + event


def event_of(found: Evidence) -> bytes:
    """Return the bytes of the event in a value; raises `ProofInvalid` when it is none of ours."""
    event = found.value[_HASH_BYTES:]
    if found.value != value_of(event):
        raise ProofInvalid(f"the value of {found.key.decode(errors='replace')} is no event of ours")
    return event


def verify_receipt_part(
    part: Mapping[str, Any], *, partition: int, sequence: int, event: bytes, topic: str | None = None
) -> Shown:
    """Verify the `immudb` part of a receipt offline, and return what it has shown.

    `event` are the event's bytes as they are on the topic, a receipt's `leaf`. `topic` is that of the events; when it
    is None, whatever the key names. Hold one of the states that are returned against a copy that you trust.

    Raises:
        ProofInvalid: it does not show that immudb has this event at this place.
    """
    key = key_of(_topic_in(part) if topic is None else topic, partition, sequence)
    return evidence.verify(part, key=key, value=value_of(event))


def _topic_in(part: Mapping[str, Any]) -> str:
    try:
        return base64.b64decode(part["key"], validate=True).decode().rsplit("/", 2)[0]
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise ProofInvalid("the evidence has no key of the right form", field="key") from None
