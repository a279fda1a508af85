"""What the handler remembers of one partition: accounts, holds, batches, and the answer to every command id. All of
it is in the log; a store on disk keeps it, so that memory stays bounded and a start reads only what came after.

A group of commands is decided on a `Draft`, which becomes part of the state after its transaction is committed, and
is dropped when it is not: work that was aborted leaves no trace.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import islice
from typing import Final, Protocol

from commands.errors import IdempotencyConflict
from commands.records import (
    POSITION_KEY,
    Kept,
    Position,
    account_key,
    answer_key,
    batch_key,
    conflict_key,
    flight_key,
    hold_key,
    promise_key,
    read_account,
    read_answer,
    read_flight,
    read_hold,
    read_position,
    read_promises,
    reversal_key,
    write_account,
    write_answer,
    write_flight,
    write_hold,
    write_position,
    write_promises,
)
from commands.store import Store
from events.account import NEW_ACCOUNT, Account, Hold, evolve, evolve_hold
from events.batch import PASSING, Flight, Promises, evolve_flight, evolve_promises
from events.errors import LogCorrupt
from events.follow import StoredEvent
from events.merkle import grow, leaf_hash, root_of
from events.types import (
    AccountAnswer,
    AccountEvent,
    Answer,
    BatchEntryPosted,
    BatchEvent,
    BatchPosted,
    BatchRejected,
    BatchStarted,
    CommandRejected,
    EntryPosted,
    HoldEvent,
    PartitionOpened,
    Promise,
)

MOST_CACHED: Final = 20_000
"""Accounts that one partition keeps in memory unless told; each takes about a kilobyte."""

_CONFLICT: Final = IdempotencyConflict.__name__


def filed_under(event: Answer) -> bytes:
    """Return the key of the answer that the event is: a conflict does not take the place of the first answer."""
    if isinstance(event, BatchPosted | BatchRejected):
        key = batch_key(event.command_id)
    else:
        key = answer_key(event.account_id, event.command_id)
    if isinstance(event, CommandRejected | BatchRejected) and event.code == _CONFLICT:
        return conflict_key(key, event.payload_hash)
    return key


class PartitionState:
    """The fold of a partition's events, kept in `store`. The `most_cached` used last are in memory as well.

    `is_readable` is False when the store was written in another format, or for another partition: then it must be
    thrown away.
    """

    def __init__(self, partition: int, store: Store, *, most_cached: int = MOST_CACHED) -> None:
        self._store = store
        self._cache: dict[str, Account] = {}
        self._older: dict[str, Account] = {}
        self._most_cached = most_cached
        self._fetched: dict[bytes, bytes | None] = {}
        kept = store.get(POSITION_KEY)
        position = Position(partition) if kept is None else read_position(kept)
        self.is_readable = position is not None and position.partition == partition
        self.position = position if position and self.is_readable else Position(partition)

    @property
    def partition(self) -> int:
        """The partition."""
        return self.position.partition

    def fetch(self, keys: Iterable[bytes], account_ids: Iterable[str]) -> None:
        """Read together what is going to be asked for: quicker than one by one. It is kept until the next write."""
        cache, older, fetched = self._cache, self._older, self._fetched
        unknown = (account_id for account_id in account_ids if account_id not in cache and account_id not in older)
        wanted = {*keys, *map(account_key, unknown)}
        missing = [key for key in wanted if key not in fetched]
        fetched.update(zip(missing, self._store.get_many(missing), strict=True))

    def _get(self, key: bytes) -> bytes | None:
        fetched = self._fetched
        return fetched[key] if key in fetched else self._store.get(key)

    def account(self, account_id: str) -> Account:
        """Return the account, a new one when the log has nothing of it."""
        account = self._cache.get(account_id) or self._older.get(account_id)
        if account is not None:
            return account
        value = self._get(account_key(account_id))
        if value is None:
            return NEW_ACCOUNT
        account = read_account(value)
        self._remember({account_id: account})  # who asks, asks again when the event is recorded
        return account

    def hold(self, key: bytes) -> Hold | None:
        """Return the hold under `key`; None when there is none, or it is over."""
        value = self._get(key)
        return None if value is None else read_hold(value)

    def answer(self, key: bytes) -> Kept | None:
        """Return the answer that is filed under `key`."""
        value = self._get(key)
        return None if value is None else read_answer(value)

    def flight(self, batch_id: str) -> Flight | None:
        """Return the batch in flight; None when it is not."""
        value = self._get(flight_key(batch_id))
        return read_flight(value) if value else None

    def has_flown(self, batch_id: str) -> bool:
        """Whether a batch of this id is in flight, or was and did not use it up."""
        return self._get(flight_key(batch_id)) is not None

    def promises(self, batch_id: str) -> Promises | None:
        """Return what is promised for a batch; None when nothing ever was."""
        value = self._get(promise_key(batch_id))
        return None if value is None else read_promises(value)

    def reversal(self, batch_id: str) -> str | None:
        """Return the id of the batch's reversal, posted or in flight."""
        value = self._get(reversal_key(batch_id))
        return value.decode() if value else None

    def replay(self, stored: Sequence[StoredEvent]) -> None:
        """Take in events that are in the log, in their order."""
        self.fetch((), {item.event.account_id for item in stored if isinstance(item.event, EntryPosted)})
        draft = Draft(self, recorded_at=0)
        draft.replay(stored)
        draft.commit()

    def keep(self, position: Position, accounts: dict[str, Account], changes: dict[bytes, bytes | None]) -> None:
        """Keep what a draft has changed; `changes` are the store's."""
        changes[POSITION_KEY] = write_position(position)
        self._store.write(changes)
        self._fetched.clear()
        self._remember(accounts)
        self.position = position

    def _remember(self, accounts: dict[str, Account]) -> None:
        """Put accounts into the cache; what was in it for long without being asked for is dropped.

        There are two generations. When the younger is full the older is dropped, and what is newest of the younger is
        the older then.
        """
        self._cache.update(accounts)
        too_many = len(self._cache) - self._most_cached // 2
        if too_many > 0:
            self._cache, self._older = {}, dict(islice(self._cache.items(), too_many, None))

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


