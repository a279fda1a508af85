"""`LedgerEngine`: post entries, keep accounts, reserve funds and read balances, from asyncio code."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

from commands.batch_validation import REVERSAL
from commands.codec import Outcome
from commands.types import (
    CloseAccount,
    Command,
    ExpireHold,
    FreezeAccount,
    OpenAccount,
    PlaceHold,
    PostBatch,
    PostEntry,
    ReleaseHold,
    ReopenAccount,
    ReverseBatch,
    SettleHold,
    UnfreezeAccount,
)
from events.checkpoint import Verifier
from events.errors import LedgerError
from events.types import EntryType
from partita import input as given
from partita.connection import Connection
from partita.consistency import Consistency, show_consistency
from partita.input import Asking, BatchAsking
from partita.locks import Lock, LockManager, Locks
from partita.receipts import Receipt
from partita.results import (
    AccountChange,
    EntryPage,
    HoldChange,
    LedgerBatch,
    LedgerEntry,
    account_change_of,
    available,
    batch_of,
    entry_of,
    from_row,
    hold_change_of,
)
from partita.settings import Settings, one_database
from projections.errors import AccountNotInReadModel
from projections.proofs.queries import CheckpointRow
from projections.records import AccountRow, BatchRow, HoldPage, HoldStatus
from projections.snapshots.queries import Clock, SnapshotPage, TrialBalance, clock_of

C = TypeVar("C", bound=Command)

_OWN_DIGITS: Final = 16
"""Of the id of a reversal that is given none: short, since it stands behind the id of the batch."""


class LedgerEngine:
    """A client of one ledger, for one event loop.

    Addresses come from the arguments, else from `PARTITA_...` variables, else from the local stack that is up. It
    connects at the first call that needs to. Any number of calls may be awaited at once. Close it, or use it as an
    async context manager.

    **Calls that write** return when the change is durable. Each takes what `Asking` names, and raises

        InvalidCommand: its subclass names the field; nothing was sent.
        Rejected: a rule was broken, for instance `InsufficientFunds`; nothing was changed.
        AccountLocked: somebody else had locked an account until the deadline; nothing was changed.
        OutcomeUnknown: the deadline passed; ask again with the same `command_id`.
        BrokerUnavailable, RegistryUnavailable, TopicMissing: not connected; nothing was sent.

    **Calls that read** are never older than an outcome that this engine was told: after `InsufficientFunds`, the
    balance is the one that did not suffice, or a later one. What others wrote is seen as soon as the projection has
    it. They raise

        InvalidAccountId: no account can have this id.
        ReadModelUnavailable: PostgreSQL does not answer.
        ReadModelBehind: the projection did not catch up within `timeout` seconds.
    """

    def __init__(
        self,
        *,
        kafka_bootstrap: str | None = None,
        schema_registry_url: str | None = None,
        postgres_url: str | None = None,
        ledger: str | None = None,
        lock_manager: LockManager | None = None,
        settings: Settings | None = None,
    ) -> None:
        named: dict[str, Any] = {
            "kafka_bootstrap": kafka_bootstrap,
            "schema_registry_url": schema_registry_url,
            "ledger": ledger,
        }
        given = {name: value for name, value in named.items() if value is not None}
        self.settings = settings or Settings(**given, **(one_database(postgres_url) if postgres_url else {}))
        self._connection = Connection(self.settings)
        self._locks = Locks(
            self._connection.ask, lock_manager or LockManager(), patience=self.settings.outcome_timeout
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of all connections; the engine can't be used afterwards."""
        await self._connection.close()

    def position(self, account_id: str | None = None) -> dict[int, int]:
        """Return the last sequence that this engine was told of each partition, or of that of an account.

        A reader that has got so far has seen all outcomes that the engine was told.

        Raises:
            InvalidAccountId: no account can have this id.
        """
        return self._connection.told(account_id)

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
    ) -> LedgerEntry:
        """Post one entry. `effective_at` is when it counts from, if that is not when it is recorded."""
        fields = {"amount": amount, "entry_type": entry_type, "asset": asset, "effective_at": effective_at}
        notes = {"reference": reference, "metadata": metadata}
        return entry_of(await self._ask(PostEntry, asking, account_id=account_id, **fields, **notes))

    async def create_entries(
        self, entries: Iterable[object], *, dry_run: bool = False, timeout: float | None = None
    ) -> list[LedgerEntry | LedgerError]:
        """Post many entries, each on its own, and return in their order the entry or the error of each.

        An entry is a mapping, or any object with attributes, named as the arguments of `create_entry`. Give each a
        `command_id`, so that you can ask for all of them again. Entries of one account are handled in their order.
        The call gives up when nothing was answered for `timeout` seconds: those without an answer are
        `OutcomeUnknown`. An entry that meets somebody else's lock is not asked again: it is `AccountLocked`. With
        `dry_run` each is tried alone, as if those before it had not been.

        Raises:
            BrokerUnavailable, RegistryUnavailable, TopicMissing: not connected; nothing was sent.
        """
        made = [self._entry(item, dry_run=dry_run) for item in entries]
        commands = [self._locks.signed(command) for command in made if isinstance(command, PostEntry)]
        answers = iter(await self._connection.ask_all(commands, timeout) if commands else ())
        found = (next(answers) if isinstance(item, PostEntry) else item for item in made)
        return [answer if isinstance(answer, LedgerError) else entry_of(answer) for answer in found]

    def _entry(self, item: object, *, dry_run: bool) -> PostEntry | LedgerError:
        try:
            return self._command(PostEntry, **{"dry_run": dry_run, **given.entry_fields(item)})
        except LedgerError as fault:
            return fault

    async def create_batch(
        self,
        entries: Iterable[object],
        *,
        balanced: bool = False,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **asking: Unpack[BatchAsking],
    ) -> LedgerBatch:
        """Post up to 1,000 entries together, all or none, whatever their accounts.

        An entry is a mapping, or any object with attributes: `account_id`, `amount`, `entry_type`, and if you like
        `asset`, `reference`, `metadata`, `effective_at`, `expected_version`. With `balanced`, debits and credits must
        be equal for each asset. A debit must be covered by what is there before the batch. When an entry breaks a
        rule, the error's `details` has its number as `leg`.
        """
        made = given.batch_entries(entries, self.settings.default_asset)
        notes = {"reference": reference, "metadata": metadata}
        return batch_of(await self._ask(PostBatch, asking, entries=made, balanced=balanced, **notes))

    async def transfer(
        self,
        source: str,
        target: str,
        amount: Decimal | str | int,
        *,
        asset: str | None = None,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        effective_at: datetime | None = None,
        **asking: Unpack[BatchAsking],
    ) -> LedgerBatch:
        """Debit `source` and credit `target` with the same amount: a balanced batch of two entries."""
        both = {"amount": amount, "asset": self._asset(asset), "effective_at": effective_at, "reference": reference}
        entries = [
            {"account_id": source, "entry_type": EntryType.DEBIT, **both},
            {"account_id": target, "entry_type": EntryType.CREDIT, **both},
        ]
        return await self.create_batch(entries, balanced=True, reference=reference, metadata=metadata, **asking)

    async def rollback_batch(
        self,
        batch_id: str,
        reason: str | None = None,
        force: bool = False,
        *,
        effective_at: datetime | None = None,
        **asking: Unpack[BatchAsking],
    ) -> LedgerBatch:
        """Undo a posted batch by its reversal, once: asked again, the same reversal is returned.

        The batch stays as it was. It is refused when funds are gone; `force` takes balances below their floors. The
        reversal is a batch too: its id is that of the batch, "~", and the `command_id`, which may be given with or
        without the two.
        """
        mark, asked = f"{batch_id}{REVERSAL}", asking.get("command_id") or uuid.uuid4().hex[:_OWN_DIGITS]
        asking["command_id"] = f"{mark}{asked.removeprefix(mark)}"
        fields = {"batch_id": batch_id, "reason": reason, "force": force, "effective_at": effective_at}
        return batch_of(await self._ask(ReverseBatch, asking, **fields))

    async def open_account(
        self,
        account_id: str,
        *,
        floor: Decimal | str | int | None = 0,
        assets: Iterable[str] = (),
        account_type: str | None = None,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **asking: Unpack[Asking],
    ) -> AccountChange:
        """Open an account with rules of its own.

        No balance falls below `floor`: 0, or less for a credit limit ("-500" lets it owe 500), or None for none at
        all. `assets` are the only ones that it may hold; any when there are none. `account_type` is your own.
        """
        fields = {"floor": floor, "assets": assets, "account_type": account_type}
        notes = {"reference": reference, "metadata": metadata}
        return account_change_of(await self._ask(OpenAccount, asking, account_id=account_id, **fields, **notes))

    async def freeze_account(
        self, account_id: str, *, reason: str | None = None, **asking: Unpack[Asking]
    ) -> AccountChange:
        """Let the account take no entries and no holds; holds may still be released."""
        return account_change_of(await self._ask(FreezeAccount, asking, account_id=account_id, reason=reason))

    async def unfreeze_account(
        self, account_id: str, *, reason: str | None = None, **asking: Unpack[Asking]
    ) -> AccountChange:
        """Open a frozen account again."""
        return account_change_of(await self._ask(UnfreezeAccount, asking, account_id=account_id, reason=reason))

    async def close_account(
        self, account_id: str, *, permanent: bool = False, reason: str | None = None, **asking: Unpack[Asking]
    ) -> AccountChange:
        """Close an account that has neither a balance nor a hold; `permanent`: it can never be reopened."""
        fields = {"permanent": permanent, "reason": reason}
        return account_change_of(await self._ask(CloseAccount, asking, account_id=account_id, **fields))

    async def reopen_account(
        self, account_id: str, *, reason: str | None = None, **asking: Unpack[Asking]
    ) -> AccountChange:
        """Open a closed account again, with the rules that it had."""
        return account_change_of(await self._ask(ReopenAccount, asking, account_id=account_id, reason=reason))

    async def place_hold(
        self,
        account_id: str,
        amount: Decimal | str | int,
        *,
        asset: str | None = None,
        expires_at: datetime | None = None,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **asking: Unpack[Asking],
    ) -> HoldChange:
        """Reserve funds: they stay in the balance and can't be spent. The hold's id is the `command_id`.

        From `expires_at` on `expire_hold` may release it. It does not end by itself.
        """
        fields = {"amount": amount, "asset": asset, "expires_at": expires_at}
        notes = {"reference": reference, "metadata": metadata}
        return hold_change_of(await self._ask(PlaceHold, asking, account_id=account_id, **fields, **notes))

    async def settle_hold(
        self,
        account_id: str,
        hold_id: str,
        amount: Decimal | str | int | None = None,
        *,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        effective_at: datetime | None = None,
        **asking: Unpack[Asking],
    ) -> LedgerEntry:
        """Debit what the hold reserves, or `amount` of it; the rest stays held. Return the entry."""
        fields = {"hold_id": hold_id, "amount": amount, "effective_at": effective_at}
        notes = {"reference": reference, "metadata": metadata}
        return entry_of(await self._ask(SettleHold, asking, account_id=account_id, **fields, **notes))

    async def release_hold(
        self, account_id: str, hold_id: str, *, reason: str | None = None, **asking: Unpack[Asking]
    ) -> HoldChange:
        """End a hold: what it still reserves can be spent again."""
        fields = {"hold_id": hold_id, "reason": reason}
        return hold_change_of(await self._ask(ReleaseHold, asking, account_id=account_id, **fields))

    async def expire_hold(self, account_id: str, hold_id: str, **asking: Unpack[Asking]) -> HoldChange:
        """End a hold whose time has come by the handler's clock; `HoldNotExpired` before."""
        return hold_change_of(await self._ask(ExpireHold, asking, account_id=account_id, hold_id=hold_id))

    def lock_account(
        self, account_id: str, *, timeout: float | None = None, lease: timedelta | float | None = None
    ) -> AbstractAsyncContextManager[Lock]:
        """Let nobody else change the account within the block; see `lock_accounts`."""
        return self.lock_accounts(account_id, timeout=timeout, lease=lease)

    def lock_accounts(
        self, *account_ids: str, timeout: float | None = None, lease: timedelta | float | None = None
    ) -> AbstractAsyncContextManager[Lock]:
        """Let nobody else change these accounts within the block: for callers that must read, think and write.

        Few need it: an entry or a batch is atomic by itself, and `expected_version` is cheaper. What is read in the
        block has all that was written before the lock was granted. What is written in it, by the task itself or by
        tasks begun there, carries the lock's token by itself. A lock lasts for `lease` (seconds or a `timedelta`;
        the lock manager's when None) unless it is renewed; what comes later raises `LockLost`.

        Raises:
            AccountLocked: somebody else had locked one of them until the deadline; none is locked.
            InvalidLease: it is no time between 1 ms and 1 h.
            OutcomeUnknown: the deadline passed; if one was locked it stays so until its lease is over.
        """
        return self._locks.hold(account_ids, lease, timeout)

    async def _ask(self, kind: type[Command], asking: Asking | BatchAsking, **fields: Any) -> Outcome:
        """Make the command and return its outcome, which is no rejection; raises what the class says."""
        timeout = asking.pop("timeout", None)
        return await self._locks.ask(self._command(kind, **fields, **asking), timeout)

    def _command(self, kind: type[C], **fields: Any) -> C:
        if fields.get("command_id") is None:
            fields["command_id"] = str(uuid.uuid4())
        if "asset" in kind._fields:
            fields["asset"] = self._asset(fields.get("asset"))
        return given.command(kind, **fields)

    def _asset(self, asset: str | None) -> str:
        return self.settings.default_asset if asset is None else asset

    async def get_balance(
        self,
        account_id: str,
        asset: str | None = None,
        *,
        at: datetime | None = None,
        time: Clock | str = Clock.RECORDED,
        timeout: float | None = None,
    ) -> Decimal:
        """Return the balance of the account, what is held included; 0 when it has no entry of the asset.

        With `at`, the balance at that time: of all that was recorded by then, or, with `time` "effective", of all
        that counts from then or before. An entry with an earlier `effective_at` changes the latter and never the
        former.

        Raises:
            InvalidPointInTime: `at` has no zone, or `time` is neither "recorded" nor "effective".
        """
        if at is not None:
            return await self._connection.history.balance(
                account_id, self._asset(asset), at, clock_of(time), **self._reading(account_id, timeout)
            )
        row = await self._connection.read_model.balance(
            account_id, self._asset(asset), **self._reading(account_id, timeout)
        )
        return row.balance

    async def snapshot(
        self,
        at: datetime,
        *,
        time: Clock | str = Clock.RECORDED,
        cursor: str | None = None,
        limit: int = 100,
        timeout: float | None = None,
    ) -> SnapshotPage:
        """Return the balances of all accounts at a time, by account and asset, from up to `limit` (1 to 1,000) rows.

        A page may be shorter, or empty, though more come: accounts that had nothing yet are left out. A batch is in
        it as a whole or not at all. `at` and `time` as in `get_balance`.

        Raises:
            InvalidPointInTime: as in `get_balance`.
            InvalidCursor: the cursor is none of ours, or another time's.
        """
        return await self._connection.history.snapshot(
            at, clock_of(time), after=cursor, limit=limit, **self._reading(None, timeout)
        )

    async def trial_balance(
        self, at: datetime, *, time: Clock | str = Clock.RECORDED, timeout: float | None = None
    ) -> tuple[TrialBalance, ...]:
        """Return, by asset, the sums of all accounts at a time; `at`, `time` and errors as in `get_balance`."""
        return await self._connection.history.trial_balance(at, clock_of(time), **self._reading(None, timeout))

    async def get_available(
        self, account_id: str, asset: str | None = None, *, timeout: float | None = None
    ) -> Decimal | None:
        """Return what may be debited or held: the balance, less what is held, less the floor.

        None when the account has no floor; 0 when there is no such account. An account that is frozen or closed
        takes no debit, whatever is available.
        """
        try:
            account = await self.get_account(account_id, timeout=timeout)
        except AccountNotInReadModel:
            return Decimal(0)
        return available(account, self._asset(asset))

    async def get_account(self, account_id: str, *, timeout: float | None = None) -> AccountRow:
        """Return the account: its status, rules and version, and its balances with what is held of each.

        Raises:
            AccountNotInReadModel: nothing has opened it.
        """
        return await self._connection.read_model.account(account_id, **self._reading(account_id, timeout))

    async def list_holds(
        self,
        account_id: str,
        *,
        status: HoldStatus | None = HoldStatus.PLACED,
        cursor: str | None = None,
        limit: int = 100,
        timeout: float | None = None,
    ) -> HoldPage:
        """Return up to `limit` (1 to 1,000) holds of the account, oldest first; of every status when it is None.

        Raises:
            InvalidCursor: the cursor is none of ours, or another question's.
        """
        return await self._connection.read_model.holds(
            account_id, status=status, after=cursor, limit=limit, **self._reading(account_id, timeout)
        )

    async def get_batch(self, batch_id: str, *, timeout: float | None = None) -> BatchRow:
        """Return a batch or a reversal: what became of it, its entries, and the reversal that has undone it.

        Raises:
            BatchNotInReadModel: nothing is known of it.
        """
        return await self._connection.read_model.batch(batch_id, **self._reading(None, timeout))

    async def get_entry(self, entry_id: str, *, timeout: float | None = None) -> LedgerEntry:
        """Return the entry with this id; raises `EntryNotFound`."""
        told, partition = self._connection.told(), entry_id.partition("-")[0]
        await self._catch_up({p: sequence for p, sequence in told.items() if str(p) == partition}, timeout)
        return from_row(await self._connection.read_model.entry(entry_id))

    async def get_receipt(self, entry_id: str, *, timeout: float | None = None) -> Receipt:
        """Return what shows to anyone, offline, that the entry is in the log; `verify_receipt` verifies it.

        Raises:
            EntryNotFound: no entry has this id.
            ReceiptNotReady: the read side had no checkpoint with the entry within `timeout` seconds.
            TreeDamaged: what the read side has is not the log.
            KeyInvalid: the ledger's verifier keys are not known here.
        """
        limit = self.settings.outcome_timeout if timeout is None else timeout
        return await self._connection.receipt(entry_id, limit)

    async def get_checkpoints(self) -> list[CheckpointRow]:
        """Return the newest signed checkpoint of each partition that the read side has held against the log."""
        return await self._connection.proofs.newest()

    async def verify_consistency(
        self, old: str, new: str, *, verifiers: Sequence[Verifier | str] = ()
    ) -> Consistency:
        """Return what shows that the log of the signed note `new` begins with that of `old`: nothing was rewritten.

        Both must be signed by one of `verifiers`; when none is given, of those that are known here.

        Raises:
            CheckpointInvalid: a note is none, none of the keys has signed it, or they are not of one log.
            ProofInvalid: it is not so.
            KeyInvalid: there is no key.
            TreeDamaged: the read side has not the tree.
        """
        keys = [each if isinstance(each, Verifier) else Verifier.parse(each) for each in verifiers]
        known = keys or self._connection.verifiers
        return await show_consistency(self._connection.proofs, old, new, known, self.settings.origin)

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
            InvalidCursor: the cursor is none of ours, or another statement's.
        """
        await self._catch_up(self._connection.told(account_id), timeout)
        page = await self._connection.read_model.entries(
            account_id, asset=asset, after=cursor, limit=limit, newest_first=newest_first
        )
        return EntryPage(entries=tuple(from_row(row) for row in page.entries), next_cursor=page.next_cursor)

    async def _catch_up(self, told: Mapping[int, int], timeout: float | None) -> None:
        if told:
            limit = self.settings.outcome_timeout if timeout is None else timeout
            await self._connection.read_model.wait_for(told, limit)

    def _reading(self, account_id: str | None, timeout: float | None) -> dict[str, Any]:
        """Return how far the read model must have got, and how long it has for that."""
        limit = self.settings.outcome_timeout if timeout is None else timeout
        return {"at_least": self._connection.told(account_id), "timeout": limit}
