"""What a command must look like before any account is asked. Pure; the client and the handler both use it.

The limits also promise that whatever is accepted can be stored: PostgreSQL's text holds no NUL, its JSON no
unpaired surrogate and no number beyond its own.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Final, NoReturn, assert_never

from commands.errors import (
    InvalidAccountId,
    InvalidAccountType,
    InvalidAmount,
    InvalidAsset,
    InvalidCommandId,
    InvalidEffectiveTime,
    InvalidExpectedVersion,
    InvalidExpiry,
    InvalidFloor,
    InvalidHoldId,
    InvalidLease,
    InvalidMetadata,
    InvalidReason,
    InvalidReference,
    Rejected,
)
from commands.types import (
    AccountCommand,
    CloseAccount,
    Command,
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
from events.money import MAX_UNITS, PRECISION, SCALE, decimals

MAX_COMMAND_ID: Final = 128
MAX_ACCOUNT_ID: Final = 255
MAX_ASSET: Final = 64
MAX_ASSETS: Final = 100
MAX_ACCOUNT_TYPE: Final = 64

MAX_REFERENCE: Final = 1024
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 64
MAX_VERSION: Final = 2**63 - 1
LEAST_LEASE: Final = 1000
MOST_LEASE: Final = 3_600_000_000
"""Microseconds that a lock may last."""

MAX_TIME: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""


def check_identity(command: AccountCommand) -> Rejected | None:
    """Return what is wrong with the ids that everything else is filed under."""
    return check_account_id(command.account_id) or check_command_ids(command)


def check_command_ids(command: Command) -> InvalidCommandId | None:
    """Return what is wrong with the command's own id or its reply key."""
    if fault := _identifier_fault(command.command_id, MAX_COMMAND_ID):
        return InvalidCommandId(f"command_id {fault}")
    return None if command.reply_key is None else check_reply_key(command.reply_key)


def check_reply_key(reply_key: str) -> InvalidCommandId | None:
    """Return why no outcome can have this key, or None."""
    fault = _identifier_fault(reply_key, MAX_COMMAND_ID)
    return InvalidCommandId(f"reply_key {fault}") if fault else None


def check_batch_id(batch_id: str) -> InvalidCommandId | None:
    """Return why no batch can have this id, or None."""
    fault = _identifier_fault(batch_id, MAX_COMMAND_ID)
    return InvalidCommandId(f"batch_id {fault}") if fault else None


def check_account_id(account_id: str) -> InvalidAccountId | None:
    """Return why no account can have this id, or None."""
    fault = _identifier_fault(account_id, MAX_ACCOUNT_ID)
    return InvalidAccountId(f"account_id {fault}") if fault else None


def check_fields(command: AccountCommand, policy: Policy) -> Rejected | None:  # noqa: C901  # a case for each
    """Return the first field's fault, or None. Metadata has its own check, `canonical_metadata`."""
    version = command.expected_version
    if version is not None and not 0 <= version <= MAX_VERSION:
        return InvalidExpectedVersion("expected_version is negative or beyond 64 bits")
    match command:
        case PostEntry():
            return (
                check_asset(command.asset)
                or check_amount(command.amount, command.asset, policy)
                or check_reference(command.reference)
                or check_effective_time(command.effective_at)
            )
        case PlaceHold():
            return (
                check_asset(command.asset)
                or check_amount(command.amount, command.asset, policy)
                or _check_expiry(command.expires_at)
                or check_reference(command.reference)
            )
        case SettleHold():  # the amount is checked when the hold, and so its asset, is known
            return (
                _check_hold_id(command.hold_id)
                or check_reference(command.reference)
                or check_effective_time(command.effective_at)
            )
        case ReleaseHold():
            return _check_hold_id(command.hold_id) or check_reason(command.reason)
        case ExpireHold():
            return _check_hold_id(command.hold_id)
        case OpenAccount():
            return (
                _check_floor(command.floor)
                or _check_assets(command.assets)
                or _check_account_type(command.account_type)
                or check_reference(command.reference)
            )
        case FreezeAccount() | UnfreezeAccount() | CloseAccount() | ReopenAccount():
            return check_reason(command.reason)
        case LockAccount():
            if LEAST_LEASE <= command.lease <= MOST_LEASE:
                return None
            return InvalidLease("the lease must be between a millisecond and an hour")
        case UnlockAccount():
            return None
        case _ as unreachable:
            assert_never(unreachable)


def check_asset(asset: str) -> Rejected | None:
    """Return what is wrong with the name of an asset."""
    fault = _identifier_fault(asset, MAX_ASSET)
    return InvalidAsset(f"asset {fault}") if fault else None


def check_amount(units: int, asset: str, policy: Policy) -> Rejected | None:
    """Return what is wrong with an amount of `asset` in units."""
    fault = _amount_fault(units, asset, policy)
    return InvalidAmount(fault) if fault else None


def check_reference(reference: str | None) -> Rejected | None:
    """Return what is wrong with a reference."""
    if reference is not None and (fault := _text_fault(reference)):
        return InvalidReference(f"reference {fault}")
    return None


def check_reason(reason: str | None) -> Rejected | None:
    """Return what is wrong with a reason."""
    if reason is not None and (fault := _text_fault(reason)):
        return InvalidReason(f"reason {fault}")
    return None


def check_effective_time(micros: int | None) -> Rejected | None:
    """Return what is wrong with an effective time."""
    if micros is not None and not 0 <= micros <= MAX_TIME:
        return InvalidEffectiveTime("effective_at is outside the years 1970 to 9999")
    return None


