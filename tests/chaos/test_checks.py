"""The check of a chaos run sees what is lost, made up, or told in two ways."""

from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import cast

import pytest

from commands.errors import InsufficientFunds
from events.checks import LogAudit
from events.money import to_units
from events.types import BatchPosted, BatchResult, EntryType
from partita import BatchStatus, LedgerBatch, LedgerEngine
from tests.chaos.bank import Bank, Told, Transfer
from tests.chaos.checks import differences

ASKED = Transfer("alice", "bob", 5)
REFUSED = InsufficientFunds("alice", Decimal(1), Decimal(5))


def _posted(amount: int = 5) -> BatchPosted:
    sides = (("alice", EntryType.DEBIT), ("bob", EntryType.CREDIT))
    entries = [BatchResult(0, n, 1, 0, name, side, to_units(amount), "USD") for n, (name, side) in enumerate(sides)]
    return BatchPosted(2, 0, 0, "t", 0, b"", entries, None, None, None)


def _told(sequence: int = 2) -> LedgerBatch:
    return LedgerBatch(
        batch_id="t",
        status=BatchStatus.POSTED,
        entries=(),
        reference=None,
        metadata=None,
        reversal_of=None,
        partition=0,
        sequence=sequence,
        recorded_at=datetime.now(UTC),
    )


@pytest.mark.parametrize(
    ("told", "logged", "found"),
    [
        ([_told()], {"t": _posted()}, ""),
        ([_told(), _told()], {"t": _posted()}, ""),
        ([REFUSED], {"t": None}, ""),
        ([_told()], {}, "answered in the log"),
        ([_told()], {"t": None}, "the log has None"),
        ([REFUSED], {"t": _posted()}, "the log has BatchPosted"),
        ([_told(), REFUSED], {"t": _posted()}, "was told"),
        ([_told(), _told(3)], {"t": _posted()}, "was told"),
        ([_told()], {"t": _posted(6)}, "asked Transfer"),
        ([_told(3)], {"t": _posted()}, "asked Transfer"),
        ([_told()], {"t": _posted(), "u": _posted()}, "answered in the log"),
        ([], {"t": _posted()}, "were told"),
    ],
)
def test_what_was_told_is_compared_with_the_log(
    told: list[Told], logged: dict[str, BatchPosted | None], found: str
) -> None:
    bank = Bank(cast("LedgerEngine", None), 2, Random(0), asked={"t": ASKED}, told={"t": told} if told else {})
    audit = LogAudit()
    audit.batches.answers = logged
    detail = next(differences(audit, bank), "")
    assert found in detail
    assert bool(found) == bool(detail)
