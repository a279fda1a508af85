"""Asking as fast as is answered: commands out, outcomes in, and a record of who was told what.

At most `window` commands are unanswered at any time, so that a latency is that of the system and not of a queue
that the demo itself fills.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import TopicPartition

from commands.codec import Outcome
from commands.payload import payload_hash
from commands.types import Command, key_of
from events.errors import LedgerError
from events.follow import Ends
from events.partitioner import partition_of
from events.types import (
    Answer,
    BatchPosted,
    BatchRejected,
    CommandRejected,
    EntryPosted,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
)
from partita.demo.workload import Ask, Kind
from partita.wiring import Wiring

_STALLED: Final = 120.0
_MOST: Final = 1000
_BECOMES: Final[Mapping[type[Any], str]] = {
    EntryPosted: "entries",
    BatchPosted: "transfers",
    HoldPlaced: "holds placed",
    HoldSettled: "holds settled",
    HoldReleased: "holds released",
}


class Stalled(LedgerError):
    """Commands stay unanswered."""


class Question(NamedTuple):
    """What an outcome answers. `key` is that of the command: its account or its batch."""

    key: str
    command_id: str
    payload_hash: bytes


class Told(NamedTuple):
    """What a requester was told: where the event is, and the rule that it broke, if any."""

    partition: int
    sequence: int
    code: str | None


@dataclass(slots=True)
class Record:
    """All that was asked and told; what was accepted is counted by what came of it, what was rejected by the rule.

    `latencies` are in seconds; `reached` is the highest sequence told of each partition.
    """

    asked: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    reached: dict[int, int] = field(default_factory=dict)
    told: dict[Question, Told] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    started: float = 0.0
    ended: float = 0.0

    @property
    def answered(self) -> int:
        """How many outcomes have come."""
        return len(self.latencies)


class Traffic:
    """One requester that asks many commands at once."""

    def __init__(self, wiring: Wiring, *, reply_key: str, window: int, linger_ms: int = 5) -> None:
        self._wiring = wiring
        self._topics = wiring.topics
        self._window = window
        self._key = reply_key.encode()
        self._unanswered: dict[Question, deque[tuple[float, Kind]]] = {}
        self.record = Record()
        self._producer = wiring.clients.producer(linger_ms=linger_ms)
        count = wiring.partition_count()
        partition = partition_of(reply_key, count)
        end = Ends(wiring.clients).high(self._topics.outcomes, [partition], timeout=10)[partition]
        self._consumer = wiring.clients.consumer(reply_key)
        self._consumer.assign([TopicPartition(self._topics.outcomes, partition, end)])

    def run(self, asks: Iterator[Ask], *, on_progress: Callable[[Record], None]) -> None:
        """Ask all of `asks`, and return when every one is answered; raises `Stalled`."""
        self.record.started = self.record.started or time.monotonic()
        for ask in asks:
            while self.record.asked - self.record.answered >= self._window:
                self._await_some(on_progress)
            self._ask(ask)
            if self.record.asked % 100 == 0:
                self.receive(0)
        self._producer.flush(_STALLED)
        while self.record.answered < self.record.asked:
            self._await_some(on_progress)
        self.record.ended = time.monotonic()
        on_progress(self.record)

    def _await_some(self, on_progress: Callable[[Record], None]) -> None:
        deadline = time.monotonic() + _STALLED
        while not self.receive(0.2):
            on_progress(self.record)
            if time.monotonic() > deadline:
                missing = self.record.asked - self.record.answered
                raise Stalled(f"{missing} commands unanswered for {_STALLED:.0f} s", missing=missing)
        on_progress(self.record)

    def _ask(self, ask: Ask) -> None:
        command = ask.command
        question = _question(command)
        self._unanswered.setdefault(question, deque()).append((time.monotonic(), ask.kind))
        self._producer.produce(
            self._topics.commands, self._wiring.command_codec.encode(command), question.key.encode()
        )
        self._producer.poll(0)
        self.record.asked += 1

    def receive(self, timeout: float) -> int:
        """Take in the outcomes that are there, waiting up to `timeout` seconds for the first; return how many."""
        self._producer.poll(0)
        first = self._consumer.poll(timeout)
        if first is None:
            return 0
        before = self.record.answered
        for message in (first, *self._consumer.consume(_MOST, 0)):
            if message.error() is None and message.key() == self._key:
                self._take(self._wiring.outcome_codec.decode(message.value() or b""))
        return self.record.answered - before

    def _take(self, outcome: Outcome) -> None:
        event = outcome.event
        question = question_of(event)
        waiting = self._unanswered.get(question)
        if not waiting:
            self.record.unexpected.append(event.command_id)
            return
        asked_at, kind = waiting.popleft()
        if not waiting:
            del self._unanswered[question]
        self.record.latencies.append(time.monotonic() - asked_at)
        self._count(outcome, kind)
        self.record.reached[outcome.partition] = max(event.sequence, self.record.reached.get(outcome.partition, 0))
        told = Told(outcome.partition, event.sequence, getattr(event, "code", None))
        if self.record.told.setdefault(question, told) != told:
            self.record.changed.append(event.command_id)

    def _count(self, outcome: Outcome, kind: Kind) -> None:
        match outcome.event:
            case _ if outcome.replayed:
                self.record.repeats += 1
            case CommandRejected(code=code) | BatchRejected(code=code):
                self.record.rejected[code] += 1
            case accepted:
                self.record.accepted[_BECOMES[type(accepted)]] += 1
        if (kind is Kind.REPEAT and not outcome.replayed) or (kind is Kind.CONFLICT and not _conflicts(outcome)):
            self.record.unexpected.append(outcome.event.command_id)

    def waits_for_asked_before(self, moment: float) -> bool:
        """Whether a command that was asked before `moment` (monotonic seconds) is still unanswered."""
        return any(asked_at < moment for waiting in list(self._unanswered.values()) for asked_at, _ in waiting)

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()


def _conflicts(outcome: Outcome) -> bool:
    return isinstance(outcome.event, CommandRejected | BatchRejected) and outcome.event.code == "IdempotencyConflict"


def _question(command: Command) -> Question:
    return Question(key_of(command), command.command_id, payload_hash(command))


def question_of(event: Answer) -> Question:
    """Return the question that `event` answers."""
    key = event.command_id if isinstance(event, BatchPosted | BatchRejected) else event.account_id
    return Question(key, event.command_id, event.payload_hash)
