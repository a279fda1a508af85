"""`create_hybrid_ledger`: an engine whose entries come with a receipt of both copies, PostgreSQL's and immudb's.

An entry is durable when the log has it. A receipt waits, for a bounded time, until the tables and the mirror have it
too; when one of them does not get there in time, or shows something else, the error says which, and has the entry.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Unpack

from pydantic import SecretStr

from commands.codec import Outcome
from events.errors import LedgerError
from events.types import EntryPosted, EntryType
from partita.audit import secret
from partita.engine import LedgerEngine
from partita.input import Asking
from partita.results import LedgerEntry, entry_of, from_row
from partita.settings import Settings, one_database
from partita.wiring import Wiring
from projections.errors import ReadModelBehind
from projections.immudb.errors import ImmudbTampered, MirrorBehind
from projections.immudb.evidence import Evidence, to_json
from projections.immudb.mirror import Mirror
from projections.immudb.mirrored import event_of
from projections.mirror import MIRROR
from projections.queries import ReadModel

_SAME: Final = ("account_id", "asset", "entry_type", "amount", "running_balance", "command_id", "sequence", "version")
"""What the entry and its copies must agree in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConfig:
    """Where the parts of a hybrid ledger are. What is None comes from the settings, or from the local stack.

    `receipt_timeout` is how many seconds a receipt is waited for, after the entry is durable.
    """

    postgres_url: SecretStr | str | None = None
    kafka_bootstrap: str | None = None
    schema_registry_url: str | None = None
    ledger: str | None = None
    immudb_host: str | None = None
    immudb_port: int | None = None
    immudb_database: str | None = None
    immudb_username: str | None = None
    immudb_password: SecretStr | str | None = None
    immudb_timeout: float | None = None
    immudb_state_file: Path | str | None = None
    receipt_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name in ("postgres_url", "immudb_password"):
            object.__setattr__(self, name, secret(getattr(self, name)))
        if self.receipt_timeout <= 0:
            raise ValueError("receipt_timeout must be more than 0")

    def settings(self) -> Settings:
        """Return settings with these; raises pydantic's `ValidationError` for what can't be."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "receipt_timeout"}
        database = one_database(self.postgres_url) if self.postgres_url is not None else {}
        return Settings(**{name: value for name, value in given.items() if value is not None} | database)


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridReceipt:
    """Where an entry is: `pg_id` is the id of its row in `entries`, `immudb_tx` the transaction that has its event.

    `immudb` is the evidence for that, verified, JSON-ready: what a receipt of `partita` has under this name.
    """

    pg_id: str
    immudb_tx: int
    immudb: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridEntry(LedgerEntry):
    """A posted entry and its receipt; None for a dry run."""

    receipt: HybridReceipt | None


class ReceiptIncomplete(LedgerError):
    """The entry is durable, and its receipt is not there yet: `behind` is "projection" or "mirror".

    `entry` is the entry. Ask again with the same `command_id` for both.
    """

    retriable = True

    def __init__(self, entry: LedgerEntry, behind: str, why: LedgerError) -> None:
        super().__init__(
            f"entry {entry.entry_id} is posted, but the {behind} did not show it: {why.message}",
            entry_id=entry.entry_id,
            command_id=entry.command_id,
            behind=behind,
            reason=why.code,
        )
        self.entry = entry


class ReceiptRefused(LedgerError):
    """The entry is durable, and what `copy`, "projection" or "mirror", shows of it can't be believed.

    `entry` is the entry. Asking again does not help: `reason` is the code of what was found.
    """

    def __init__(self, entry: LedgerEntry, copy: str, why: LedgerError) -> None:
        super().__init__(
            f"entry {entry.entry_id} is posted, but what the {copy} shows of it can't be believed: {why.message}",
            entry_id=entry.entry_id,
            command_id=entry.command_id,
            copy=copy,
            reason=why.code,
        )
        self.entry = entry


class CopyDiffers(LedgerError):
    """PostgreSQL or immudb has something else than the entry that was posted."""


class HybridLedger(LedgerEngine):
    """A `LedgerEngine` whose `create_entry` returns when PostgreSQL and immudb have the entry too."""

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(settings=config.settings())
        self._receipt_timeout = config.receipt_timeout
        self._wiring = Wiring(self.settings)
        self._turn = asyncio.Lock()

    @cached_property
    def _mirror(self) -> Mirror:
        return self._wiring.mirror()

    @cached_property
    def _mirrored(self) -> ReadModel:
        return self._wiring.read_model(MIRROR)

    async def close(self) -> None:
        """Let go of all connections; the engine can't be used afterwards."""
        await super().close()
        if "_mirrored" in self.__dict__:
            await self._mirrored.close()
        if "_mirror" in self.__dict__:
            await asyncio.to_thread(self._mirror.database.close)
        self._wiring.close()

    async def create_entry(
        self,
        account_id: str,
        amount: Decimal | str | int,
        entry_type: EntryType | str,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        asset: str | None = None,
        effective_at: datetime | None = None,
        **asking: Unpack[Asking],
    ) -> HybridEntry:
        """Post one entry, and return it with its receipt.

        Raises:
            ReceiptIncomplete: it is posted, and not in PostgreSQL or not in immudb within `receipt_timeout` seconds.
            ReceiptRefused: it is posted, and PostgreSQL or immudb has something else.
        """
        posted = await super().create_entry(
            account_id, amount, entry_type, reference, metadata, asset=asset, effective_at=effective_at, **asking
        )
        receipt = None if posted.dry_run else await self.receipt(posted)
        return HybridEntry(**{field.name: getattr(posted, field.name) for field in fields(posted)}, receipt=receipt)

    async def receipt(self, entry: LedgerEntry) -> HybridReceipt:
        """Return the receipt of a posted entry, when PostgreSQL and immudb have it; raises as `create_entry`."""
        deadline = time.monotonic() + self._receipt_timeout
        try:
            row = await self._row(entry, deadline)
        except LedgerError as why:
            raise _without_receipt(entry, "projection", why) from why
        try:
            found = await self._event(entry, deadline)
        except LedgerError as why:
            raise _without_receipt(entry, "mirror", why) from why
        return HybridReceipt(pg_id=row.entry_id, immudb_tx=found.header.tx, immudb=to_json(found))

    async def _row(self, entry: LedgerEntry, deadline: float) -> LedgerEntry:
        read_model = self._connection.read_model
        await read_model.wait_for({entry.partition: entry.sequence}, deadline - time.monotonic())
        return _checked(from_row(await read_model.entry(entry.entry_id)), entry)

    async def _event(self, entry: LedgerEntry, deadline: float) -> Evidence:
        try:
            await self._mirrored.wait_for({entry.partition: entry.sequence}, deadline - time.monotonic())
        except ReadModelBehind as behind:
            raise MirrorBehind(**behind.details) from behind
        async with self._turn:
            found = await asyncio.to_thread(self._mirror.find, entry.partition, entry.sequence)
        if found is None:
            raise ImmudbTampered(f"immudb had the event of entry {entry.entry_id}", entry_id=entry.entry_id)
        event = (await asyncio.to_thread(lambda: self._wiring.event_codec)).decode(event_of(found))
        if not isinstance(event, EntryPosted):
            raise CopyDiffers(f"immudb has another event as entry {entry.entry_id}", entry_id=entry.entry_id)
        _checked(entry_of(Outcome(entry.replayed, entry.partition, event)), entry)
        return found


def _without_receipt(entry: LedgerEntry, copy: str, why: LedgerError) -> LedgerError:
    """Return the error for a copy that is behind, or for one that waiting does not make right."""
    return ReceiptIncomplete(entry, copy, why) if why.retriable else ReceiptRefused(entry, copy, why)


def _checked(copy: LedgerEntry, entry: LedgerEntry) -> LedgerEntry:
    """Return a copy of an entry that agrees with it; raises `CopyDiffers`."""
    different = [name for name in _SAME if getattr(copy, name) != getattr(entry, name)]
    if different:
        raise CopyDiffers(
            f"a copy of entry {entry.entry_id} has another {different[0]}",
            entry_id=entry.entry_id,
            field=different[0],
        )
    return copy


async def create_hybrid_ledger(config: HybridConfig | None = None) -> HybridLedger:
    """Return a hybrid ledger. It connects when it is first used. Use it by `async with`, or close it.

    Raises:
        ValidationError: pydantic's, for a setting that can't be.
    """
    return HybridLedger(config or HybridConfig())
