"""The rules of the ledger: what each command does to an account. Pure.

Each function returns the event that the command becomes, or the rule that it breaks.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from commands.errors import (
    AccountAlreadyOpen,
    AccountIsClosed,
    AccountIsFrozen,
    AccountLocked,
    AccountNotClosed,
    AccountNotEmpty,
    AccountNotFound,
    AccountNotFrozen,
    AssetNotAllowed,
    BalanceOutOfRange,
    HoldExceeded,
    HoldNotExpired,
    HoldNotFound,
    InsufficientFunds,
    LockLost,
    Rejected,
)
from commands.types import (
    CloseAccount,
    ExpireHold,
    FreezeAccount,
    LockAccount,
    OpenAccount,
    PlaceHold,
    Policy,
    PostEntry,
    ReleaseHold,
    ReopenAccount,
    SettleHold,
    UnfreezeAccount,
    UnlockAccount,
)
from commands.validation import check_amount
from events.account import Account, Hold
from events.money import MAX_UNITS, to_decimal
from events.types import (
    AccountClosed,
    AccountFrozen,
    AccountOpened,
    AccountReopened,
    AccountStatus,
    AccountUnfrozen,
    EntryPosted,
    EntryType,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
    LockGranted,
    LockReleased,
)

Head = tuple[int, int, int, str, int, bytes, str, int]
"""The first fields of an account's event: sequence, writer epoch, recorded_at, ..., account id, version."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def locked_out(account: Account, account_id: str, token: int | None, recorded_at: int) -> Rejected | None:
    """Return why a command with this lock token is not taken at this time."""
    is_locked = account.locked_until > recorded_at
    if token is None:
        return AccountLocked(account_id, iso(account.locked_until)) if is_locked else None
    return None if is_locked and token == account.lock_token else LockLost(account_id, token)


def lock_account(command: LockAccount, head: Head, recorded_at: int) -> LockGranted:
    """Lock the account, which nobody else has locked; a lock that is renewed keeps its token."""
    token = head[-1] if command.lock_token is None else command.lock_token
    return LockGranted(*head, token, recorded_at + command.lease)


def unlock_account(account: Account, command: UnlockAccount, head: Head, recorded_at: int) -> LockReleased | Rejected:
    """End a lock."""
    return locked_out(account, command.account_id, command.token, recorded_at) or LockReleased(*head, command.token)


def post_entry(account: Account, command: PostEntry, head: Head, policy: Policy) -> EntryPosted | Rejected:
    """Credit or debit the account. Its first credit opens it, if the policy says so."""
    amount, asset = command.amount, command.asset
    balance = account.balance(asset)
    if fault := not_usable(account, command.account_id, asset, policy):
        return fault
    if command.entry_type is EntryType.DEBIT:
        if fault := not_covered(account, command.account_id, asset, amount):
            return fault
        balance -= amount
    else:
        if fault := no_room(account, command.account_id, asset, amount):
            return fault
        balance += amount
    return EntryPosted(
        *head,
        command.entry_type,
        amount,
        asset,
        balance,
        command.reference,
        command.metadata,
        command.effective_at,
    )


def not_usable(account: Account, account_id: str, asset: str, policy: Policy) -> Rejected | None:
    """Return why the account takes no entries and no holds of this asset."""
    if account.status is not AccountStatus.OPEN:
        if account.status is not None:
            return _not_open(account, account_id)
        if not policy.implicit_opening:
            return AccountNotFound(account_id)
    if account.assets and asset not in account.assets:
        return AssetNotAllowed(account_id, asset)
    return None


def _not_open(account: Account, account_id: str) -> Rejected | None:
    """Return why the account is not open; None when it is."""
    match account.status:
        case None:
            return AccountNotFound(account_id)
        case AccountStatus.FROZEN:
            return AccountIsFrozen(account_id)
        case AccountStatus.CLOSED:
            return AccountIsClosed(account_id, account.permanent)
        case AccountStatus.OPEN:
            return None


def no_room(account: Account, account_id: str, asset: str, amount: int) -> Rejected | None:
    """Return why `amount` may not be credited: a balance has 38 digits, what batches will credit included."""
    balance = account.balance(asset)
    if balance + amount <= MAX_UNITS - account.expected.get(asset, 0):
        return None
    return BalanceOutOfRange(account_id, asset, to_decimal(balance), to_decimal(amount))


def not_covered(
    account: Account, account_id: str, asset: str, amount: int, *, forced: bool = False
) -> Rejected | None:
    """Return why `amount` may not be taken or held; `forced` goes below the floor."""
    available = account.available(asset)
    if available is not None and not forced:
        if amount <= available:
            return _no_digits(account, account_id, asset, amount)
        return InsufficientFunds(account_id, to_decimal(available), to_decimal(amount), asset)
    return _no_digits(account, account_id, asset, amount)


