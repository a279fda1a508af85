"""The commands, as they are after decoding. Fields are those of the Avro schemas, in their order.

Amounts are in units of 10^-18, times in microseconds since 1970 UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple, get_args

from events.money import SCALE
from events.types import BatchEntry, EntryResult, EntryType, LockToken, PlacedEntry


class PostEntry(NamedTuple):
    """Post one credit or debit."""

    command_id: str
    reply_key: str | None
    account_id: str
    entry_type: EntryType
    amount: int
    asset: str
    reference: str | None = None
    metadata: str | None = None
    effective_at: int | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class OpenAccount(NamedTuple):
    """Open an account: `floor` None is no floor, `assets` empty is any asset."""

    command_id: str
    reply_key: str | None
    account_id: str
    floor: int | None = 0
    assets: Sequence[str] = ()
    account_type: str | None = None
    reference: str | None = None
    metadata: str | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class FreezeAccount(NamedTuple):
    """Let the account take no entries and no holds."""

    command_id: str
    reply_key: str | None
    account_id: str
    reason: str | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class UnfreezeAccount(NamedTuple):
    """Open a frozen account again."""

    command_id: str
    reply_key: str | None
    account_id: str
    reason: str | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class CloseAccount(NamedTuple):
    """Close an empty account; `permanent`: for ever."""

    command_id: str
    reply_key: str | None
    account_id: str
    permanent: bool = False
    reason: str | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class ReopenAccount(NamedTuple):
    """Open a closed account again."""

    command_id: str
    reply_key: str | None
    account_id: str
    reason: str | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class PlaceHold(NamedTuple):
    """Reserve funds; the hold's id is the `command_id`."""

    command_id: str
    reply_key: str | None
    account_id: str
    amount: int
    asset: str
    expires_at: int | None = None
    reference: str | None = None
    metadata: str | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class SettleHold(NamedTuple):
    """Take held funds: `amount`, or all that the hold reserves."""

    command_id: str
    reply_key: str | None
    account_id: str
    hold_id: str
    amount: int | None = None
    reference: str | None = None
    metadata: str | None = None
    effective_at: int | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class ReleaseHold(NamedTuple):
    """End a hold."""

    command_id: str
    reply_key: str | None
    account_id: str
    hold_id: str
    reason: str | None = None
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class ExpireHold(NamedTuple):
    """End a hold whose time has come."""

    command_id: str
    reply_key: str | None
    account_id: str
    hold_id: str
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class LockAccount(NamedTuple):
    """Let nobody else change the account for `lease` microseconds; with a `lock_token`, for so long from now on."""

    command_id: str
    reply_key: str | None
    account_id: str
    lease: int
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


class UnlockAccount(NamedTuple):
    """End a lock before its time."""

    command_id: str
    reply_key: str | None
    account_id: str
    token: int
    expected_version: int | None = None
    lock_token: int | None = None
    dry_run: bool = False


StatusCommand = OpenAccount | FreezeAccount | UnfreezeAccount | CloseAccount | ReopenAccount
"""A command on an account's own life."""

HoldCommand = PlaceHold | SettleHold | ReleaseHold | ExpireHold
"""A command on a hold."""

LockCommand = LockAccount | UnlockAccount
"""A command on a lock."""

AccountCommand = PostEntry | StatusCommand | HoldCommand | LockCommand
"""A command on one account."""


class PostBatch(NamedTuple):
    """Post entries to any accounts, all or none. The batch's id is the `command_id`."""

    command_id: str
    reply_key: str | None
    entries: Sequence[BatchEntry]
    balanced: bool = False
    reference: str | None = None
    metadata: str | None = None
    dry_run: bool = False


class ReverseBatch(NamedTuple):
    """Undo a posted batch by another one, whose id is the `command_id`.

    `locks` are those that the requester holds; of accounts that are not in the batch they do not matter.
    """

    command_id: str
    reply_key: str | None
    batch_id: str
    reason: str | None = None
    force: bool = False
    effective_at: int | None = None
    dry_run: bool = False
    locks: Sequence[LockToken] = ()


BatchCommand = PostBatch | ReverseBatch
"""A command on a batch."""

Command = AccountCommand | BatchCommand
"""Any command."""


def key_of(command: Command) -> str:
    """Return the key of the command's message, which decides its partition."""
    match command:
        case PostBatch():
            return command.command_id
        case ReverseBatch():
            return command.batch_id
        case _:
            return command.account_id


class ReserveBatch(NamedTuple):
    """Asks a partition to promise entries of a batch; `home` is the batch's own partition.

    `attempt` is the sequence of the batch's `BatchStarted`: an id that was refused for a lock may be tried again.
    """

    batch_id: str
    attempt: int
    home: int
    payload_hash: bytes
    legs: int
    forced: bool
    entries: Sequence[PlacedEntry]


class SettleBatch(NamedTuple):
    """Tells a partition to post what it has promised."""

    batch_id: str
    attempt: int
    home: int


class ReleaseBatch(NamedTuple):
    """Tells a partition to forget what it has promised."""

    batch_id: str
    attempt: int
    home: int


class ReportReservation(NamedTuple):
    """Tells the batch's partition what came of `ReserveBatch`; `code` is the broken rule, if one was."""

    batch_id: str
    attempt: int
    partition: int
    leg: int | None = None
    code: str = ""
    message: str = ""
    details: Mapping[str, str] = MappingProxyType({})


class ReportSettlement(NamedTuple):
    """Tells the batch's partition what came of `SettleBatch`."""

    batch_id: str
    attempt: int
    partition: int
    entries: Sequence[EntryResult]


class TryBatch(NamedTuple):
    """Asks a partition what its entries would come to: a dry run, which goes on from there until all are asked.

    `results` has those of the partitions before; `command_offset` is that of the command in the partition `home`.
    """

    batch_id: str
    reply_key: str
    home: int
    command_offset: int
    payload_hash: bytes
    entries: Sequence[PlacedEntry]
    reference: str | None = None
    metadata: str | None = None
    reversal_of: str | None = None
    forced: bool = False
    results: Sequence[EntryResult] = ()


Step = ReserveBatch | SettleBatch | ReleaseBatch | ReportReservation | ReportSettlement | TryBatch
"""What handlers tell each other of a batch."""

COMMAND_TYPES: Final[tuple[type[Any], ...]] = get_args(Command)
"""Every type of command."""

STEP_TYPES: Final[tuple[type[Any], ...]] = get_args(Step)
"""Every type of step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What an operator decides.

    `asset_scales`: the decimals of each asset (18 where it is not named). `implicit_opening`: whether a first credit
    opens its account, with a floor of 0 and for every asset.
    """

    asset_scales: Mapping[str, int] = field(default_factory=dict)
    implicit_opening: bool = True

    def scale(self, asset: str) -> int:
        """Return how many decimals an amount of `asset` may have."""
        return self.asset_scales.get(asset, SCALE)
