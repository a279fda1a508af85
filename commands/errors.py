"""The rules that a command can break, and what a caller is told of a command.

A rule's error is a value before it is an exception: `decide` returns it, the event and the outcome carry its code
and details, and the client raises it again from them. So each is defined here, once.
"""

from collections.abc import Mapping
from decimal import Decimal
from inspect import signature
from typing import Any, ClassVar, Final

from events.errors import LedgerError, plain
from events.types import CommandRejected


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


class InsufficientFunds(Rejected):
    """The debit would take the balance below the account's floor."""

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
    """The command id was used before, with another payload."""

    def __init__(self, account_id: str, command_id: str) -> None:
        super().__init__(
            f"command id {command_id} was used on account {account_id} with another payload",
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


_REJECTIONS: Final[dict[str, type[Rejected]]] = {
    cls.__name__: cls
    for cls in (
        InvalidAmount,
        InvalidAccountId,
        InvalidCommandId,
        InvalidAsset,
        InvalidEntryType,
        InvalidReference,
        InvalidMetadata,
        InvalidEffectiveTime,
        InvalidExpectedVersion,
        InsufficientFunds,
        BalanceOutOfRange,
        VersionConflict,
        IdempotencyConflict,
        WrongPartition,
    )
}
_INTEGERS: Final = frozenset({"expected", "actual", "partition"})
_DECIMALS: Final = frozenset({"available", "requested", "balance"})


def details_of(error: Rejected) -> dict[str, str]:
    """Return the error's details as the event carries them: text by name."""
    return {name: plain(value) for name, value in error.details.items()}


def from_event(event: CommandRejected) -> Rejected:
    """Return the error that the event stands for; one that this version does not know is a plain `Rejected`."""
    details = {name: _typed(name, text) for name, text in event.details.items()}
    cls = _REJECTIONS.get(event.code)
    known = signature(cls).parameters if cls else {}
    if cls is None or known.keys() - details.keys():
        return _Unknown(event.code, event.message, details)
    error = cls(**{name: details[name] for name in known})
    error.details.update(details)  # a newer handler may tell more
    return error


def _typed(name: str, text: str) -> Any:
    if name in _INTEGERS:
        return int(text)
    return Decimal(text) if name in _DECIMALS else text


class _Unknown(Rejected):
    """A rejection by a rule that is newer than this client."""

    retriable: ClassVar[bool] = False

    def __init__(self, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message, **details)
        self._code = code

    @property
    def code(self) -> str:
        return self._code