def _no_digits(account: Account, account_id: str, asset: str, amount: int) -> Rejected | None:
    """Return why `amount` may not be taken or held, floor or not: balances, and what is held, have 38 digits."""
    held = account.held.get(asset, 0)
    if held + amount <= MAX_UNITS + min(account.balance(asset), 0):
        return None
    return BalanceOutOfRange(account_id, asset, to_decimal(account.balance(asset)), to_decimal(-amount))


def place_hold(account: Account, command: PlaceHold, head: Head, policy: Policy) -> HoldPlaced | Rejected:
    """Reserve funds: they stay in the balance and are not available any more."""
    amount, asset = command.amount, command.asset
    if fault := not_usable(account, command.account_id, asset, policy):
        return fault
    if fault := not_covered(account, command.account_id, asset, amount):
        return fault
    return HoldPlaced(
        *head,
        command.command_id,
        amount,
        asset,
        account.balance(asset),
        account.held.get(asset, 0) + amount,
        command.expires_at,
        command.reference,
        command.metadata,
    )


def settle_hold(
    account: Account, hold: Hold | None, command: SettleHold, head: Head, policy: Policy
) -> HoldSettled | Rejected:
    """Take what a hold reserves, or a part of it; the rest stays held."""
    if hold is None:
        return HoldNotFound(command.account_id, command.hold_id)
    if fault := _not_open(account, command.account_id):
        return fault
    amount = hold.amount if command.amount is None else command.amount
    if fault := check_amount(amount, hold.asset, policy):
        return fault
    if amount > hold.amount:
        return HoldExceeded(command.account_id, command.hold_id, to_decimal(hold.amount), to_decimal(amount))
    return HoldSettled(
        *head,
        command.hold_id,
        amount,
        hold.asset,
        hold.amount - amount,
        account.balance(hold.asset) - amount,
        account.held.get(hold.asset, 0) - amount,
        command.reference,
        command.metadata,
        command.effective_at,
    )


def release_hold(
    account: Account, hold: Hold | None, command: ReleaseHold | ExpireHold, head: Head, recorded_at: int
) -> HoldReleased | Rejected:
    """End a hold, of a frozen account too; `ExpireHold` only when its time has come by `recorded_at`."""
    if hold is None:
        return HoldNotFound(command.account_id, command.hold_id)
    expires = isinstance(command, ExpireHold)
    if expires and (hold.expires_at is None or recorded_at < hold.expires_at):
        return HoldNotExpired(command.account_id, command.hold_id, iso(hold.expires_at))
    return HoldReleased(
        *head,
        command.hold_id,
        hold.amount,
        hold.asset,
        account.balance(hold.asset),
        account.held.get(hold.asset, 0) - hold.amount,
        expires,
        command.reason if isinstance(command, ReleaseHold) else None,
    )


def iso(micros: int | None) -> str:
    """Return a time as ISO 8601; "never" for None."""
    return "never" if micros is None else (_EPOCH + timedelta(microseconds=micros)).isoformat()


def open_account(account: Account, command: OpenAccount, head: Head) -> AccountOpened | Rejected:
    """Open an account that nothing has happened to yet, and has promised no credit that it then could not take."""
    if account.status is not None or (command.assets and account.expected.keys() - {*command.assets}):
        return AccountAlreadyOpen(command.account_id)
    return AccountOpened(
        *head, command.floor, command.assets, command.account_type, command.reference, command.metadata
    )


def freeze_account(account: Account, command: FreezeAccount, head: Head) -> AccountFrozen | Rejected:
    """Freeze an open account."""
    return _not_open(account, command.account_id) or AccountFrozen(*head, command.reason)


def unfreeze_account(account: Account, command: UnfreezeAccount, head: Head) -> AccountUnfrozen | Rejected:
    """Unfreeze a frozen account."""
    if account.status is AccountStatus.FROZEN:
        return AccountUnfrozen(*head, command.reason)
    return _not_open(account, command.account_id) or AccountNotFrozen(command.account_id)


def close_account(account: Account, command: CloseAccount, head: Head) -> AccountClosed | Rejected:
    """Close an account, frozen or not, that has neither a balance nor a hold."""
    if account.status is not AccountStatus.FROZEN and (fault := _not_open(account, command.account_id)):
        return fault
    for asset in sorted({*account.balances, *account.held, *account.expected}):
        balance, held = account.balance(asset), account.held.get(asset, 0)
        if balance or held or asset in account.expected:
            return AccountNotEmpty(command.account_id, asset, to_decimal(balance), to_decimal(held))
    return AccountClosed(*head, command.permanent, command.reason)


def reopen_account(account: Account, command: ReopenAccount, head: Head) -> AccountReopened | Rejected:
    """Open a closed account again, unless it was closed for ever."""
    if account.status is not AccountStatus.CLOSED:
        return AccountNotFound(command.account_id) if account.status is None else AccountNotClosed(command.account_id)
    if account.permanent:
        return AccountIsClosed(command.account_id, permanent=True)
    return AccountReopened(*head, command.reason)
