"""What a step of a batch must look like. Handlers send no other; but any producer may write to the commands topic.

It does not keep out a step that was forged with care: who may not post batches must not be let write there.
"""

from commands.batch_validation import MAX_ENTRIES, check_entry, check_size
from commands.decide import TRIED
from commands.errors import InvalidBatch, Rejected, WrongPartition
from commands.types import (
    Policy,
    ReleaseBatch,
    ReportReservation,
    ReportSettlement,
    ReserveBatch,
    SettleBatch,
    Step,
    TryBatch,
)
from commands.validation import canonical_metadata, check_batch_id, check_reference, check_reply_key
from events.money import MAX_UNITS
from events.partitioner import home_of
from events.types import PlacedEntry

_ANY_SCALE = Policy()
_HASH = 32


def check_step(step: Step, partition: int, partition_count: int) -> Rejected | None:
    """Return why no handler has sent this step to `partition`, or None."""
    if fault := check_batch_id(step.batch_id):
        return fault
    match step:
        case ReserveBatch():
            return _check_reservation(step, partition, partition_count)
        case ReportReservation() | ReportSettlement():
            return _check_place(step.partition, partition_count)
        case SettleBatch() | ReleaseBatch():
            return None
        case TryBatch():
            return _check_trial(step, partition, partition_count)


def _check_place(partition: int, partition_count: int) -> Rejected | None:
    if 0 <= partition < partition_count:
        return None
    return InvalidBatch(f"there is no partition {partition}")


def _check_reservation(step: ReserveBatch, partition: int, partition_count: int) -> Rejected | None:
    if fault := _check_place(step.home, partition_count):
        return fault
    legs = {entry.leg for entry in step.entries}
    if not 1 <= len(step.entries) == len(legs) <= step.legs <= MAX_ENTRIES or len(step.payload_hash) != _HASH:
        return InvalidBatch("it does not ask for some of the entries of a batch")
    if not 0 <= min(legs) <= max(legs) < step.legs:
        return InvalidBatch(f"its entries are not numbered from 0 to {step.legs - 1}")
    for entry in step.entries:
        if fault := _check_entry(entry, partition, partition_count):
            return fault
    return None


def _check_trial(step: TryBatch, partition: int, partition_count: int) -> Rejected | None:
    if fault := _check_texts(step) or _check_place(step.home, partition_count):
        return fault
    legs = [entry.leg for entry in step.entries]
    if not 1 <= len(legs) <= MAX_ENTRIES or legs != list(range(len(legs))) or len(step.payload_hash) != _HASH:
        return InvalidBatch("it does not have all entries of a batch")
    tried = {result.leg for result in step.results}
    if len(tried) < len(step.results) or not tried < set(legs):
        return InvalidBatch("what was tried are not some of its entries, each once")
    if any(r.sequence != TRIED or abs(r.running_balance) > MAX_UNITS for r in step.results):
        return InvalidBatch("its results are none of a dry run")
    if not any(entry.partition == partition and entry.leg not in tried for entry in step.entries):
        return InvalidBatch(f"it asks nothing of partition {partition}")
    for entry in step.entries:
        if fault := _check_entry(entry, entry.partition, partition_count):
            return fault
    return None


def _check_entry(entry: PlacedEntry, partition: int, partition_count: int) -> Rejected | None:
    """The number of decimals is not looked at: it was, by the policy of the batch's own partition."""
    if fault := check_entry(entry, _ANY_SCALE):
        return fault
    if (home := home_of(entry.account_id, partition_count)) != partition:
        return WrongPartition(entry.account_id, partition, home)
    return _check_metadata(entry.metadata)


def _check_texts(step: TryBatch) -> Rejected | None:
    """What is tried is told in one outcome, which must fit into a message."""
    return (
        check_reply_key(step.reply_key)
        or check_reference(step.reference)
        or _check_metadata(step.metadata)
        or (check_batch_id(step.reversal_of) if step.reversal_of is not None else None)
        or check_size(step)
    )


def _check_metadata(metadata: str | None) -> Rejected | None:
    if metadata is None:
        return None
    try:
        canonical_metadata(metadata)
    except Rejected as fault:
        return fault
    return None