class Draft:
    """A partition's state with events that are not committed yet on top.

    `next_sequence`, `writer_epoch`, `recorded_at` and `next_command_offset` are as in `Position`; so is `edge`, which
    grows with each event.
    """

    def __init__(self, state: PartitionState, *, recorded_at: int, writer_epoch: int | None = None) -> None:
        before = state.position
        self._state = state
        self._accounts: dict[str, Account] = {}
        self._holds: dict[bytes, Hold | None] = {}
        self._answers: dict[bytes, bytes] = {}
        self._flights: dict[str, Flight | None] = {}
        self._promises: dict[str, Promises | None] = {}
        self._reversals: dict[str, str | None] = {}
        self._last = b""
        self._event_offset = -1
        self.partition = before.partition
        self.partition_count = before.partition_count
        self.next_sequence = before.next_sequence
        self.edge = list(before.edge)
        self.writer_epoch = before.writer_epoch if writer_epoch is None else writer_epoch
        self.recorded_at = max(recorded_at, before.recorded_at)
        self.next_command_offset = before.next_command_offset

    def fetch(self, keys: Iterable[bytes], account_ids: Iterable[str]) -> None:
        """See `PartitionState.fetch`."""
        self._state.fetch(keys, account_ids)

    def account(self, account_id: str) -> Account:
        """Return the account as it is after the events recorded so far."""
        return self._accounts.get(account_id) or self._state.account(account_id)

    def hold(self, account_id: str, hold_id: str) -> Hold | None:
        """Return the hold as it is after the events recorded so far; None when there is none, or it is over."""
        key = hold_key(account_id, hold_id)
        return self._holds[key] if key in self._holds else self._state.hold(key)

    def answer(self, key: bytes) -> Kept | None:
        """Return the answer that is filed under `key`."""
        value = self._answers.get(key)
        return self._state.answer(key) if value is None else read_answer(value)

    def flight(self, batch_id: str) -> Flight | None:
        """Return the batch in flight; None when it is not."""
        return self._flights[batch_id] if batch_id in self._flights else self._state.flight(batch_id)

    def has_flown(self, batch_id: str) -> bool:
        """Whether a batch of this id is in flight, or was and did not use it up."""
        return batch_id in self._flights or self._state.has_flown(batch_id)

    def promises(self, batch_id: str) -> Promises | None:
        """Return what is promised for a batch; None when nothing ever was."""
        return self._promises[batch_id] if batch_id in self._promises else self._state.promises(batch_id)

    def reversal(self, batch_id: str) -> str | None:
        """Return the id of the batch's reversal, posted or in flight."""
        return self._reversals[batch_id] if batch_id in self._reversals else self._state.reversal(batch_id)

    def record(self, event: AccountEvent | BatchEvent, data: bytes) -> None:
        """Put the next event on top; `data` is its bytes as they go to the log."""
        if isinstance(event, EntryPosted):  # nearly all, with the next
            self._answers[answer_key(event.account_id, event.command_id)] = write_answer(event.payload_hash, data)
            self._accounts[event.account_id] = evolve(self.account(event.account_id), event)
        elif isinstance(event, BatchEntryPosted):
            self._accounts[event.account_id] = evolve(self.account(event.account_id), event)
            if event.reserved:
                self._record_promise(event)
        elif isinstance(event, BatchEvent):
            self._record_batch(event, data)
        else:
            self._record_account(event, data)
        grow(self.edge, event.sequence, leaf_hash(data))
        self.next_sequence = event.sequence + 1
        self._last = data

    def _record_promise(self, event: Promise | BatchEntryPosted) -> None:
        before = self.promises(event.batch_id)
        self._promises[event.batch_id] = evolve_promises(before, self.partition, event)

    def _record_account(self, event: AccountAnswer | Promise, data: bytes) -> None:
        if not isinstance(event, CommandRejected):
            self._accounts[event.account_id] = evolve(self.account(event.account_id), event)
        if isinstance(event, Promise):
            self._record_promise(event)
            return
        if isinstance(event, HoldEvent):
            hold = self.hold(event.account_id, event.hold_id)
            self._holds[hold_key(event.account_id, event.hold_id)] = evolve_hold(hold, event)
        self._answers[filed_under(event)] = write_answer(event.payload_hash, data)

    def _record_batch(self, event: BatchEvent, data: bytes) -> None:
        batch_id = event.command_id
        flight = self.flight(batch_id)
        if flight is not None and flight.payload_hash != event.payload_hash:
            flight = None  # a conflict, which does not end the batch in flight
        elif flight is not None or isinstance(event, BatchStarted):
            self._flights[batch_id] = evolve_flight(flight, event)
        elif self.has_flown(batch_id):
            self._flights[batch_id] = None
        match event:
            case BatchStarted(reversal_of=str() as reversed_batch) | BatchPosted(reversal_of=str() as reversed_batch):
                self._reversals[reversed_batch] = batch_id
            case BatchRejected() if flight is not None and flight.reversal_of is not None:
                self._reversals[flight.reversal_of] = None
            case _:
                pass
        if isinstance(event, BatchPosted) or (isinstance(event, BatchRejected) and event.code not in PASSING):
            self._answers[filed_under(event)] = write_answer(event.payload_hash, data)

    def open(self, opened: PartitionOpened, data: bytes) -> None:
        """Take in the partition's first event."""
        if opened.partition != self.partition:
            raise LogCorrupt(f"partition {self.partition} was opened as {opened.partition}", partition=self.partition)
        self.partition_count = opened.partition_count
        self.next_sequence = opened.sequence + 1
        self.writer_epoch = opened.writer_epoch
        self.recorded_at = opened.recorded_at
        grow(self.edge, opened.sequence, leaf_hash(data))
        self._last, self._event_offset = data, 0

    def replay(self, stored: Sequence[StoredEvent]) -> None:
        """Put events on top that are in the log, with what they tell of their writer."""
        for _, offset, data, event in stored:
            if isinstance(event, PartitionOpened):
                self.open(event, data)
            else:
                self.record(event, data)
                self.writer_epoch, self.recorded_at = event.writer_epoch, event.recorded_at
                if event.command_offset >= self.next_command_offset:
                    self.next_command_offset = event.command_offset + 1
            self._event_offset = offset

    @property
    def has_grown(self) -> bool:
        """Whether there are events on top."""
        return self.next_sequence > self._state.position.next_sequence

    @property
    def root(self) -> bytes:
        """The root of the tree of all events, those on top included."""
        return root_of(self.edge)

    def commit(self) -> None:
        """Make it the state. Only after the transaction is committed."""
        changes: dict[bytes, bytes | None] = {**self._answers}
        for account_id, account in self._accounts.items():
            changes[account_key(account_id)] = write_account(account)
        for key, hold in self._holds.items():
            changes[key] = None if hold is None else write_hold(hold)
        for batch_id, flight in self._flights.items():
            over = None if batch_key(batch_id) in self._answers else b""  # see `has_flown`
            changes[flight_key(batch_id)] = over if flight is None else write_flight(flight)
        for batch_id, promises in self._promises.items():
            changes[promise_key(batch_id)] = None if promises is None else write_promises(promises)
        for batch_id, reversal in self._reversals.items():
            changes[reversal_key(batch_id)] = None if reversal is None else reversal.encode()
        self._state.keep(self._position(), self._accounts, changes)

    def _position(self) -> Position:
        before = self._state.position
        return before._replace(
            partition_count=self.partition_count,
            next_sequence=self.next_sequence,
            writer_epoch=self.writer_epoch if self._last else before.writer_epoch,
            recorded_at=self.recorded_at,
            next_command_offset=self.next_command_offset,
            event_offset=self._offset_of_last(before) if self._last else before.event_offset,
            last_event=sha256(self._last).digest() if self._last else before.last_event,
            edge=tuple(self.edge),
        )

    def _offset_of_last(self, before: Position) -> int:
        """Return an offset at or before that of the last event.

        Known when the event was read. One that was just appended comes after the marker that ended the transaction
        before, and after the others of its own; and later, when transactions were aborted between the two.
        """
        if self._event_offset >= 0:
            return self._event_offset
        return before.event_offset + 1 + self.next_sequence - before.next_sequence


class Drafts(Protocol):
    """The drafts of the partitions that this handler may write to."""

    def get(self, partition: int) -> Draft | None:
        """Return the draft of `partition`; None when it is another handler's, or not restored yet."""
