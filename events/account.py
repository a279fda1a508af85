"""Accounts and holds as the log tells them: the fold of its events. Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, assert_never

from events.types import (
    AccountClosed,
    AccountEvent,
    AccountFrozen,
    AccountOpened,
    AccountReopened,
    AccountStatus,
    AccountUnfrozen,
    BatchEntryPosted,
    CommandRejected,
    EntryPosted,
    EntryReleased,
    EntryReserved,
    EntryType,
    HoldEvent,
    HoldPlaced,
    HoldReleased,
    HoldSettled,
    LockEvent,
    LockGranted,
    LockReleased,
    Promise,
    StatusEvent,
)

Amounts = Mapping[str, int]
"""Units of 10^-18 by asset."""

_NONE: Amounts = MappingProxyType({})


class Account(NamedTuple):
    """The state of one account after some events.

    `version` counts its changes. No balance falls below `floor`; None is no floor. `assets`, if any, are the only
    ones that it may hold. `held` is what holds and batches reserve of the balances, `expected` what batches will
    credit; an asset of which there is nothing is not in them. `status` is None before the first change; `permanent`
    says that it was closed for ever. Before `locked_until`, in microseconds of recorded time, it takes only commands
    with `lock_token`.
    """

    version: int = 0
    balances: Amounts = _NONE
    held: Amounts = _NONE
    status: AccountStatus | None = None
    floor: int | None = 0
    assets: Sequence[str] = ()
    permanent: bool = False
    expected: Amounts = _NONE
    lock_token: int = 0
    locked_until: int = 0

    def balance(self, asset: str) -> int:
        """Return the balance of `asset` in units; 0 when there has been no entry."""
        return self.balances.get(asset, 0)

    def available(self, asset: str) -> int | None:
        """Return what may be debited or held of `asset` in units; None when there is no floor."""
        if self.floor is None:
            return None
        return self.balances.get(asset, 0) - self.held.get(asset, 0) - self.floor


NEW_ACCOUNT = Account()


class Hold(NamedTuple):
    """Funds reserved of one account: `amount` is what is still reserved, in units."""

    asset: str
    amount: int
    expires_at: int | None


def evolve(account: Account, event: AccountEvent) -> Account:
    """Return the account after `event`. Never validates: what is in the log has happened."""
    if isinstance(event, EntryPosted):  # nearly all, with the next
        return _moved(account, account, event)
    if isinstance(event, BatchEntryPosted):
        kept = promised(account, event.entry_type, event.asset, -event.amount) if event.reserved else account
        return _moved(account, kept, event)
    return (
        account
        if isinstance(event, CommandRejected)
        else _changed(account, event)._replace(version=account.version + 1)
    )


def _changed(  # noqa: C901  # a case for each event
    account: Account, event: HoldEvent | StatusEvent | LockEvent | Promise
) -> Account:
    match event:
        case HoldPlaced():
            return account._replace(held=_plus(account.held, event.asset, event.amount))
        case HoldSettled():
            balances = {**account.balances, event.asset: account.balance(event.asset) - event.amount}
            return account._replace(balances=balances, held=_plus(account.held, event.asset, -event.amount))
        case HoldReleased():
            return account._replace(held=_plus(account.held, event.asset, -event.amount))
        case EntryReserved():
            return promised(account, event.entry_type, event.asset, event.amount)
        case EntryReleased():
            return promised(account, event.entry_type, event.asset, -event.amount)
        case AccountOpened():
            return account._replace(status=AccountStatus.OPEN, floor=event.floor, assets=tuple(event.assets))
        case AccountFrozen():
            return account._replace(status=AccountStatus.FROZEN)
        case AccountUnfrozen() | AccountReopened():
            return account._replace(status=AccountStatus.OPEN)
        case AccountClosed():
            return account._replace(status=AccountStatus.CLOSED, permanent=event.permanent)
        case LockGranted():
            return account._replace(lock_token=event.token, locked_until=event.expires_at)
        case LockReleased():
            return account._replace(locked_until=0)
        case _ as unreachable:
            assert_never(unreachable)


def _moved(before: Account, kept: Account, event: EntryPosted | BatchEntryPosted) -> Account:
    """Return the account with its balance moved; `kept` is what is reserved of it after the event."""
    balances = {**before.balances, event.asset: before.balances.get(event.asset, 0) + event.change}
    status = before.status or AccountStatus.OPEN  # the first credit opens it
    return Account(before.version + 1, balances, kept.held, status, *kept[4:])


def promised(account: Account, entry_type: EntryType, asset: str, amount: int) -> Account:
    """Return the account with an entry of a batch promised; a negative `amount` takes a promise back."""
    if entry_type is EntryType.DEBIT:
        return Account(account.version, account.balances, _plus(account.held, asset, amount), *account[3:])
    return account._replace(expected=_plus(account.expected, asset, amount))


def _plus(amounts: Amounts, asset: str, change: int) -> Amounts:
    changed = {**amounts, asset: amounts.get(asset, 0) + change}
    if not changed[asset]:
        del changed[asset]
    return changed


def evolve_hold(hold: Hold | None, event: HoldEvent) -> Hold | None:
    """Return the hold after `event`; None when it is over. Never validates."""
    match event:
        case HoldPlaced():
            return Hold(event.asset, event.amount, event.expires_at)
        case HoldSettled():
            if hold is None or not event.remaining:
                return None
            return hold._replace(amount=event.remaining)
        case HoldReleased():
            return None
        case _ as unreachable:
            assert_never(unreachable)
