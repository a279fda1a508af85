"""What the log holds: the event types, as they are after decoding.

Fields are those of the Avro schemas, in their order. Amounts are units of 10^-18 (see `events.money`), times are
microseconds since 1970 UTC. What an event does to an account is `events.account`.

These are named tuples where the rest of the project has frozen dataclasses: the handler makes several for every
command, and a named tuple is made four times as fast.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


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


AccountEvent = EntryPosted | CommandRejected
"""An event that answers a command on one account."""

Event = PartitionOpened | AccountEvent


def entry_id(partition: int, sequence: int) -> str:
    """Return the id of the entry at `sequence` of `partition`: "7-1042"."""
    return f"{partition}-{sequence}"
