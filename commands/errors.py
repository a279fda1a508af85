"""The rules that a command can break, and what a caller is told of a command.

A rule's error is a value before it is an exception: `decide` returns it, the event and the outcome carry its code
and details, and the client raises it again from them (`commands.rejections`). So each is defined here, once.
"""

from decimal import Decimal

from events.errors import LedgerError


class Rejected(LedgerError):
    """A command broke a rule and changed nothing. The same id gets the same answer, for ever."""


class InvalidCommand(Rejected):
    """A field of the command is not what it must be; the subclass says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, reason=reason)


class InvalidAmount(InvalidCommand):
    """The amount is no exact positive decimal of at most 38 digits with the decimals that its asset has."""


class InvalidAccountId(InvalidCommand):
    """The account id is empty, too long, or holds characters that don't print."""


class InvalidCommandId(InvalidCommand):
    """The command id is empty, too long, or holds characters that don't print."""


class InvalidAsset(InvalidCommand):
    """The asset is empty, too long, or holds characters that don't print."""


class InvalidEntryType(InvalidCommand):
    """The entry type is neither credit nor debit."""


class InvalidReference(InvalidCommand):
    """The reference is too long or not storable text."""


class InvalidMetadata(InvalidCommand):
    """The metadata is no JSON object, too large, or holds what a database can't."""


class InvalidEffectiveTime(InvalidCommand):
    """The effective time is naive, or outside the years 1970 to 9999."""


class InvalidExpectedVersion(InvalidCommand):
    """The expected version is negative or no integer."""


class InvalidFloor(InvalidCommand):
    """The floor is above zero, or no exact decimal of at most 38 digits."""


class InvalidAccountType(InvalidCommand):
    """The account type is too long, or holds characters that don't print."""


class InvalidHoldId(InvalidCommand):
    """The hold id is empty, too long, or holds characters that don't print."""


class InvalidExpiry(InvalidCommand):
    """The time of expiry is naive, or outside the years 1970 to 9999."""


class InvalidReason(InvalidCommand):
    """The reason is too long or not storable text."""


class InsufficientFunds(Rejected):
    """The debit or hold would take what is available below zero: balance, less what is held, less the floor."""

    def __init__(self, account_id: str, available: Decimal, requested: Decimal, asset: str = "") -> None:
        super().__init__(
            f"account {account_id} has {available:f} {asset} available, {requested:f} requested",
            account_id=account_id,
            asset=asset,
            available=available,
            requested=requested,
        )
        self.account_id, self.available, self.requested, self.asset = account_id, available, requested, asset


class BalanceOutOfRange(Rejected):
    """The credit would take the balance past 38 digits."""

    def __init__(self, account_id: str, asset: str, balance: Decimal, requested: Decimal) -> None:
        super().__init__(
            f"account {account_id} has {balance:f} {asset}: {requested:f} more does not fit into 38 digits",
            account_id=account_id,
            asset=asset,
            balance=balance,
            requested=requested,
        )


class AccountNotFound(Rejected):
    """The account was never opened."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"there is no account {account_id}: open it first", account_id=account_id)
        self.account_id = account_id


class AccountAlreadyOpen(Rejected):
    """The account was opened before, by a command or by its first credit."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} was opened before", account_id=account_id)
        self.account_id = account_id


class AccountIsFrozen(Rejected):
    """The account is frozen: it takes no entries and no holds."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} is frozen", account_id=account_id)
        self.account_id = account_id


class AccountIsClosed(Rejected):
    """The account is closed; `permanent`: for ever."""

    def __init__(self, account_id: str, permanent: bool) -> None:
        super().__init__(
            f"account {account_id} is closed{' for ever' if permanent else ''}",
            account_id=account_id,
            permanent=permanent,
        )
        self.account_id, self.permanent = account_id, permanent


class AccountNotFrozen(Rejected):
    """The account is open, so there is nothing to unfreeze."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} is not frozen", account_id=account_id)
        self.account_id = account_id


class AccountNotClosed(Rejected):
    """The account is not closed, so there is nothing to reopen."""

    def __init__(self, account_id: str) -> None:
        super().__init__(f"account {account_id} is not closed", account_id=account_id)
        self.account_id = account_id


class AccountNotEmpty(Rejected):
    """The account can't be closed: it has a balance or a hold in this asset."""

    def __init__(self, account_id: str, asset: str, balance: Decimal, held: Decimal) -> None:
        super().__init__(
            f"account {account_id} has {balance:f} {asset}, {held:f} of it held: only an empty account can be closed",
            account_id=account_id,
            asset=asset,
            balance=balance,
            held=held,
        )
        self.account_id, self.asset, self.balance, self.held = account_id, asset, balance, held


class AssetNotAllowed(Rejected):
    """The account was opened for other assets."""

    def __init__(self, account_id: str, asset: str) -> None:
        super().__init__(f"account {account_id} was not opened for {asset}", account_id=account_id, asset=asset)
        self.account_id, self.asset = account_id, asset


