"""What the log holds: the event types, as they are after decoding.

Fields are those of the Avro schemas, in their order. Amounts are units of 10^-18 (see `events.money`), times are
microseconds since 1970 UTC. What an event does to an account is `events.account`.

These are named tuples where the rest of the project has frozen dataclasses: the handler makes several for every
command, and a named tuple is made four times as fast.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple, get_args


class AccountStatus(StrEnum):
    """What may be done with an account that was opened."""

    OPEN = "OPEN"
    FROZEN = "FROZEN"
    CLOSED = "CLOSED"


class EntryType(StrEnum):
    """Which way an entry moves the balance."""

    CREDIT = "CREDIT"
    DEBIT = "DEBIT"


class PartitionOpened(NamedTuple):
    """The first event of a partition: the partition count of the ledger, for ever."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    partition: int
    partition_count: int


class EntryPosted(NamedTuple):
    """One credit or debit of one account."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    entry_type: EntryType
    amount: int
    asset: str
    running_balance: int
    reference: str | None
    metadata: str | None
    effective_at: int | None

    @property
    def change(self) -> int:
        """What the entry adds to the balance, in units; negative for a debit."""
        return self.amount if self.entry_type is EntryType.CREDIT else -self.amount


class CommandRejected(NamedTuple):
    """A command that broke a rule and changed no balance."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    command_type: str
    code: str
    message: str
    details: Mapping[str, str]
    version: int
    asset: str
    balance: int


class AccountOpened(NamedTuple):
    """An account with rules of its own: `floor` None is no floor, `assets` empty is any asset."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    floor: int | None
    assets: Sequence[str]
    account_type: str | None
    reference: str | None
    metadata: str | None


class AccountFrozen(NamedTuple):
    """The account takes no entries and no holds."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    reason: str | None


class AccountUnfrozen(NamedTuple):
    """The account is open again."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    reason: str | None


class AccountClosed(NamedTuple):
    """The account, which is empty, takes nothing any more; `permanent`: for ever."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    permanent: bool
    reason: str | None


class AccountReopened(NamedTuple):
    """The account, which was closed, is open again."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    reason: str | None


class HoldPlaced(NamedTuple):
    """Funds are reserved. `held` is what all holds of the account reserve of the asset, after the event."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    hold_id: str
    amount: int
    asset: str
    balance: int
    held: int
    expires_at: int | None
    reference: str | None
    metadata: str | None


class HoldSettled(NamedTuple):
    """Held funds are taken: an entry, always a debit. `remaining` stays held; 0 ends the hold."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    hold_id: str
    amount: int
    asset: str
    remaining: int
    running_balance: int
    held: int
    reference: str | None
    metadata: str | None
    effective_at: int | None

    @property
    def entry_type(self) -> EntryType:
        """DEBIT."""
        return EntryType.DEBIT

    @property
    def change(self) -> int:
        """What the entry adds to the balance, in units: less than 0."""
        return -self.amount


class HoldReleased(NamedTuple):
    """What the hold still reserved is free again."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    hold_id: str
    amount: int
    asset: str
    balance: int
    held: int
    expired: bool
    reason: str | None


class LockGranted(NamedTuple):
    """Until `expires_at` the account takes commands with this token only; renewing keeps the token."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    token: int
    expires_at: int


class LockReleased(NamedTuple):
    """The lock is over before its time."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    token: int


class BatchEntry(NamedTuple):
    """One entry of a batch, as it is asked for."""

    account_id: str
    entry_type: EntryType
    amount: int
    asset: str
    reference: str | None = None
    metadata: str | None = None
    effective_at: int | None = None
    expected_version: int | None = None
    lock_token: int | None = None


class LockToken(NamedTuple):
    """A lock that a requester holds: the account, and the token that was granted."""

    account_id: str
    token: int


class PlacedEntry(NamedTuple):
    """An entry of a batch with its number and the partition of its account; further as in `BatchEntry`."""

    leg: int
    partition: int
    account_id: str
    entry_type: EntryType
    amount: int
    asset: str
    reference: str | None = None
    metadata: str | None = None
    effective_at: int | None = None
    expected_version: int | None = None
    lock_token: int | None = None


class EntryResult(NamedTuple):
    """What became of an entry of a batch in its partition."""

    leg: int
    sequence: int
    version: int
    running_balance: int


