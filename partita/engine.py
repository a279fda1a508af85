"""`LedgerEngine`: post entries and read balances, from asyncio code."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

from commands.codec import Outcome
from commands.errors import (
    InvalidAmount,
    InvalidEffectiveTime,
    InvalidEntryType,
    InvalidExpectedVersion,
    InvalidMetadata,
    from_event,
)
from commands.types import Policy, PostEntry
from commands.validation import canonical_metadata, check_account_id, check_fields, check_identity
from events.money import NotAnAmount, to_units
from events.partitioner import partition_of
from events.types import CommandRejected, EntryType
from partita.entry import LedgerEntry, from_outcome, from_row, to_micros
from partita.requester import Requester
from partita.settings import Settings
from partita.wiring import Wiring
from projections.queries import ReadModel


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPage:
    """Some entries of an account. `next_cursor` gives the page after; None when this is the last."""

    entries: tuple[LedgerEntry, ...]
    next_cursor: str | None


class LedgerEngine:
    """A client of one ledger, for one event loop.

    Addresses come from the arguments, else from `PARTITA_...` variables, else from the local stack that is up. It
    connects at the first call that needs to. Any number of calls may be awaited at once. Close it, or use it as an
    async context manager.
    """

    def __init__(
        self,
        *,
        kafka_bootstrap: str | None = None,
        schema_registry_url: str | None = None,
        postgres_url: str | None = None,
        ledger: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        given: dict[str, Any] = {
            "kafka_bootstrap": kafka_bootstrap,
            "schema_registry_url": schema_registry_url,
            "postgres_url": postgres_url,
            "ledger": ledger,
        }
        self.settings = settings or Settings(**{name: value for name, value in given.items() if value is not None})
        self._wiring = Wiring(self.settings)
        self._requester: Requester | None = None
        self._read_model: ReadModel | None = None
        self._connecting: asyncio.Task[Requester] | None = None
        self._told: dict[int, int] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections; the engine can't be used afterwards."""
        self._closed = True
        if self._connecting is not None:  # a requester that is being made is let go as well
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._requester is not None:
            await self._requester.close()
        if self._read_model is not None:
            await self._read_model.close()
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
        command_id: str | None = None,
        expected_version: int | None = None,
        effective_at: datetime | None = None,
        timeout: float | None = None,
    ) -> LedgerEntry:
        """Post one entry and return it when it is durable.

        A repeat with the same `command_id` (a new one is made when none is given) and the same payload returns the
        same entry, with `replayed` set. `timeout` is in seconds; the setting `outcome_timeout` when None.

        Raises:
            InvalidCommand: its subclass names the field; nothing was sent.
            Rejected: a rule was broken, for instance `InsufficientFunds`; nothing was changed.
            OutcomeUnknown: the deadline passed; ask again with the same `command_id`.
            BrokerUnavailable, RegistryUnavailable, TopicMissing: not connected; nothing was sent.
        """
        command = _command(
            command_id=str(uuid.uuid4()) if command_id is None else command_id,
            account_id=account_id,
            amount=amount,
            entry_type=entry_type,
            asset=self.settings.default_asset if asset is None else asset,
            reference=reference,
            metadata=metadata,
            effective_at=effective_at,
            expected_version=expected_version,
        )
        requester = await self._connected()
        outcome = await requester.ask(command._replace(reply_key=requester.reply_key), timeout=timeout)
        return self._entry(outcome)

    def _entry(self, outcome: Outcome) -> LedgerEntry:
        event = outcome.event
        self._told[outcome.partition] = max(self._told.get(outcome.partition, 0), event.sequence)
        if isinstance(event, CommandRejected):
            raise from_event(event)
        return from_outcome(outcome, event)

    async def get_balance(
        self, account_id: str, asset: str | None = None, *, timeout: float | None = None
    ) -> Decimal:
        """Return the balance of the account, with every entry that this engine has posted.

        It is never older than an outcome that the engine was told: after `InsufficientFunds` it is the balance that
        did not suffice, or a later one. Other entries that others posted are in it as soon as the projection has
        them. 0 when there is no entry.

        Raises:
            InvalidAccountId: no account can have this id.
            ReadModelUnavailable: PostgreSQL does not answer.
            ReadModelBehind: the projection did not catch up within `timeout` seconds.
        """
        row = await self._reader().balance(
            account_id,
            self.settings.default_asset if asset is None else asset,
            at_least=self._told_of(account_id),
            timeout=self.settings.outcome_timeout if timeout is None else timeout,
        )
        return row.balance

    async def get_entry(self, entry_id: str, *, timeout: float | None = None) -> LedgerEntry:
        """Return the entry with this id; raises `EntryNotFound`, and as `get_balance`."""
        partition = entry_id.partition("-")[0]
        await self._catch_up({p: sequence for p, sequence in self._told.items() if str(p) == partition}, timeout)
        return from_row(await self._reader().entry(entry_id))

    async def list_entries(
        self,
        account_id: str,
        *,
        asset: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        newest_first: bool = False,
        timeout: float | None = None,
    ) -> EntryPage:
        """Return up to `limit` (1 to 1,000) entries of the account in their order, all assets when `asset` is None.

        Raises:
            InvalidCursor: the cursor is none of ours, or another statement's. Others as `get_balance`.
            ValueError: `limit` is out of range.
        """
        await self._catch_up(self._told_of(account_id), timeout)
        page = await self._reader().entries(
            account_id, asset=asset, after=cursor, limit=limit, newest_first=newest_first
        )
        return EntryPage(entries=tuple(from_row(row) for row in page.entries), next_cursor=page.next_cursor)

    def _told_of(self, account_id: str) -> dict[int, int]:
        """Return the partition of the account and the last sequence that this engine was told of it.

        Raises:
            InvalidAccountId: no account can have this id.
        """
        if fault := check_account_id(account_id):
            raise fault
        if self._requester is None:
            return {}
        partition = partition_of(account_id, self._requester.partition_count)
        return {partition: self._told[partition]} if partition in self._told else {}

    async def _catch_up(self, written: Mapping[int, int], timeout: float | None) -> None:
        if written:
            limit = self.settings.outcome_timeout if timeout is None else timeout
            await self._reader().wait_for(written, limit)

    def _reader(self) -> ReadModel:
        self._check_open()
        if self._read_model is None:
            self._read_model = self._wiring.read_model()
        return self._read_model

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("the engine is closed")

    async def _connected(self) -> Requester:
        """Return the requester. Calls that come while it connects share the attempt, and its failure."""
        self._check_open()
        if self._requester is not None and not self._requester.broken:
            return self._requester
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect())
        requester = await asyncio.shield(self._connecting)  # a call that is cancelled doesn't end it for the others
        self._check_open()
        return requester

    async def _connect(self) -> Requester:
        if self._requester is not None:
            await self._requester.close()
        requester = await asyncio.to_thread(self._wiring.requester)
        await requester.start()
        self._requester = requester
        return requester


