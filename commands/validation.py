"""What a command must look like before any account is asked. Pure; the client and the handler both use it.

The limits also promise that whatever is accepted can be stored: PostgreSQL's text holds no NUL, its JSON no
unpaired surrogate and no number beyond its own.
"""

import json
from decimal import Decimal
from typing import Final, NoReturn

from commands.errors import (
    InvalidAccountId,
    InvalidAmount,
    InvalidAsset,
    InvalidCommandId,
    InvalidEffectiveTime,
    InvalidExpectedVersion,
    InvalidMetadata,
    InvalidReference,
    Rejected,
)
from commands.types import Policy, PostEntry
from events.money import MAX_UNITS, PRECISION, SCALE, decimals

MAX_COMMAND_ID: Final = 128
MAX_ACCOUNT_ID: Final = 255
MAX_ASSET: Final = 64
MAX_REFERENCE: Final = 1024
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 64
MAX_VERSION: Final = 2**63 - 1
MAX_TIME: Final = 253_402_300_799_999_999
"""The last microsecond of the year 9999."""


def check_identity(command: PostEntry) -> Rejected | None:
    """Return what is wrong with the ids that everything else is filed under."""
    if invalid := check_account_id(command.account_id):
        return invalid
    if fault := _identifier_fault(command.command_id, MAX_COMMAND_ID):
        return InvalidCommandId(f"command_id {fault}")
    if command.reply_key is not None and (fault := _identifier_fault(command.reply_key, MAX_COMMAND_ID)):
        return InvalidCommandId(f"reply_key {fault}")
    return None


def check_account_id(account_id: str) -> InvalidAccountId | None:
    """Return why no account can have this id, or None."""
    fault = _identifier_fault(account_id, MAX_ACCOUNT_ID)
    return InvalidAccountId(f"account_id {fault}") if fault else None


def check_fields(command: PostEntry, policy: Policy) -> Rejected | None:
    """Return the first field's fault, or None. Metadata has its own check, `canonical_metadata`."""
    if fault := _identifier_fault(command.asset, MAX_ASSET):
        return InvalidAsset(f"asset {fault}")
    if fault := _amount_fault(command.amount, command.asset, policy):
        return InvalidAmount(fault)
    if command.reference is not None and (fault := _text_fault(command.reference)):
        return InvalidReference(f"reference {fault}")
    if command.effective_at is not None and not 0 <= command.effective_at <= MAX_TIME:
        return InvalidEffectiveTime("effective_at is outside the years 1970 to 9999")
    if command.expected_version is not None and not 0 <= command.expected_version <= MAX_VERSION:
        return InvalidExpectedVersion("expected_version is negative or beyond 64 bits")
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


def canonical_metadata(text: str) -> str:
    """Return the JSON object in `text` with its keys sorted and no white space.

    Raises:
        InvalidMetadata: no JSON object, too large, nested too deep, with NUL or an unpaired surrogate in a string, or
            with a fraction of more digits than a double keeps: rounded, it would not be what was sent.
    """
    if len(text) > MAX_METADATA_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_METADATA_BYTES:
        raise InvalidMetadata(f"metadata is larger than {MAX_METADATA_BYTES} bytes")
    try:
        value = json.loads(text, parse_float=_exact_float, parse_constant=_refuse_constant)
        canonical = json.dumps(value, allow_nan=False, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        canonical.encode("utf-8")
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise InvalidMetadata(f"metadata is no JSON that can be kept: {error}"[:200]) from error
    if not isinstance(value, dict):
        raise InvalidMetadata(f"metadata must be a JSON object, not {type(value).__name__}")
    if canonical.count("{") + canonical.count("[") > MAX_METADATA_DEPTH and _is_deeper(value, MAX_METADATA_DEPTH):
        raise InvalidMetadata(f"metadata is nested deeper than {MAX_METADATA_DEPTH} levels")
    if "\\u0000" in canonical and _holds_nul(value):
        raise InvalidMetadata("metadata holds NUL in a string")
    return canonical


def _exact_float(text: str) -> float:
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
