"""The rules of the ledger: what a command does to an account. Pure: time, place and ids come in as data."""

from typing import NamedTuple

from commands.errors import (
    BalanceOutOfRange,
    IdempotencyConflict,
    InsufficientFunds,
    Rejected,
    VersionConflict,
    WrongPartition,
    details_of,
)
from commands.types import POST_ENTRY, Policy, PostEntry
from commands.validation import check_fields
from events.account import Account
from events.money import MAX_UNITS, to_decimal
from events.types import AccountEvent, CommandRejected, EntryPosted, EntryType

FLOOR = 0
"""No balance falls below it, in units."""


class Place(NamedTuple):
    """Where and when the event is to be: the next sequence of a partition, written by `writer_epoch`.

    `recorded_at` is in microseconds since 1970 UTC; `home_partition` is the partition of the command's account.
    """

    partition: int
    home_partition: int
    sequence: int
    writer_epoch: int
    recorded_at: int
    command_offset: int


def decide(
    account: Account, command: PostEntry, digest: bytes, place: Place, policy: Policy, fault: Rejected | None = None
) -> AccountEvent:
    """Return the event that answers a command whose answer is not in the log yet.

    `digest` is the command's `payload_hash`; `fault` is what was found wrong before (an id used for another payload,
    metadata that can't be kept).
    """
    fault = fault or check_fields(command, policy) or _broken_rule(account, command, place)
    if fault is not None:
        return _rejected(fault, account, command, digest, place)
    change = command.amount if command.entry_type is EntryType.CREDIT else -command.amount
    return EntryPosted(
        place.sequence,
        place.writer_epoch,
        place.recorded_at,
        command.command_id,
        place.command_offset,
        digest,
        command.account_id,
        account.version + 1,
        command.entry_type,
        command.amount,
        command.asset,
        account.balance(command.asset) + change,
        command.reference,
        command.metadata,
        command.effective_at,
    )


def conflict(command: PostEntry) -> IdempotencyConflict:
    """Return the fault of a command whose id was used for another payload."""
    return IdempotencyConflict(command.account_id, command.command_id)


def _broken_rule(account: Account, command: PostEntry, place: Place) -> Rejected | None:
    if place.home_partition != place.partition:
        return WrongPartition(command.account_id, place.partition, place.home_partition)
    if command.expected_version is not None and command.expected_version != account.version:
        return VersionConflict(command.account_id, command.expected_version, account.version)
    balance = account.balance(command.asset)
    if command.entry_type is EntryType.DEBIT:
        if balance - command.amount < FLOOR:
            available, requested = to_decimal(balance - FLOOR), to_decimal(command.amount)
            return InsufficientFunds(command.account_id, available, requested, command.asset)
    elif balance + command.amount > MAX_UNITS:
        requested = to_decimal(command.amount)
        return BalanceOutOfRange(command.account_id, command.asset, to_decimal(balance), requested)
    return None


def _rejected(fault: Rejected, account: Account, command: PostEntry, digest: bytes, place: Place) -> CommandRejected:
    return CommandRejected(
        sequence=place.sequence,
        writer_epoch=place.writer_epoch,
        recorded_at=place.recorded_at,
        command_id=command.command_id,
        command_offset=place.command_offset,
        payload_hash=digest,
        account_id=command.account_id,
        command_type=POST_ENTRY,
        code=fault.code,
        message=fault.message,
        details=details_of(fault),
        version=account.version,
        asset=_storable(command.asset),
        balance=account.balance(command.asset),
    )


def _storable(asset: str) -> str:
    """An asset that broke the rule for assets is recorded as far as it can be kept."""
    return "".join(character for character in asset[:64] if character.isprintable())
