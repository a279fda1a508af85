"""The audit of a log finds what is wrong with it, and says where."""

from collections.abc import Sequence

import pytest

from events.checks import LogAudit
from events.follow import StoredEvent
from events.types import Event, PartitionOpened
from tests.support.samples import DEBIT, NOON, UNIT, posted, rejected

OPENED = PartitionOpened(0, 1, NOON, 0, 2)
FIRST = posted(running_balance=UNIT)
SECOND = posted(sequence=2, version=2, command_id="c-2", running_balance=2 * UNIT)


def faults(events: Sequence[Event], partition: int = 0) -> dict[str, str]:
    audit = LogAudit()
    for offset, event in enumerate(events):
        audit.take(StoredEvent(partition, offset, b"", event))
    return {result.name: result.detail or "" for result in audit.results() if not result.ok}


def test_an_honest_log_passes() -> None:
    conflict = rejected(sequence=3, command_id="c-2", payload_hash=b"\x02" * 32, code="IdempotencyConflict")
    assert faults([OPENED, FIRST, SECOND, conflict]) == {}


@pytest.mark.parametrize(
    ("event", "invariant"),
    [
        (SECOND._replace(sequence=3), "I5"),
        (SECOND._replace(sequence=1), "I5"),
        (SECOND._replace(running_balance=UNIT), "I1"),
        (SECOND._replace(version=3), "I1"),
        (SECOND._replace(entry_type=DEBIT, amount=3 * UNIT, running_balance=-2 * UNIT), "I4"),
        (SECOND._replace(command_id="c-1"), "I3"),
        (SECOND._replace(command_id="c-1", payload_hash=b"\x02" * 32), "I3"),
        (rejected(sequence=2, command_id="c-1", payload_hash=FIRST.payload_hash), "I3"),
    ],
    ids=["gap", "duplicate", "balance", "version", "overdraft", "twice", "another payload", "accepted and rejected"],
)
def test_what_breaks_an_invariant_is_found_and_placed(event: Event, invariant: str) -> None:
    found = faults([OPENED, FIRST, event])
    assert found.keys() == {invariant}
    assert "partition 0, offset 2" in found[invariant]