def _command(
    *,
    command_id: str,
    account_id: str,
    amount: Decimal | str | int,
    entry_type: EntryType | str,
    asset: str,
    reference: str | None,
    metadata: Mapping[str, Any] | None,
    effective_at: datetime | None,
    expected_version: int | None,
) -> PostEntry:
    """Return the command, checked as the handler will check it, save for what only the handler knows."""
    command = PostEntry(
        command_id=command_id,
        reply_key=None,
        account_id=account_id,
        entry_type=_entry_type(entry_type),
        amount=_units(amount),
        asset=asset,
        reference=reference,
        metadata=None if metadata is None else _json(metadata),
        effective_at=None if effective_at is None else _micros(effective_at),
        expected_version=_version(expected_version),
    )
    if fault := check_identity(command) or check_fields(command, Policy()):
        raise fault
    return command


def _entry_type(value: EntryType | str) -> EntryType:
    try:
        return EntryType(value.upper())
    except (ValueError, AttributeError):
        raise InvalidEntryType(f"entry_type must be CREDIT or DEBIT, not {value!r}") from None


def _units(amount: Decimal | str | int) -> int:
    try:
        return to_units(amount)
    except NotAnAmount as error:
        raise InvalidAmount(f"amount: {error}") from None


def _json(metadata: Mapping[str, Any]) -> str:
    if not isinstance(metadata, Mapping):
        raise InvalidMetadata(f"metadata must be a mapping, not {type(metadata).__name__}")
    try:
        text = json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadata(f"metadata can't be written as JSON: {error}") from None
    return canonical_metadata(text)


def _micros(time: datetime) -> int:
    if not isinstance(time, datetime):
        raise InvalidEffectiveTime(f"effective_at must be a datetime, not {type(time).__name__}")
    if time.utcoffset() is None:
        raise InvalidEffectiveTime("effective_at has no time zone")
    return to_micros(time)


def _version(expected: int | None) -> int | None:
    if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int)):
        raise InvalidExpectedVersion(f"expected_version must be an integer, not {type(expected).__name__}")
    return expected
