"""A dead letter: a command that can't be read, kept as it came, with what is known about it in headers.

Owns their form, which the handler writes and an operator's commands read, and the bound on how many there may be.
All of it is pure; `commands.requeue` reads and moves them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple, Self

from events.clients import MAX_MESSAGE_BYTES
from events.errors import LedgerError
from events.follow import Headers, Record
from events.log import Outgoing
from events.topics import Topics

MOST_DEAD_LETTERS: Final = 100
"""Dead letters among a handler's last commands, twice as many, at most."""

_LARGEST: Final = MAX_MESSAGE_BYTES - 64 * 1024
"""Bytes of key and value: what is left is for headers."""
_LARGEST_KEY: Final = 1024
_MOST_DIGITS: Final = 18


class TooManyDeadLetters(LedgerError):
    """Most of the last commands could not be read: more likely the handler's fault than that of them all."""


class Position(NamedTuple):
    """Where a dead letter is in its topic."""

    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "0-17", or "17" for partition 0; raises `ValueError`."""
        partition, dash, offset = text.rpartition("-")
        where, at = _number(partition if dash else "0"), _number(offset)
        if where is None or at is None:
            raise ValueError(f"{text!r} is no dead letter's id: 17, or 0-17")
        return cls(where, at)

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A dead letter as it is in its topic.

    `at` is in milliseconds since 1970 UTC. `size` counts the bytes of the command's value, also when they were left
    out because no message can hold them: then `left_out` is their SHA-256 in hex. `requeued` counts how often the
    command had been requeued when it came here. What a header does not tell is None, or a reason "Unknown".
    """

    position: Position
    at: int
    key: bytes | None
    value: bytes | None
    size: int
    reason: str
    message: str
    source_topic: str | None
    source_partition: int | None
    source_offset: int | None
    requeued: int
    left_out: str | None

    @classmethod
    def read(cls, record: Record) -> Self:
        """Read a dead letter; what somebody else has put on the topic is one too, of which little is known."""
        headers = _texts(record.headers)
        return cls(
            position=Position(record.partition, record.offset),
            at=record.timestamp,
            key=record.key,
            value=record.value,
            size=_number(headers.get("left-out-bytes")) or len(record.value or b""),
            reason=headers.get("reason", "Unknown"),
            message=headers.get("message", ""),
            source_topic=headers.get("source-topic"),
            source_partition=_number(headers.get("source-partition")),
            source_offset=_number(headers.get("source-offset")),
            requeued=_number(headers.get("requeued")) or 0,
            left_out=headers.get("left-out-sha256"),
        )

    def command(self, topics: Topics) -> Outgoing:
        """Return the command to produce again: by murmur2 of its key, or where it was if it has none."""
        partition = self.source_partition if self.key is None else None
        headers: Headers = [
            ("requeued", str(self.requeued + 1).encode()),
            ("requeued-from", str(self.position).encode()),
        ]
        return Outgoing(topics.commands, partition, self.key, self.value, headers)


def dead_letter(topics: Topics, record: Record, reason: str, message: str) -> Outgoing:
    """Return the dead letter of a command: its key and value as they came, or the value's size and hash."""
    headers: Headers = [
        ("reason", reason.encode()),
        ("message", message.encode("utf-8", "replace")),
        ("source-topic", topics.commands.encode()),
        ("source-partition", str(record.partition).encode()),
        ("source-offset", str(record.offset).encode()),
    ]
    if requeued := _number(_texts(record.headers).get("requeued")):
        headers.append(("requeued", str(requeued).encode()))
    key, value = record.key or b"", record.value or b""
    if len(key) + len(value) <= _LARGEST:
        return Outgoing(topics.deadletter, None, record.key, record.value, headers)
    # A broker bounds what comes in compressed, so that this may be larger than anything we can send.
    headers += [("left-out-bytes", str(len(value)).encode()), ("left-out-sha256", sha256(value).hexdigest())]
    return Outgoing(topics.deadletter, None, key[:_LARGEST_KEY], None, headers)


def _texts(headers: Headers | None) -> dict[str, str]:
    """Return headers as text, whatever anybody has put into them."""
    return {
        name: value if isinstance(value, str) else (value or b"").decode("utf-8", "replace")
        for name, value in headers or ()
    }


def _number(text: str | None) -> int | None:
    """Return the number in a header, None if there is none: a command's headers are anybody's."""
    if text is None or len(text) > _MOST_DIGITS or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Which of a handler's last commands became dead letters: no more than `most` of the last twice as many.

    So a handler stops when the majority of its last 200 commands (with `most` = 100) can't be read. 0 is no bound.
    `recent` has a bit for each command, the newest in the lowest.
    """

    topics: Topics
    most: int = MOST_DEAD_LETTERS
    recent: int = 0

    def after(self, out: Iterable[Outgoing]) -> "Tally":
        """Return the tally after commands whose outcomes and dead letters are in `out`.

        Raises:
            TooManyDeadLetters: one of them is one dead letter too many.
        """
        if not self.most:
            return self
        dead, told = self.topics.deadletter, self.topics.outcomes
        recent, mask = self.recent, (1 << 2 * self.most) - 1
        for message in out:
            if message.topic == dead:
                recent = (recent << 1 | 1) & mask
                if recent.bit_count() > self.most:
                    raise self._too_many(message)
            elif message.topic == told:
                recent = recent << 1 & mask
        return Tally(topics=self.topics, most=self.most, recent=recent)

    def _too_many(self, last: Outgoing) -> TooManyDeadLetters:
        found = _texts(last.headers)
        return TooManyDeadLetters(
            f"more than {self.most} of the last {2 * self.most} commands can't be read, the last for this: "
            f"{found['reason']}: {found['message']} (partition {found['source-partition']}, offset "
            f"{found['source-offset']}). They stay where they are. Is this handler older than its producers, does it "
            "ask the right registry? If they are indeed no commands: docs/operations.md, Too many dead letters",
            most=self.most,
            window=2 * self.most,
            reason=found["reason"],
            partition=int(found["source-partition"]),
            offset=int(found["source-offset"]),
        )
