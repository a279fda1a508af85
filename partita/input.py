"""What a caller passes in, as the command that it asks for. Pure: a fault is named before anything is sent.

A field is read by its name, so that an amount or a time means the same to every command.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, TypedDict, TypeVar

from commands.batch_validation import check_batch, check_batch_identity
from commands.errors import (
    InvalidAmount,
    InvalidAsset,
    InvalidCommand,
    InvalidEffectiveTime,
    InvalidEntryType,
    InvalidExpectedVersion,
    InvalidExpiry,
    InvalidFloor,
    InvalidLease,
    InvalidMetadata,
    Rejected,
)
from commands.types import BatchCommand, Command, Policy, PostEntry
from commands.validation import canonical_metadata, check_fields, check_identity
from events.money import NotAnAmount, to_units
from events.types import BatchEntry, EntryType
from partita.results import to_micros

C = TypeVar("C", bound=Command)


class Asking(TypedDict, total=False):
    """What every call that writes takes as well.

    `command_id` makes the call repeatable: the same id with the same payload gets the same result, with `replayed`
    set. A new one is made when none is given. `expected_version` refuses the command unless the account is at this
    version. `dry_run` tells what would come of the command, and changes nothing: the id is not used up. `timeout` is
    in seconds; the setting `outcome_timeout` when None.
    """

    command_id: str | None
    expected_version: int | None
    dry_run: bool
    timeout: float | None


class BatchAsking(TypedDict, total=False):
    """What a call that writes a batch takes as well; as in `Asking`. The `command_id` is the batch's id."""

    command_id: str | None
    dry_run: bool
    timeout: float | None


ENTRY_FIELDS: Final = frozenset(PostEntry._fields) - {"reply_key", "lock_token"}
BATCH_ENTRY_FIELDS: Final = frozenset(BatchEntry._fields) - {"lock_token"}
_NEEDED: Final = object()
_LONG: Final = 10**9
"""Seconds that no lease comes near."""


def command(kind: type[C], **fields: Any) -> C:
    """Return the command of this kind, checked as the handler will check it, save for what only the handler knows.

    Amounts are given as `Decimal`, plain text or `int`, times as aware `datetime`, metadata as a mapping.

    Raises:
        InvalidCommand: its subclass names the field.
    """
    made = kind(reply_key=None, **{name: _read(kind, name, value) for name, value in fields.items()})
    if fault := _fault(made):
        raise fault
    return made


def _fault(made: Command) -> Rejected | None:
    if not isinstance(made, BatchCommand):
        return check_identity(made) or check_fields(made, Policy())
    if fault := check_batch_identity(made):
        return fault
    leg, wrong = check_batch(made, Policy()) or (None, None)
    if wrong is not None and leg is not None:
        wrong.details["leg"] = leg
    return wrong


def batch_entries(items: Iterable[object], default_asset: str) -> tuple[BatchEntry, ...]:
    """Return the entries of a batch, each given as `entry_fields` takes it.

    Raises:
        InvalidCommand: its `details` have the number of the entry as `leg`.
    """
    made: list[BatchEntry] = []
    try:
        made.extend(_batch_entry(item, default_asset) for item in items)
    except InvalidCommand as fault:
        fault.details["leg"] = len(made)
        raise
    return tuple(made)


def _batch_entry(item: object, default_asset: str) -> BatchEntry:
    fields = {"asset": default_asset, **entry_fields(item, BATCH_ENTRY_FIELDS)}
    return BatchEntry(**{name: _read(BatchEntry, name, value) for name, value in fields.items()})


def _read(kind: type[Any], name: str, value: object) -> Any:
    read = _READERS.get(name)
    optional = value is None and kind._field_defaults.get(name, _NEEDED) is None
    return value if read is None or optional else read(value)


def entry_fields(item: object, known: Set[str] = ENTRY_FIELDS) -> dict[str, Any]:
    """Return the fields of an entry that is given as a mapping, or as any object with attributes of their names.

    Raises:
        InvalidCommand: a field is missing, or is none that an entry has.
    """
    if isinstance(item, Mapping):
        fields = dict(item)
    else:
        fields = {name: getattr(item, name) for name in known if hasattr(item, name)}
    if unknown := fields.keys() - known:
        raise InvalidCommand(f"an entry has no field {', '.join(sorted(map(repr, unknown)))}"[:200])
    if missing := {"account_id", "amount", "entry_type"} - fields.keys():
        raise InvalidCommand(f"the entry lacks {', '.join(sorted(missing))}")
    return fields


def _entry_type(value: object) -> EntryType:
    try:
        return EntryType(str(value).upper())
    except ValueError:
        raise InvalidEntryType(f"entry_type must be CREDIT or DEBIT, not {value!r}"[:200]) from None


def _amount(value: Any) -> int:
    try:
        return to_units(value)
    except NotAnAmount as error:
        raise InvalidAmount(f"amount: {error}") from None


def _floor(value: Decimal | str | int | None) -> int | None:
    """None is no floor."""
    try:
        return None if value is None else to_units(value)
    except NotAnAmount as error:
        raise InvalidFloor(f"floor: {error}") from None


def _assets(value: object) -> tuple[str, ...]:
    assets = tuple(value) if isinstance(value, Iterable) else (value,)
    if isinstance(value, str) or not all(isinstance(asset, str) for asset in assets):
        raise InvalidAsset("assets must be a list of texts")
    return assets


def _metadata(value: Mapping[str, Any]) -> str:
    if not isinstance(value, Mapping):
        raise InvalidMetadata(f"metadata must be a mapping, not {type(value).__name__}")
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMetadata(f"metadata can't be written as JSON: {error}") from None
    return canonical_metadata(text)


def _time(name: str, fault: type[InvalidCommand], value: object) -> int:
    if not isinstance(value, datetime):
        raise fault(f"{name} must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise fault(f"{name} has no time zone")
    return to_micros(value)


def _lease(value: object) -> int:
    """Seconds or a timedelta, as microseconds."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not abs(seconds) < _LONG:
        raise InvalidLease(f"lease must be seconds or a timedelta, not {value!r}"[:200])
    return round(seconds * 1_000_000)


def _version(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidExpectedVersion(f"expected_version must be an integer, not {type(value).__name__}")
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidCommand(f"{name} must be True or False, not {type(value).__name__}")
    return value


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "amount": _amount,
    "assets": _assets,
    "balanced": partial(_flag, "balanced"),
    "dry_run": partial(_flag, "dry_run"),
    "effective_at": partial(_time, "effective_at", InvalidEffectiveTime),
    "entry_type": _entry_type,
    "expected_version": _version,
    "expires_at": partial(_time, "expires_at", InvalidExpiry),
    "floor": _floor,
    "force": partial(_flag, "force"),
    "lease": _lease,
    "metadata": _metadata,
    "permanent": partial(_flag, "permanent"),
}