class HoldNotFound(Rejected):
    """The account has no such hold: there never was one, or it is over."""

    def __init__(self, account_id: str, hold_id: str) -> None:
        super().__init__(
            f"account {account_id} has no hold {hold_id}: there never was one, or it is over",
            account_id=account_id,
            hold_id=hold_id,
        )
        self.account_id, self.hold_id = account_id, hold_id


class HoldExceeded(Rejected):
    """More was to be settled than the hold reserves."""

    def __init__(self, account_id: str, hold_id: str, remaining: Decimal, requested: Decimal) -> None:
        super().__init__(
            f"hold {hold_id} of account {account_id} reserves {remaining:f}, {requested:f} requested",
            account_id=account_id,
            hold_id=hold_id,
            remaining=remaining,
            requested=requested,
        )
        self.account_id, self.hold_id, self.remaining, self.requested = account_id, hold_id, remaining, requested


class HoldNotExpired(Rejected):
    """The hold's time has not come; `expires_at` is in ISO 8601, "never" when the hold does not expire."""

    def __init__(self, account_id: str, hold_id: str, expires_at: str) -> None:
        super().__init__(
            f"hold {hold_id} of account {account_id} has not expired: it does so at {expires_at}",
            account_id=account_id,
            hold_id=hold_id,
            expires_at=expires_at,
        )
        self.account_id, self.hold_id, self.expires_at = account_id, hold_id, expires_at


class InvalidBatch(InvalidCommand):
    """The batch has no entries, too many, or too much text in them."""


class BatchUnbalanced(Rejected):
    """The batch was to be balanced, and its debits and credits of this asset differ."""

    def __init__(self, asset: str, debits: Decimal, credits: Decimal) -> None:  # noqa: A002  # the field's own word
        super().__init__(
            f"the batch debits {debits:f} {asset} and credits {credits:f}",
            asset=asset,
            debits=debits,
            credits=credits,
        )
        self.asset, self.debits, self.credits = asset, debits, credits


class BatchNotFound(Rejected):
    """There is no posted batch of this id that could be reversed: it was never posted, or is a reversal itself."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"there is no batch {batch_id} that can be reversed", batch_id=batch_id)
        self.batch_id = batch_id


class Refused(Rejected):
    """Not now: the refusal passes, is not recorded, and does not use up the command id."""

    retriable = True


class AccountLocked(Refused):
    """Somebody else has locked the account; `expires_at` is in ISO 8601."""

    def __init__(self, account_id: str, expires_at: str) -> None:
        super().__init__(
            f"account {account_id} is locked until {expires_at}", account_id=account_id, expires_at=expires_at
        )
        self.account_id, self.expires_at = account_id, expires_at


class LockLost(Refused):
    """The lock under which the command was given is over: it was released, or its time has passed."""

    retriable = False  # a lock that is over stays so: take it anew, and read again

    def __init__(self, account_id: str, token: int) -> None:
        super().__init__(f"lock {token} of account {account_id} is over", account_id=account_id, token=token)
        self.account_id, self.token = account_id, token


class InvalidLease(InvalidCommand):
    """The lease of a lock is shorter than a millisecond or longer than an hour."""


class VersionConflict(Rejected):
    """The account is at another version than the command expected."""

    def __init__(self, account_id: str, expected: int, actual: int) -> None:
        super().__init__(
            f"account {account_id} is at version {actual}, not {expected}",
            account_id=account_id,
            expected=expected,
            actual=actual,
        )
        self.account_id, self.expected, self.actual = account_id, expected, actual


class IdempotencyConflict(Rejected):
    """The command id was used before, with another payload; `account_id` is empty for a batch."""

    def __init__(self, account_id: str, command_id: str) -> None:
        where = f"on account {account_id}" if account_id else "for a batch"
        super().__init__(
            f"command id {command_id} was used {where} with another payload",
            account_id=account_id,
            command_id=command_id,
        )
        self.account_id, self.command_id = account_id, command_id


class WrongPartition(Rejected):
    """The command came to a partition that is not its account's: its producer does not partition by murmur2."""

    def __init__(self, account_id: str, partition: int, expected: int) -> None:
        super().__init__(
            f"account {account_id} belongs to partition {expected}, not {partition}: set the producer's partitioner "
            "to murmur2 (librdkafka: partitioner=murmur2_random)",
            account_id=account_id,
            partition=partition,
            expected=expected,
        )


class OutcomeUnknown(LedgerError):
    """The deadline passed before the outcome came. The command may yet be accepted or rejected, or may have been.

    Ask again with the same command id: a repeat is answered with the outcome of the first.
    """

    retriable = True

    def __init__(self, account_id: str, command_id: str, waited: float) -> None:
        super().__init__(
            f"no outcome of command {command_id} within {waited:.1f} s: it is not known whether it was accepted; "
            "ask again with the same command id",
            account_id=account_id,
            command_id=command_id,
            waited=waited,
        )
        self.account_id, self.command_id = account_id, command_id
