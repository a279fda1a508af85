"""The audit trail: JSON objects under ids of one's own, written once, each with a receipt that can be verified.

Owns what an id and a record may be, what a receipt holds, and what the state of a record is called.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from events.errors import LedgerError, plain
from events.merkle import ProofInvalid
from projections.immudb.errors import (
    ImmudbConflict,
    ImmudbRefused,
    ImmudbTampered,
    ImmudbUnavailable,
    TrustedStateBusy,
)
from projections.immudb.evidence import Evidence, merkle_proof, to_json, verify_merkle_proof
from projections.immudb.shown import MOST_ENTRIES
from projections.immudb.verified import VerifiedDatabase

_PREFIX: Final = b"audit/"
_MOST_ID_BYTES: Final = 512
_MOST_DATA_BYTES: Final = 1024 * 1024
_MOST_DATA_TOGETHER: Final = 8 * 1024 * 1024
_MOST_DEPTH: Final = 64


class InvalidAuditRecord(LedgerError):
    """An id or data that the audit trail does not take; nothing was written."""


class VerificationStatus(StrEnum):
    """What became of a record."""

    VERIFIED = "verified"
    """It is what was written, proven against the trusted state."""
    TAMPERED = "tampered"
    """It was changed, deleted, or written over, or its proof does not hold, or history was rewritten."""
    MISSING = "missing"
    """There is no such record in a history that is the one we know."""
    UNREACHABLE = "unreachable"
    """immudb does not answer, or refuses to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReceipt:
    """That a record was written: in which transaction of immudb, and when by immudb's clock (to the second).

    `merkle_proof` shows the record in the transaction. `evidence` has that and what connects the transaction with the
    state that was trusted when the receipt was made: later receipts of the same record differ in this only, and are
    equal.
    """

    entry_id: str
    tx_id: int
    timestamp: datetime
    merkle_proof: dict[str, Any]
    evidence: dict[str, Any] = field(compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as JSON-ready data."""
        return {
            "entry_id": self.entry_id,
            "tx_id": self.tx_id,
            "timestamp": self.timestamp.isoformat(),
            "immudb": self.evidence,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The state of a record. `reason` says why it is not verified; `data` and `receipt` are there when it is."""

    entry_id: str
    status: VerificationStatus
    reason: str | None = None
    data: dict[str, Any] | None = None
    receipt: AuditReceipt | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        receipt = self.receipt and self.receipt.to_dict()
        return {
            "entry_id": self.entry_id,
            "status": self.status.value,
            "reason": self.reason,
            "data": self.data,
            "receipt": receipt,
        }


class _Waiting(NamedTuple):
    """A record that is to be written."""

    entry_id: str
    key: bytes
    value: bytes


_Futures = Mapping["asyncio.Future[Evidence]", _Waiting]


class AuditTrail:
    """Writes records to immudb and verifies them, for one event loop.

    Calls wait for each other. Records that wait while another is written are written together, in one transaction.
    """

    def __init__(self, database: VerifiedDatabase) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        self._waiting: dict[asyncio.Future[Evidence], _Waiting] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection."""
        await asyncio.to_thread(self._database.close)

    async def write(self, entry_id: str, data: Mapping[str, Any]) -> AuditReceipt:
        """Write a record, once: the same id with the same data again returns the same receipt.

        `data` is a JSON object; a `Decimal` in it is kept as text, and a float is refused.

        Raises:
            InvalidAuditRecord: the id or the data can't be taken.
            ImmudbConflict: the id has other data.
            ImmudbTampered: immudb can't prove what it has.
            ImmudbUnavailable, ImmudbRefused, TrustedStateInvalid, TrustedStateBusy: as they say. Whether it was
                written is not known: write it again.
        """
        record = _Waiting(entry_id, _key(entry_id), canonical_json(data))
        written: asyncio.Future[Evidence] = asyncio.get_running_loop().create_future()
        self._waiting[written] = record
        try:
            async with self._turn:
                while written in self._waiting:  # whoever had the turn before may have taken it along
                    await self._write_some()
            return _receipt(entry_id, await written)
        finally:
            self._waiting.pop(written, None)
            written.cancel()

    async def _write_some(self) -> None:
        """Write records that wait, the first of them among them. Each is told, even if who writes is cancelled."""
        taken = _some_of(self._waiting)
        for future in taken:
            del self._waiting[future]
        writing = asyncio.create_task(asyncio.to_thread(self._write, [*taken.values()]))
        writing.add_done_callback(lambda done: _tell([*taken], done))
        await asyncio.shield(writing)

    def _write(self, records: Sequence[_Waiting]) -> list[Evidence | LedgerError]:
        """Return the evidence of each record, or why there is none. If one is there, each half is tried alone."""
        try:
            found = self._database.add([(each.key, each.value) for each in records])
            if found is not None:
                return [*found]
            if len(records) == 1:
                return [self._find(records[0])]
        except LedgerError as error:
            return [error] * len(records)
        half = len(records) // 2
        return [*self._write(records[:half]), *self._write(records[half:])]

    def _find(self, record: _Waiting) -> Evidence:
        """Return the evidence of a record that is there, with the same data."""
        entry_id, found = record.entry_id, self._database.get(record.key)
        if found is None:
            raise ImmudbTampered(
                f"immudb says that record {entry_id!r} exists, and does not show it", entry_id=entry_id
            )
        if found.value != record.value:
            raise ImmudbConflict(f"record {entry_id!r} was written with other data", entry_id=entry_id)
        return found

    async def verify(self, entry_id: str, receipt: AuditReceipt | None = None) -> Verification:
        """Say what became of a record; with its receipt, also that it is the record of that receipt.

        Raises:
            InvalidAuditRecord: no record can have this id.
            TrustedStateInvalid: there is nothing to verify against.
        """
        key = _key(entry_id)
        async with self._turn:
            try:
                evidence = await asyncio.to_thread(self._database.get, key)
                revisions = await asyncio.to_thread(self._database.revisions, key)
            except (ImmudbUnavailable, ImmudbRefused, TrustedStateBusy) as error:
                return _not_verified(entry_id, VerificationStatus.UNREACHABLE, error.message)
            except ImmudbTampered as error:
                return _not_verified(entry_id, VerificationStatus.TAMPERED, error.message)
        return _judged(entry_id, evidence, revisions, receipt)


def _some_of(waiting: _Futures) -> dict["asyncio.Future[Evidence]", _Waiting]:
    """Return those, from the first on, that can be written together: of different keys, and not too much of them."""
    taken: dict[asyncio.Future[Evidence], _Waiting] = {}
    keys, size = set(), 0
    for future, record in waiting.items():
        size += len(record.value)
        if taken and (size > _MOST_DATA_TOGETHER or len(taken) == MOST_ENTRIES):
            break
        if record.key not in keys:
            keys.add(record.key)
            taken[future] = record
    return taken


def _tell(
    futures: Sequence["asyncio.Future[Evidence]"], writing: "asyncio.Task[list[Evidence | LedgerError]]"
) -> None:
    bug = writing.exception()
    outcomes = writing.result() if bug is None else [bug] * len(futures)
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():  # nobody waits any more
            continue
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _judged(
    entry_id: str, evidence: Evidence | None, revisions: list[int], receipt: AuditReceipt | None
) -> Verification:
    """Say what evidence, the transactions that are said to have touched the key, and a receipt come to. Pure."""
    tampered = VerificationStatus.TAMPERED
    if evidence is None:
        if revisions or receipt:
            return _not_verified(entry_id, tampered, "it was written, and is deleted")
        return _not_verified(entry_id, VerificationStatus.MISSING, "there is no such record")
    if len(revisions) != 1 or evidence.revision != 1 or evidence.metadata:
        return _not_verified(entry_id, tampered, f"it was written more than once, in transactions {revisions}")
    try:
        data = json.loads(evidence.value)
        if receipt is not None:
            verify_merkle_proof(receipt.merkle_proof, key=evidence.key, value=evidence.value)
    except ProofInvalid as error:
        return _not_verified(entry_id, tampered, f"it is not the record of the receipt: {error.message}")
    except ValueError:
        return _not_verified(entry_id, tampered, "it is no JSON")
    made = _receipt(entry_id, evidence)
    if receipt is not None and receipt.tx_id != made.tx_id:
        return _not_verified(entry_id, tampered, f"it was written in transaction {made.tx_id}, not {receipt.tx_id}")
    return Verification(entry_id=entry_id, status=VerificationStatus.VERIFIED, data=data, receipt=made)


def _not_verified(entry_id: str, status: VerificationStatus, reason: str) -> Verification:
    return Verification(entry_id=entry_id, status=status, reason=reason)


def _receipt(entry_id: str, evidence: Evidence) -> AuditReceipt:
    return AuditReceipt(
        entry_id=entry_id,
        tx_id=evidence.header.tx,
        timestamp=datetime.fromtimestamp(evidence.header.ts, UTC),
        merkle_proof=merkle_proof(evidence),
        evidence=to_json(evidence),
    )


def _key(entry_id: str) -> bytes:
    if not isinstance(entry_id, str):
        raise InvalidAuditRecord("an entry_id is text", field="entry_id")
    if not entry_id or not entry_id.isprintable():
        raise InvalidAuditRecord("an entry_id has characters that print", field="entry_id")
    key = entry_id.encode()
    if len(key) > _MOST_ID_BYTES:
        raise InvalidAuditRecord(f"an entry_id has at most {_MOST_ID_BYTES} bytes", field="entry_id")
    return _PREFIX + key


def canonical_json(data: Mapping[str, Any]) -> bytes:
    """Return a JSON object with its keys sorted and no white space, each `Decimal` as text.

    Raises:
        InvalidAuditRecord: it is no JSON object, has a float, is too large or nested too deep.
    """
    if not isinstance(data, Mapping):
        raise InvalidAuditRecord(f"data must be a mapping, not {type(data).__name__}", field="data")
    whole = _plain(data, "data", 0)
    try:
        value = json.dumps(whole, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    except ValueError as error:  # half of a surrogate pair, an integer of thousands of digits
        raise InvalidAuditRecord(f"data can't be written as JSON: {error}"[:200], field="data") from None
    if len(value) > _MOST_DATA_BYTES:
        raise InvalidAuditRecord(f"data has {len(value)} bytes, at most {_MOST_DATA_BYTES} are taken", field="data")
    return value


def _plain(value: Any, path: str, depth: int) -> Any:
    if depth > _MOST_DEPTH:
        raise InvalidAuditRecord(f"{path} is nested deeper than {_MOST_DEPTH} levels", field=path)
    match value:
        case None | bool() | int() | str():
            return value
        case Decimal() if value.is_finite():
            return plain(value)
        case Mapping():
            return {_name(key, path): _plain(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item, f"{path}[{number}]", depth + 1) for number, item in enumerate(value)]
        case float() | Decimal():
            raise InvalidAuditRecord(f"{path} is a {type(value).__name__} that is not exact: pass text", field=path)
        case _:
            raise InvalidAuditRecord(f"{path} is a {type(value).__name__}: pass text", field=path)


def _name(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise InvalidAuditRecord(f"{path} has a name that is no text", field=path)
    return key
