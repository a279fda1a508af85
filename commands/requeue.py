"""Looking at the dead letters of a ledger, and giving their commands to the handler again.

Dead letters are read by position and leave no trace of that; nothing here deletes one. A command that is requeued
twice is answered twice and applied once, since its id is the same.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from heapq import nlargest
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from commands.deadletter import DeadLetter, Position
from events.clients import KafkaClients, unavailable
from events.errors import LedgerError, TopicMissing
from events.follow import Ends, read_between
from events.log import Outgoing
from events.topics import Topics, check_partition_count

MOST_REQUEUED: Final = 100_000
"""Commands of one requeue at most: it remembers each by a hash, so that none of them is sent twice."""

_QUEUED: Final = 10_000
_QUEUED_KB: Final = 64 * 1024
_ROOM: Final = 0.1


class DeadLetterNotFound(LedgerError):
    """No dead letter is at this position: it never was, or it has been deleted by retention."""


class ValueLeftOut(LedgerError):
    """The dead letter has no command in it: that was too large for one, so only its producer can send it again."""


class RequeueIncomplete(LedgerError):
    """Kafka took some of the commands and not the others."""

    retriable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which dead letters are meant: those at `positions` if any are given, else those that fit the rest.

    `since` is in milliseconds since 1970 UTC.
    """

    positions: frozenset[Position] = frozenset()
    reason: str | None = None
    since: int | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether this one is meant."""
        if self.positions:
            return letter.position in self.positions
        return self.reason in (None, letter.reason) and (self.since is None or letter.at >= self.since)


@dataclass(slots=True, kw_only=True)
class Sieve:
    """Lets through what can be requeued, each command once and `limit` in all; counts what it holds back."""

    limit: int = MOST_REQUEUED
    passed: int = 0
    left_out: int = 0
    repeated: int = 0
    beyond: int = 0
    _seen: set[bytes] = field(default_factory=set)

    def through(self, letters: Iterable[DeadLetter]) -> Iterator[DeadLetter]:
        """Yield those of `letters` that are to be sent."""
        for letter in letters:
            digest = sha256(repr((letter.key, letter.value)).encode()).digest()
            if letter.left_out is not None:
                self.left_out += 1
            elif digest in self._seen:
                self.repeated += 1
            elif self.passed == self.limit:
                self.beyond += 1
            else:
                self._seen.add(digest)
                self.passed += 1
                yield letter


def complete(letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
    """Return `letters`, every one of which can be requeued; raises `ValueLeftOut`."""
    for letter in letters:
        if letter.left_out is not None:
            raise ValueLeftOut(
                f"dead letter {letter.position} has no command in it: its {letter.size:,} bytes were too many. Only "
                "its producer can send it again",
                dead_letter=str(letter.position),
                bytes=letter.size,
                sha256=letter.left_out,
            )
    return letters


class Span(NamedTuple):
    """Where reading begins and ends, by partition."""

    starts: Mapping[int, int]
    ends: Mapping[int, int]


class DeadLetters:
    """The dead letters of one ledger as far as they go now: those that come later are not among them.

    `timeout` is in seconds, for each answer of Kafka's.
    """

    def __init__(self, clients: KafkaClients, topics: Topics, *, timeout: float) -> None:
        self._clients = clients
        self._topics = topics
        self._timeout = timeout
        self._ends = Ends(clients)
        count = _partitions(clients, topics.deadletter, timeout)
        self._all = Span(
            self._ends.oldest(topics.deadletter, range(count), timeout=timeout),
            self._ends.stable(topics.deadletter, range(count), timeout=timeout),
        )

    def select(self, selection: Selection) -> Iterator[DeadLetter]:
        """Yield those that are meant, each partition's in order.

        Raises:
            BrokerUnavailable: Kafka stops answering.
        """
        span = self._span(selection)
        if not span.starts:
            return
        for records in read_between(
            self._clients, self._topics.deadletter, span.starts, span.ends, idle_timeout=self._timeout
        ):
            yield from filter(selection.takes, map(DeadLetter.read, records))

    def _span(self, selection: Selection) -> Span:
        """Return what has to be read for a selection: no partition in which there is nothing to read."""
        starts, ends = dict(self._all.starts), dict(self._all.ends)
        if selection.positions:
            for p, end in self._all.ends.items():
                offsets = [position.offset for position in selection.positions if position.partition == p]
                starts[p] = max(starts[p], min(offsets, default=end))
                ends[p] = min(end, max(offsets, default=0) + 1)
        elif selection.since is not None:
            first = self._ends.since(self._topics.deadletter, starts, selection.since, timeout=self._timeout)
            starts = {p: ends[p] if first[p] < 0 else max(first[p], start) for p, start in starts.items()}
        wanted = [p for p in starts if starts[p] < ends[p]]
        return Span({p: starts[p] for p in wanted}, {p: ends[p] for p in wanted})

    def newest(self, selection: Selection, limit: int) -> tuple[list[DeadLetter], int]:
        """Return the newest of those that are meant, in order and without their values, and how many are meant."""
        number = 0

        def counted() -> Iterator[DeadLetter]:
            nonlocal number
            for letter in self.select(selection):
                number += 1
                yield replace(letter, value=None)

        newest = nlargest(limit, counted(), key=lambda letter: (letter.at, letter.position))
        return newest[::-1], number

    def pick(self, positions: Iterable[Position]) -> list[DeadLetter]:
        """Return the dead letters at these positions, with their values.

        Raises:
            DeadLetterNotFound: there is none at one of them.
        """
        wanted = frozenset(positions)
        found = list(self.select(Selection(positions=wanted)))
        if missing := sorted(wanted - {letter.position for letter in found}):
            raise DeadLetterNotFound(
                f"there is no dead letter {missing[0]}: `partita deadletter list` shows those that there are",
                dead_letter=str(missing[0]),
            )
        return found

    def requeue(self, letters: Iterable[DeadLetter], *, on_progress: Callable[[int], None] | None = None) -> int:
        """Produce the commands of `letters` again; return how many, when Kafka has them all.

        Raises:
            RequeueIncomplete: it has not. Those that it has are not harmed by being requeued again.
            BrokerUnavailable, TopicMissing: nothing was sent.
        """
        check_partition_count(self._clients, self._topics, timeout=self._timeout)
        sending = _Sending(self._clients, timeout=self._timeout)
        for letter in letters:
            sending.send(letter.position, letter.command(self._topics))
            if on_progress is not None:
                on_progress(sending.delivered)
        return sending.finish()


class _Sending:
    """A producer that counts what is delivered, and stops at the first message that is not."""

    def __init__(self, clients: KafkaClients, *, timeout: float) -> None:
        self._timeout = timeout
        self._producer: Producer = clients.producer(
            message_timeout_ms=int(timeout * 1000),
            queue_buffering_max_messages=_QUEUED,
            queue_buffering_max_kbytes=_QUEUED_KB,
            compression_type="zstd",  # a command that came in compressed can be too large for the topic without
        )
        self.delivered = 0

    def send(self, position: Position, message: Outgoing) -> None:
        """Give a message to the producer, waiting for room."""

        def report(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                raise self._incomplete(position, error.str())
            self.delivered += 1

        topic, partition, key, value, headers = message
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                self._producer.produce(
                    topic, value, key, -1 if partition is None else partition, headers=headers, on_delivery=report
                )
                break
            except BufferError:
                if time.monotonic() > deadline:
                    raise self._incomplete(position, "the brokers take nothing") from None
                self._producer.poll(_ROOM)
            except KafkaException as error:
                raise self._incomplete(position, error.args[0].str()) from error
        self._producer.poll(0)

    def finish(self) -> int:
        """Return how many were delivered, when all of them are."""
        if left := self._producer.flush(self._timeout + 1):
            raise RequeueIncomplete(f"{left} commands were not taken by Kafka in time", requeued=self.delivered)
        return self.delivered

    def _incomplete(self, position: Position, cause: str) -> RequeueIncomplete:
        return RequeueIncomplete(
            f"dead letter {position} was not requeued: {cause}. {self.delivered} were; to requeue them again does no "
            "harm",
            dead_letter=str(position),
            requeued=self.delivered,
            cause=cause,
        )


def _partitions(clients: KafkaClients, topic: str, timeout: float) -> int:
    """Return the partition count of a topic; raises `TopicMissing`."""
    try:
        found = clients.admin().list_topics(timeout=timeout).topics
    except KafkaException as error:
        raise unavailable(clients, error) from error
    if topic not in found:
        raise TopicMissing(f"there is no topic {topic}: has a handler been started?", topic=topic)
    return len(found[topic].partitions)