def _check_expiry(micros: int | None) -> Rejected | None:
    if micros is not None and not 0 <= micros <= MAX_TIME:
        return InvalidExpiry("expires_at is outside the years 1970 to 9999")
    return None


def _check_hold_id(hold_id: str) -> Rejected | None:
    fault = _identifier_fault(hold_id, MAX_COMMAND_ID)
    return InvalidHoldId(f"hold_id {fault}") if fault else None


def _check_floor(floor: int | None) -> Rejected | None:
    if floor is None or -MAX_UNITS <= floor <= 0:
        return None
    return InvalidFloor("the floor must be 0 or less, of at most 38 digits: -500 for a credit limit of 500")


def _check_assets(assets: Sequence[str]) -> Rejected | None:
    if isinstance(assets, str) or len(assets) > MAX_ASSETS or len(set(assets)) < len(assets):
        return InvalidAsset(f"assets must be up to {MAX_ASSETS} different ones")
    return next((fault for asset in assets if (fault := check_asset(asset))), None)


def _check_account_type(account_type: str | None) -> Rejected | None:
    if account_type is not None and (fault := _identifier_fault(account_type, MAX_ACCOUNT_TYPE)):
        return InvalidAccountType(f"account_type {fault}")
    return None


def _identifier_fault(text: str, limit: int) -> str | None:
    if not isinstance(text, str):
        return f"is {type(text).__name__}, not text"  # type: ignore[unreachable]  # callers without types
    if not text:
        return "is empty"
    if len(text) > limit:
        return f"has {len(text)} characters, at most {limit} are allowed"
    return None if text.isprintable() else "holds characters that don't print"


def _amount_fault(units: int, asset: str, policy: Policy) -> str | None:
    if units <= 0:
        return "the amount must be greater than zero"
    if units > MAX_UNITS:
        return f"the amount has more than {PRECISION} digits ({PRECISION - SCALE} before the decimal point)"
    scale = policy.scale(asset)
    if scale < SCALE and units % 10 ** (SCALE - scale):
        return f"the amount has {decimals(units)} decimals, {asset} has {scale}"
    return None


def _text_fault(text: str) -> str | None:
    if not isinstance(text, str):
        return f"is {type(text).__name__}, not text"  # type: ignore[unreachable]  # callers without types
    if len(text) > MAX_REFERENCE:
        return f"has {len(text)} characters, at most {MAX_REFERENCE} are allowed"
    if "\0" in text:
        return "holds NUL"
    return "holds an unpaired surrogate" if not text.isascii() and _unpaired(text) else None


def _unpaired(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def canonical(command: AccountCommand) -> tuple[AccountCommand, Rejected | None]:
    """Return the command with its metadata in canonical form; or as it is, and what is wrong with them."""
    if not isinstance(command, PostEntry | OpenAccount | PlaceHold | SettleHold) or command.metadata is None:
        return command, None
    try:
        return command._replace(metadata=canonical_metadata(command.metadata)), None
    except InvalidMetadata as fault:
        return command, fault


def canonical_metadata(text: str) -> str:
    """Return the JSON object in `text` with its keys sorted and no white space.

    Raises:
        InvalidMetadata: no JSON object, too large, nested too deep, with NUL or an unpaired surrogate in a string, or
            with a fraction of more digits than a double keeps: rounded, it would not be what was sent.
    """
    if len(text) > MAX_METADATA_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_METADATA_BYTES:
        raise InvalidMetadata(f"metadata is larger than {MAX_METADATA_BYTES} bytes")
    try:
        value = json.loads(text, parse_float=exact_float, parse_constant=_refuse_constant)
        canonical = json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        size = len(canonical.encode("utf-8"))
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidMetadata(f"metadata is no JSON that can be kept: {error}"[:200]) from error
    if size > MAX_METADATA_BYTES:  # a number can be longer: 1e15
        raise InvalidMetadata(f"metadata in canonical form is larger than {MAX_METADATA_BYTES} bytes")
    if not isinstance(value, dict):
        raise InvalidMetadata(f"metadata must be a JSON object, not {type(value).__name__}")
    if canonical.count("{") + canonical.count("[") > MAX_METADATA_DEPTH and _is_deeper(value, MAX_METADATA_DEPTH):
        raise InvalidMetadata(f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels")
    if "\\u0000" in canonical and _holds_nul(value):
        raise InvalidMetadata("metadata holds NUL in a string")
    return canonical


def exact_float(text: str) -> float:
    """Return the JSON number in `text`; raises `ValueError` or `ArithmeticError` when a double can't keep it."""
    value = float(text)
    if Decimal(text) != Decimal(repr(value)):
        raise ValueError(f"{text[:40]} has more digits than a JSON number keeps: write it as text")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_deeper(value: object, levels: int) -> bool:
    match value:
        case dict():
            return levels == 0 or any(_is_deeper(item, levels - 1) for item in value.values())
        case list():
            return levels == 0 or any(_is_deeper(item, levels - 1) for item in value)
        case _:
            return False


def _holds_nul(value: object) -> bool:
    """Whether a string in `value`, whose depth has been checked, holds NUL."""
    match value:
        case str():
            return "\0" in value
        case dict():
            return any("\0" in key or _holds_nul(item) for key, item in value.items())
        case list():
            return any(_holds_nul(item) for item in value)
        case _:
            return False
