"""An account as the log tells it: the fold of its events. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, assert_never

from events.types import AccountEvent, CommandRejected, EntryPosted


class Account(NamedTuple):
    """The state of one account after some events.

    `version` counts its entries; `balances` maps an asset to units of 10^-18.
    """

    version: int = 0
    balances: Mapping[str, int] = MappingProxyType({})

    def balance(self, asset: str) -> int:
        """Return the balance of `asset` in units; 0 when there has been no entry."""
        return self.balances.get(asset, 0)


NEW_ACCOUNT = Account()


def evolve(account: Account, event: AccountEvent) -> Account:
    """Return the account after `event`. Never validates: what is in the log has happened."""
    match event:
        case EntryPosted():
            balance = account.balance(event.asset) + event.change
            return Account(account.version + 1, {**account.balances, event.asset: balance})
        case CommandRejected():
            return account
        case _ as unreachable:
            assert_never(unreachable)
