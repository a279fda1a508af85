"""What the handler remembers of one partition: accounts, and the answer to every command id. All of it is in the log.

A group of commands is decided on a `Draft`, which becomes part of the state after its transaction is committed, and
is dropped when it is not: work that was aborted leaves no trace.
"""

from typing import NamedTuple

from events.account import NEW_ACCOUNT, Account, evolve
from events.errors import LogCorrupt
from events.follow import StoredEvent
from events.types import AccountEvent, CommandRejected, EntryPosted, PartitionOpened

CONFLICT = "IdempotencyConflict"


class Answer(NamedTuple):
    """The answer to a command id: the hash of the payload it was for, and the event's bytes."""

    payload_hash: bytes
    data: bytes


def answer_key(account_id: str, command_id: str) -> str:
    """Return the key of a command id, which is scoped by its account; neither id holds a NUL."""
    return f"{account_id}\0{command_id}"


def conflict_key(key: str, payload_hash: bytes) -> str:
    """Return the key of the answer to a payload that came under an id used for another."""
    return f"{key}\0{payload_hash.hex()}"


def filed_under(event: AccountEvent) -> str:
    """Return the key of the answer that the event is: a conflict does not take the place of the first answer."""
    key = answer_key(event.account_id, event.command_id)
    if isinstance(event, CommandRejected) and event.code == CONFLICT:
        return conflict_key(key, event.payload_hash)
    return key


class PartitionState:
    """The fold of a partition's events. Offsets are of its commands topic, sequences of its events topic."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.partition_count = 0
        self.next_sequence = 0
        self.writer_epoch = 0
        self.recorded_at = 0
        self.next_command_offset = 0
        self.accounts: dict[str, Account] = {}
        self.answers: dict[str, Answer] = {}

    def account(self, account_id: str) -> Account:
        """Return the account, a new one when the log has nothing of it."""
        return self.accounts.get(account_id, NEW_ACCOUNT)

    def answer(self, key: str) -> Answer | None:
        """Return the answer that is filed under `key`."""
        return self.answers.get(key)

    def replay(self, stored: StoredEvent) -> None:
        """Take in an event that is in the log."""
        match stored.event:
            case PartitionOpened() as opened:
                self.open(opened)
            case event:
                self.answers[filed_under(event)] = Answer(event.payload_hash, stored.data)
                if isinstance(event, EntryPosted):
                    self.accounts[event.account_id] = evolve(self.account(event.account_id), event)
                self.next_sequence = event.sequence + 1
                self.writer_epoch = event.writer_epoch
                self.recorded_at = event.recorded_at
                self.next_command_offset = max(self.next_command_offset, event.command_offset + 1)

    def open(self, opened: PartitionOpened) -> None:
        """Take in the partition's first event."""
        if opened.partition != self.partition:
            raise LogCorrupt(f"partition {self.partition} was opened as {opened.partition}", partition=self.partition)
        self.partition_count = opened.partition_count
        self.next_sequence = opened.sequence + 1
        self.writer_epoch = opened.writer_epoch
        self.recorded_at = opened.recorded_at


class Draft:
    """A partition's state with events that are not committed yet on top."""

    def __init__(self, state: PartitionState, *, recorded_at: int) -> None:
        self._state = state
        self._accounts: dict[str, Account] = {}
        self._answers: dict[str, Answer] = {}
        self.partition = state.partition
        self.partition_count = state.partition_count
        self.next_sequence = state.next_sequence
        self.writer_epoch = state.writer_epoch
        self.recorded_at = max(recorded_at, state.recorded_at)
        self.next_command_offset = state.next_command_offset

    def account(self, account_id: str) -> Account:
        """Return the account as it is after the events recorded so far."""
        return self._accounts.get(account_id) or self._state.account(account_id)

    def answer(self, key: str) -> Answer | None:
        """Return the answer that is filed under `key`."""
        return self._answers.get(key) or self._state.answer(key)

    def record(self, event: AccountEvent, data: bytes) -> None:
        """Put the next event on top; `data` is its bytes as they go to the log."""
        self._answers[filed_under(event)] = Answer(event.payload_hash, data)
        if isinstance(event, EntryPosted):
            self._accounts[event.account_id] = evolve(self.account(event.account_id), event)
        self.next_sequence = event.sequence + 1

    def commit(self) -> None:
        """Make it the state. Only after the transaction is committed."""
        state = self._state
        state.accounts.update(self._accounts)
        state.answers.update(self._answers)
        state.next_sequence = self.next_sequence
        state.writer_epoch = self.writer_epoch
        state.recorded_at = self.recorded_at
        state.next_command_offset = self.next_command_offset
