"""What was found, as rows: a finding has versions, one each time that something else is found of the same. Pure.

A finding is of an entry, or of a transfer that no entry has. Its id says which and never changes; the id of a
discrepancy also says what is wrong, so that what people said of it holds for this discrepancy and no other.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple

from reconciler.matching import Finding, Kind, State

WITHDRAWN: Final = "withdrawn"
"""The kind of a finding of a transfer that is no more: an entry has it now, or the chain hasn't it any more."""
_GONE: Final = "the transaction was in block {} ({}), which is not on the chain any more"


class Row(NamedTuple):
    """One version of a finding, in the order of the table's columns."""

    finding_id: str
    version: int
    chain_id: int
    kind: str
    discrepancy_id: str | None
    entry_id: str | None
    tx_hash: str
    log_index: int | None
    block_number: int | None
    block_hash: str | None
    token: str | None
    sender: str | None
    recipient: str | None
    value: int | None
    description: str

    @property
    def facts(self) -> tuple[object, ...]:
        """All but the version."""
        return self[2:]


def row_of(chain_id: int, finding: Finding) -> Row:
    """Return a finding as a row, its version still 0."""
    expectation, transfer, transaction = finding.expectation, finding.transfer, finding.transaction
    assert transaction is not None
    subject = f"{transaction.tx_hash}:{transfer.log_index}" if transfer else ""
    if expectation is not None:
        subject = expectation.entry_id
    row = Row(
        finding_id=f"{chain_id}:{subject}",
        version=0,
        chain_id=chain_id,
        kind=finding.kind,
        discrepancy_id=None,
        entry_id=expectation.entry_id if expectation else None,
        tx_hash=transaction.tx_hash,
        log_index=transfer.log_index if transfer else None,
        block_number=transaction.block_number,
        block_hash=transaction.block_hash,
        token=transfer.token if transfer else None,
        sender=transfer.sender if transfer else None,
        recipient=transfer.recipient if transfer else None,
        value=transfer.value if transfer else None,
        description=finding.description,
    )
    return _identified(row)


def _identified(row: Row) -> Row:
    if row.kind in (Kind.MATCHED, WITHDRAWN):
        return row._replace(discrepancy_id=None)
    seen = (row.finding_id, row.kind, row.token, row.sender, row.recipient, row.value)
    return row._replace(discrepancy_id=sha256("|".join(map(str, seen)).encode()).hexdigest()[:32])


def revised(current: Mapping[str, Row], found: Iterable[Finding], chain_id: int) -> list[Row]:
    """Return the versions to add, so that of `current`, all that was found in one scope before, holds what is found.

    What is the same as before adds nothing. What was found of a transfer and isn't any more is withdrawn.
    """
    new: list[Row] = []
    seen = set()
    for finding in found:
        row = row_of(chain_id, finding)
        seen.add(row.finding_id)
        before = current.get(row.finding_id)
        if before is not None and _has_vanished(before, finding):
            row = gone(before)
        if before is None or row.facts != before.facts:
            new.append(row._replace(version=before.version + 1 if before else 1))
    for before in current.values():
        if before.finding_id not in seen and before.kind not in (WITHDRAWN, Kind.REORGANISED):
            row = gone(before)
            new.append(row._replace(version=before.version + 1))
    return new


def _has_vanished(before: Row, finding: Finding) -> bool:
    assert finding.transaction is not None
    unknown = finding.transaction.state is State.UNKNOWN and finding.kind is Kind.MISSING_ON_CHAIN
    return unknown and (before.block_number is not None or before.kind == Kind.REORGANISED)


def gone(before: Row) -> Row:
    """Return what there is to say of a finding whose block is not on the chain any more; the version stays."""
    if before.entry_id is None:
        return before._replace(kind=WITHDRAWN, discrepancy_id=None, description="")
    if before.kind == Kind.REORGANISED:
        return before
    text = _GONE.format(before.block_number, before.block_hash)
    row = Row(*before[:3], Kind.REORGANISED, None, before.entry_id, before.tx_hash, *(None,) * 7, text)
    return _identified(row)
