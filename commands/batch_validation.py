"""What a batch must look like before any account is asked. Pure; the client and the handler both use it."""

from collections.abc import Sequence
from typing import Final

from commands.errors import (
    BatchUnbalanced,
    InvalidBatch,
    InvalidCommandId,
    InvalidExpectedVersion,
    InvalidMetadata,
    Rejected,
)
from commands.types import BatchCommand, Policy, PostBatch, ReverseBatch, TryBatch
from commands.validation import (
    MAX_VERSION,
    canonical_metadata,
    check_account_id,
    check_amount,
    check_asset,
    check_batch_id,
    check_command_ids,
    check_effective_time,
    check_reason,
    check_reference,
)
from events.money import to_decimal
from events.types import BatchEntry, EntryType, PlacedEntry

REVERSAL: Final = "~"
"""Stands between the id of a batch and the rest of the id of its reversal."""

MAX_ENTRIES: Final = 1000
MAX_BATCH_TEXT: Final = 512 * 1024
"""Bytes of all texts of a batch together."""


def check_batch_identity(command: BatchCommand) -> Rejected | None:
    """Return what is wrong with the ids of a command on a batch.

    A reversal is answered by the partition of its batch, so its id must be one that no other batch can have.
    """
    if fault := check_command_ids(command):
        return fault
    if isinstance(command, ReverseBatch):
        mark = f"{command.batch_id}{REVERSAL}"
        if not command.command_id.startswith(mark):
            return InvalidCommandId(
                f"command_id of a reversal must begin with its batch_id and {REVERSAL}: {mark}..."
            )
        return check_batch_id(command.batch_id)
    if REVERSAL in command.command_id:
        return InvalidCommandId(f"command_id of a batch holds {REVERSAL}, which marks reversals")
    return None


def check_batch(command: BatchCommand, policy: Policy) -> tuple[int | None, Rejected] | None:
    """Return the number of the first entry with a fault and the fault, or None; no number: it is the batch's own."""
    if isinstance(command, ReverseBatch):
        fault = check_reason(command.reason) or check_effective_time(command.effective_at)
        if len(command.locks) > MAX_ENTRIES:
            fault = InvalidBatch(f"a reversal carries the tokens of at most {MAX_ENTRIES} locks")
        return (None, fault) if fault else None
    if not 1 <= len(command.entries) <= MAX_ENTRIES:
        return None, InvalidBatch(f"a batch has 1 to {MAX_ENTRIES} entries, not {len(command.entries)}")
    if fault := check_reference(command.reference) or check_size(command):
        return None, fault
    for leg, entry in enumerate(command.entries):
        if fault := check_entry(entry, policy):
            return leg, fault
    return (None, fault) if command.balanced and (fault := _check_balance(command.entries)) else None


def check_size(command: PostBatch | TryBatch) -> Rejected | None:
    """See that the events of the batch, which hold all of its texts, fit into messages."""
    characters = len(command.metadata or "")
    for e in command.entries:
        characters += len(e.account_id) + len(e.reference or "") + len(e.metadata or "")
    if characters <= MAX_BATCH_TEXT // 4:
        return None
    texts = [command.metadata, *(part for e in command.entries for part in (e.account_id, e.reference, e.metadata))]
    if sum(len(text.encode("utf-8", "surrogatepass")) for text in texts if text) <= MAX_BATCH_TEXT:
        return None
    return InvalidBatch(f"the account ids, references and metadata of a batch take at most {MAX_BATCH_TEXT} bytes")


def check_entry(entry: BatchEntry | PlacedEntry, policy: Policy) -> Rejected | None:
    """Return what is wrong with one entry, its metadata aside."""
    version = entry.expected_version
    if version is not None and not 0 <= version <= MAX_VERSION:
        return InvalidExpectedVersion("expected_version is negative or beyond 64 bits")
    return (
        check_account_id(entry.account_id)
        or check_asset(entry.asset)
        or check_amount(entry.amount, entry.asset, policy)
        or check_reference(entry.reference)
        or check_effective_time(entry.effective_at)
    )


def _check_balance(entries: Sequence[BatchEntry]) -> Rejected | None:
    sums: dict[str, int] = {}
    for entry in entries:
        change = entry.amount if entry.entry_type is EntryType.CREDIT else -entry.amount
        sums[entry.asset] = sums.get(entry.asset, 0) + change
    if not any(sums.values()):
        return None
    asset = min(asset for asset, units in sums.items() if units)
    debits = sum(e.amount for e in entries if e.asset == asset and e.entry_type is EntryType.DEBIT)
    return BatchUnbalanced(asset, to_decimal(debits), to_decimal(debits + sums[asset]))


def canonical_batch(command: BatchCommand) -> tuple[BatchCommand, tuple[int | None, Rejected] | None]:
    """Return the batch with all metadata in canonical form; or as it is, the entry with a fault, and the fault."""
    if isinstance(command, ReverseBatch) or _has_no_metadata(command):
        return command, None
    leg: int | None = None
    entries: list[BatchEntry] = []
    try:
        metadata = None if command.metadata is None else canonical_metadata(command.metadata)
        for entry in command.entries:
            leg = len(entries)
            if entry.metadata is not None:
                entry = entry._replace(metadata=canonical_metadata(entry.metadata))  # noqa: PLW2901  # the same entry
            entries.append(entry)
    except InvalidMetadata as fault:
        return command, (leg, fault)
    return command._replace(metadata=metadata, entries=tuple(entries)), None


def _has_no_metadata(command: PostBatch) -> bool:
    return command.metadata is None and all(entry.metadata is None for entry in command.entries)