class BatchResult(NamedTuple):
    """An entry of a batch that was posted: its place in the log, and the entry. In the order of the batch."""

    partition: int
    sequence: int
    version: int
    running_balance: int
    account_id: str
    entry_type: EntryType
    amount: int
    asset: str
    reference: str | None = None
    metadata: str | None = None
    effective_at: int | None = None


class EntryReserved(NamedTuple):
    """An account has promised an entry of a batch: a debit's funds are held, a credit's room is kept."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    batch_id: str
    leg: int
    legs: int
    home: int
    attempt: int
    entry_type: EntryType
    amount: int
    asset: str
    balance: int
    held: int
    reference: str | None
    metadata: str | None
    effective_at: int | None
    forced: bool


class EntryReleased(NamedTuple):
    """What an account had promised is free again: the batch was rejected."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    batch_id: str
    leg: int
    entry_type: EntryType
    amount: int
    asset: str
    balance: int
    held: int


class BatchEntryPosted(NamedTuple):
    """One entry of a batch of `legs` entries. `reserved`: it had been promised before."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    account_id: str
    version: int
    batch_id: str
    leg: int
    legs: int
    entry_type: EntryType
    amount: int
    asset: str
    running_balance: int
    held: int
    reference: str | None
    metadata: str | None
    effective_at: int | None
    reserved: bool
    forced: bool

    @property
    def change(self) -> int:
        """What the entry adds to the balance, in units; negative for a debit."""
        return self.amount if self.entry_type is EntryType.CREDIT else -self.amount


class BatchStarted(NamedTuple):
    """A batch whose accounts are in partitions of several handlers: each is asked to reserve."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    reply_key: str | None
    entries: Sequence[PlacedEntry]
    reference: str | None
    metadata: str | None
    reversal_of: str | None
    forced: bool


class BatchReserved(NamedTuple):
    """One partition has reserved its entries of the batch."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    partition: int


class BatchCommitted(NamedTuple):
    """The batch is decided: every entry of it will be posted."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes


class BatchSettled(NamedTuple):
    """One partition has posted its entries of the batch."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    partition: int
    entries: Sequence[EntryResult]


class BatchPosted(NamedTuple):
    """Every entry of the batch is posted."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    entries: Sequence[BatchResult]
    reference: str | None
    metadata: str | None
    reversal_of: str | None


class BatchRejected(NamedTuple):
    """The batch broke a rule; nothing of it was posted. `leg` is the entry that broke it, if it was one."""

    sequence: int
    writer_epoch: int
    recorded_at: int
    command_id: str
    command_offset: int
    payload_hash: bytes
    command_type: str
    code: str
    message: str
    details: Mapping[str, str]
    leg: int | None
    reversal_of: str | None


Promise = EntryReserved | EntryReleased
"""An event of what an account has promised for a batch."""

BatchEvent = BatchStarted | BatchReserved | BatchCommitted | BatchSettled | BatchPosted | BatchRejected
"""An event of a batch in its own partition."""

Entry = EntryPosted | HoldSettled | BatchEntryPosted
"""An event that moves a balance."""

HoldEvent = HoldPlaced | HoldSettled | HoldReleased
"""An event of a hold's life."""

StatusEvent = AccountOpened | AccountFrozen | AccountUnfrozen | AccountClosed | AccountReopened
"""An event of an account's own life."""

LockEvent = LockGranted | LockReleased
"""An event of a lock."""

AccountAnswer = EntryPosted | CommandRejected | HoldEvent | StatusEvent | LockEvent
"""An event that answers a command on one account."""

AccountEvent = AccountAnswer | Promise | BatchEntryPosted
"""An event of one account."""

Answer = AccountAnswer | BatchPosted | BatchRejected
"""An event that answers a command."""

Event = PartitionOpened | AccountEvent | BatchEvent

EVENT_TYPES: Final[tuple[type[Any], ...]] = get_args(Event)
"""Every type of event."""


NESTED: Final[Mapping[str, type[Any]]] = {
    cls.__name__: cls for cls in (BatchEntry, LockToken, PlacedEntry, EntryResult, BatchResult)
}
"""The records that events and commands hold lists of, by the name of their schema."""


def entry_id(partition: int, sequence: int) -> str:
    """Return the id of the entry at `sequence` of `partition`: "7-1042"."""
    return f"{partition}-{sequence}"
