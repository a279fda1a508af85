"""A batch, as its own partition sees it, which decides: all of its entries are posted, or none.

When this handler has the partitions of all accounts, the batch is decided and posted at once, in one transaction.
Otherwise each partition is asked to promise its entries; when all have, the batch is committed, each is told to post,
and when all have, the batch is answered. When one refuses, the batch is rejected, and the others are told to forget.
What is sent goes into the transaction of the event that causes it, and a step that comes twice changes nothing.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from commands.batch_events import Head, posted, rejected
from commands.batch_validation import canonical_batch, check_batch
from commands.decide import NOWHERE, TRIED
from commands.errors import (
    BatchNotFound,
    IdempotencyConflict,
    Refused,
    WrongPartition,
)
from commands.outbox import Outbox
from commands.payload import payload_hash
from commands.promises import Batch, Refusal, post, refusal
from commands.records import Kept, batch_key, conflict_key
from commands.state import Draft, Drafts
from commands.trial import kind_of, tried, untried
from commands.types import (
    BatchCommand,
    Policy,
    PostBatch,
    ReleaseBatch,
    ReportReservation,
    ReportSettlement,
    ReserveBatch,
    ReverseBatch,
    SettleBatch,
    TryBatch,
)
from events.batch import Flight
from events.codec import EventCodec
from events.partitioner import home_of, partition_of
from events.types import (
    BatchCommitted,
    BatchPosted,
    BatchRejected,
    BatchReserved,
    BatchSettled,
    BatchStarted,
    EntryType,
    PlacedEntry,
)

_MOST_WAITED_FOR: Final = 10_000
_MOST_WAITING: Final = 16

_OTHER: Final = {EntryType.CREDIT: EntryType.DEBIT, EntryType.DEBIT: EntryType.CREDIT}


class Asked(NamedTuple):
    """A command on a batch: what was asked for, by whom, and its place in the topic."""

    command: BatchCommand
    digest: bytes
    offset: int

    @property
    def reply_key(self) -> str:
        """The key of the outcome."""
        return self.command.reply_key or self.command.command_id


class Asker(NamedTuple):
    """Who asked for a batch in flight: the type and id of the command, and the key of its outcome."""

    kind: type[BatchCommand]
    command_id: str
    reply_key: str


class Batches:
    """Decides the batches whose own partition is that of `home`, the draft that each method is given."""

    def __init__(self, events: EventCodec, policy: Policy) -> None:
        self._events = events
        self._policy = policy
        self._waiting: dict[tuple[int, str, int], list[Asker]] = {}

    def answer(self, drafts: Drafts, home: Draft, command: BatchCommand, offset: int, out: Outbox) -> None:
        """Answer a command on a batch, now or when its partitions have."""
        command, unkept = canonical_batch(command)
        asked = Asked(command, payload_hash(command), offset)
        key = batch_key(command.command_id)
        flight, kept, conflict = home.flight(command.command_id), home.answer(key), None
        first = flight or kept
        if first is None:
            if home.has_flown(command.command_id):  # it may have been a conflict with that one
                kept = home.answer(conflict_key(key, asked.digest))
        elif first.payload_hash != asked.digest:
            conflict = None, IdempotencyConflict("", command.command_id)
            flight, kept = None, home.answer(conflict_key(key, asked.digest))
        in_flight = command.command_id if flight else None
        if isinstance(command, ReverseBatch) and first is None and kept is None:
            in_flight, kept = _reversal(home, command)
        if kept is not None:
            out.tell(type(command), asked.reply_key, home.partition, kept.data, replayed=True)
        elif in_flight is not None:
            self._wait(home, in_flight, asked)
        elif refused := conflict or unkept or check_batch(command, self._policy):
            self._reject(home, asked, Refusal(*refused), out)
        elif isinstance(command, PostBatch):
            self._post(drafts, home, asked, command, out)
        else:
            self._reverse(drafts, home, asked, command, out)

    def _wait(self, home: Draft, batch_id: str, asked: Asked) -> None:
        """Let the outcome of a batch in flight be told once more; who is forgotten in a crash asks again.

        It is kept under the attempt as well: this one may end with another handler, and the same id be asked again.
        """
        flight = home.flight(batch_id)
        assert flight is not None, batch_id
        waiting = self._waiting.setdefault((home.partition, batch_id, flight.attempt), [])
        if len(waiting) < _MOST_WAITING:
            waiting.append(Asker(type(asked.command), asked.command.command_id, asked.reply_key))
        while len(self._waiting) > _MOST_WAITED_FOR:
            del self._waiting[next(iter(self._waiting))]

    def _tell(self, home: Draft, batch_id: str, flight: Flight, data: bytes, out: Outbox, *, posted: bool) -> None:
        """Tell the outcome of a batch that was in flight, once for each time that it was asked.

        Who waits for a reversal that another command asked for is told only that it is posted. That it was rejected
        is no answer to a command that may be forced: whoever sent it asks again.
        """
        kind = PostBatch if flight.reversal_of is None else ReverseBatch
        out.tell(kind, flight.reply_key or batch_id, home.partition, data, replayed=False)
        for another in self._waiting.pop((home.partition, batch_id, flight.attempt), ()):
            if posted or another.command_id == batch_id:
                out.tell(another.kind, another.reply_key, home.partition, data, replayed=True)

    def _post(self, drafts: Drafts, home: Draft, asked: Asked, command: PostBatch, out: Outbox) -> None:
        expected = partition_of(command.command_id, home.partition_count)
        if expected != home.partition:
            fault = WrongPartition(command.command_id, home.partition, expected)
            self._reject(home, asked, Refusal(None, fault), out)
            return
        count = home.partition_count
        entries = [
            PlacedEntry(leg, home_of(entry.account_id, count), *entry) for leg, entry in enumerate(command.entries)
        ]
        flight = Flight(NOWHERE, asked.digest, command.reply_key, entries, command.reference, command.metadata)
        self._begin(drafts, home, asked, flight, out)

    def _reverse(self, drafts: Drafts, home: Draft, asked: Asked, command: ReverseBatch, out: Outbox) -> None:
        kept = home.answer(batch_key(command.batch_id))
        posted = self._events.decode(kept.data) if kept else None
        if not isinstance(posted, BatchPosted) or posted.reversal_of is not None:
            self._reject(home, asked, Refusal(None, BatchNotFound(command.batch_id)), out)
            return
        tokens = {lock.account_id: lock.token for lock in command.locks}
        entries = [
            PlacedEntry(
                leg,
                entry.partition,
                entry.account_id,
                _OTHER[entry.entry_type],
                entry.amount,
                entry.asset,
                effective_at=command.effective_at,
                lock_token=tokens.get(entry.account_id),
            )
            for leg, entry in enumerate(reversed(posted.entries))
        ]
        flight = Flight(
            NOWHERE, asked.digest, command.reply_key, entries, command.reason, None, command.batch_id, command.force
        )
        self._begin(drafts, home, asked, flight, out)

    def _begin(self, drafts: Drafts, home: Draft, asked: Asked, flight: Flight, out: Outbox) -> None:
        """Post the batch at once if this handler has all partitions; else ask them to promise. Or only try it."""
        if asked.command.dry_run:
            self._try(drafts, home, asked, flight, out)
            return
        partitions = flight.partitions
        mine = {p: draft for p in partitions if (draft := drafts.get(p)) is not None}
        if len(mine) == len(partitions):
            self._post_at_once(mine, home, asked, flight, out)
        else:
            self._start(home, asked, flight, out)

    def _post_at_once(self, mine: dict[int, Draft], home: Draft, asked: Asked, flight: Flight, out: Outbox) -> None:
        refused = refusal(
            flight.entries,
            lambda entry: mine[entry.partition].account(entry.account_id),
            self._policy,
            forced=flight.forced,
            now=lambda entry: mine[entry.partition].recorded_at,
        )
        if refused is not None:
            self._reject(home, asked, refused, out)
            return
        results = []
        for entry in flight.entries:
            draft = mine[entry.partition]
            offset = asked.offset if draft is home else draft.next_command_offset - 1
            batch = Batch(asked.command.command_id, asked.digest, len(flight.entries), flight.forced, offset)
            results.append(post(draft, batch, entry, out, reserved=False))
        event = posted(_head(home, asked), flight, results)
        data = out.append(home, event)
        out.tell(type(asked.command), asked.reply_key, home.partition, data, replayed=False)

    def _try(self, drafts: Drafts, home: Draft, asked: Asked, flight: Flight, out: Outbox) -> None:
        step = TryBatch(
            asked.command.command_id,
            asked.reply_key,
            home.partition,
            asked.offset,
            asked.digest,
            flight.entries,
            flight.reference,
            flight.metadata,
            flight.reversal_of,
            flight.forced,
        )
        self.try_on(drafts, home, step, out)

    def try_on(self, drafts: Drafts, draft: Draft, step: TryBatch, out: Outbox) -> None:
        """Go on with a dry run, whose own partition may be another one."""
        answer = tried(drafts, draft, step, self._policy)
        if isinstance(answer, TryBatch):
            out.send(answer, min(entry.partition for entry in untried(answer)))
        else:
            out.tell(kind_of(step), step.reply_key, step.home, self._events.encode(answer), replayed=False)

    def _start(self, home: Draft, asked: Asked, flight: Flight, out: Outbox) -> None:
        batch_id = asked.command.command_id
        event = BatchStarted(
            *_head(home, asked),
            asked.command.reply_key,
            flight.entries,
            flight.reference,
            flight.metadata,
            flight.reversal_of,
            flight.forced,
        )
        out.append(home, event)
        for partition in sorted(flight.partitions):
            entries = [entry for entry in flight.entries if entry.partition == partition]
            legs = len(flight.entries)
            out.send(
                ReserveBatch(batch_id, event.sequence, home.partition, asked.digest, legs, flight.forced, entries),
                partition,
            )

    def _reject(self, home: Draft, asked: Asked, refused: Refusal, out: Outbox) -> None:
        head = _head(home, asked)
        command = asked.command
        reversal_of = command.batch_id if isinstance(command, ReverseBatch) else None
        if command.dry_run or isinstance(refused.fault, Refused):
            head = TRIED if command.dry_run else NOWHERE, *head[1:]
            data = self._events.encode(rejected(head, type(command), refused, reversal_of))
        else:
            data = out.append(home, rejected(head, type(command), refused, reversal_of))
        out.tell(type(command), asked.reply_key, home.partition, data, replayed=False)

    def reservation(self, home: Draft, offset: int, report: ReportReservation, out: Outbox) -> None:
        """Take in what a partition says of its promise: go on when it was the last, end when it was refused."""
        flight = home.flight(report.batch_id)
        if flight is None or flight.attempt != report.attempt:
            if not report.code:  # rejected meanwhile; if it was posted, nothing is promised, and nothing released
                out.send(ReleaseBatch(report.batch_id, report.attempt, home.partition), report.partition)
            return
        if flight.committed or report.partition not in flight.partitions - flight.reserved:
            return
        head = _head_of(home, report.batch_id, offset, flight)
        if report.code:
            self._end_refused(home, head, report, flight, out)
        elif flight.partitions == flight.reserved | {report.partition}:
            out.append(home, BatchCommitted(*head))
            _to_each(flight.partitions, SettleBatch(report.batch_id, report.attempt, home.partition), out)
        else:
            out.append(home, BatchReserved(*head, report.partition))

    def _end_refused(self, home: Draft, head: Head, report: ReportReservation, flight: Flight, out: Outbox) -> None:
        kind = "PostBatch" if flight.reversal_of is None else "ReverseBatch"
        data = out.append(
            home,
            BatchRejected(*head, kind, report.code, report.message, report.details, report.leg, flight.reversal_of),
        )
        step = ReleaseBatch(report.batch_id, report.attempt, home.partition)
        _to_each(flight.partitions - {report.partition}, step, out)
        self._tell(home, report.batch_id, flight, data, out, posted=False)

    def settlement(self, home: Draft, offset: int, report: ReportSettlement, out: Outbox) -> None:
        """Take in where a partition has posted its entries; answer the batch when it was the last."""
        flight = home.flight(report.batch_id)
        if flight is None or flight.attempt != report.attempt or not flight.committed:
            return
        legs = sorted(result.leg for result in report.entries)
        if legs != _legs_at(report.partition, flight) or any(leg in flight.results for leg in legs):
            return
        head = _head_of(home, report.batch_id, offset, flight)
        results = {**flight.results, **{result.leg: result for result in report.entries}}
        if len(results) < len(flight.entries):
            out.append(home, BatchSettled(*head, report.partition, report.entries))
            return
        data = out.append(home, posted(head, flight, [results[leg] for leg in range(len(results))]))
        self._tell(home, report.batch_id, flight, data, out, posted=True)


def _legs_at(partition: int, flight: Flight) -> list[int]:
    return [entry.leg for entry in flight.entries if entry.partition == partition]


def _head(home: Draft, asked: Asked) -> Head:
    return (
        home.next_sequence,
        home.writer_epoch,
        home.recorded_at,
        asked.command.command_id,
        asked.offset,
        asked.digest,
    )


def _head_of(home: Draft, batch_id: str, offset: int, flight: Flight) -> Head:
    return home.next_sequence, home.writer_epoch, home.recorded_at, batch_id, offset, flight.payload_hash


def _reversal(home: Draft, command: ReverseBatch) -> tuple[str | None, Kept | None]:
    """Return the reversal that the batch has already, whoever asked for it: its id in flight, or its answer."""
    reversal = home.reversal(command.batch_id)
    kept = None if reversal is None else home.answer(batch_key(reversal))
    return (None, kept) if kept else (reversal, None)


def _to_each(partitions: Iterable[int], step: SettleBatch | ReleaseBatch, out: Outbox) -> None:
    for partition in sorted(partitions):
        out.send(step, partition)
