"""Partita: an append-only settlement ledger, event-sourced on Kafka.

async with LedgerEngine() as ledger:
    entry = await ledger.create_entry(account_id="alice", amount="12.50", entry_type="credit")
    balance = await ledger.get_balance("alice")
"""

from commands.errors import (
    BalanceOutOfRange,
    IdempotencyConflict,
    InsufficientFunds,
    InvalidAccountId,
    InvalidAmount,
    InvalidAsset,
    InvalidCommand,
    InvalidCommandId,
    InvalidEffectiveTime,
    InvalidEntryType,
    InvalidExpectedVersion,
    InvalidMetadata,
    InvalidReference,
    OutcomeUnknown,
    Rejected,
    VersionConflict,
    WrongPartition,
)
from events.errors import (
    BrokerUnavailable,
    LedgerError,
    PartitionCountMismatch,
    RegistryUnavailable,
    SchemaIncompatible,
    TopicMissing,
    UnsafeTopic,
)
from events.types import EntryType as LedgerEntryType
from partita.engine import EntryPage, LedgerEngine
from partita.entry import LedgerEntry
from partita.settings import NotConfigured, Settings
from projections.errors import EntryNotFound, InvalidCursor, ReadModelBehind, ReadModelUnavailable

__all__ = [
    "BalanceOutOfRange",
    "BrokerUnavailable",
    "EntryNotFound",
    "EntryPage",
    "IdempotencyConflict",
    "InsufficientFunds",
    "InvalidAccountId",
    "InvalidAmount",
    "InvalidAsset",
    "InvalidCommand",
    "InvalidCommandId",
    "InvalidCursor",
    "InvalidEffectiveTime",
    "InvalidEntryType",
    "InvalidExpectedVersion",
    "InvalidMetadata",
    "InvalidReference",
    "LedgerEngine",
    "LedgerEntry",
    "LedgerEntryType",
    "LedgerError",
    "NotConfigured",
    "OutcomeUnknown",
    "PartitionCountMismatch",
    "ReadModelBehind",
    "ReadModelUnavailable",
    "RegistryUnavailable",
    "Rejected",
    "SchemaIncompatible",
    "Settings",
    "TopicMissing",
    "UnsafeTopic",
    "VersionConflict",
    "WrongPartition",
]
