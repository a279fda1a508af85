"""How amounts, times, ids and metadata look in JSON, and how they are described.

What they must be is checked where the command is made (`partita.input`), so that a fault has the same code and the
same reason by whatever way it comes. Here is checked only what JSON makes possible: a number where a text is wanted.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, PlainSerializer, StrictInt, StrictStr, WithJsonSchema

_RFC_3339: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,6})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)
_TIME_EXAMPLE: Final = "2026-05-31T12:00:00.000000Z"


def plain_time(time: datetime) -> str:
    """Return a time as RFC 3339 has it, in UTC, with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time(value: object) -> datetime:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError(f"must be a time as in RFC 3339, with its zone and at most six decimals: {_TIME_EXAMPLE}")
    time = datetime.fromisoformat(value.upper())
    if not 1970 < time.year < 9999:  # so that no zone takes it out of what can be asked for
        raise ValueError("must be in the years 1971 to 9998")
    return time


def _segment(value: str) -> str:
    return unquote(value, errors="strict")


def _amount(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": r"^-?[0-9]{1,38}(\.[0-9]{1,18})?$", **schema})


def _moment(description: str) -> WithJsonSchema:
    examples = [_TIME_EXAMPLE]
    return WithJsonSchema({"type": "string", "format": "date-time", "description": description, "examples": examples})


def _text(description: str, longest: int, *examples: str) -> WithJsonSchema:
    limits = {"type": "string", "minLength": 1, "maxLength": longest}
    return WithJsonSchema({**limits, "description": description, "examples": [*examples]})


AmountOut = Annotated[
    Decimal,
    PlainSerializer(lambda value: f"{value:f}", return_type=str),
    _amount({"description": "Exact, in whole units of the asset, without exponent", "examples": ["12.5"]}),
]
TimeOut = Annotated[
    datetime,
    PlainSerializer(plain_time, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "description": "UTC, to the microsecond",
            "examples": [_TIME_EXAMPLE],
        }
    ),
]
Json = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "examples": [{"channel": "web"}]})]

AmountIn = Annotated[
    StrictStr,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^[0-9]{1,20}(\.[0-9]{1,18})?$",
            "description": "Greater than 0, as text: a JSON number is refused, since it may have been rounded",
            "examples": ["12.50"],
        }
    ),
]
FloorIn = Annotated[
    StrictStr,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(0|-[0-9]{1,20}(\.[0-9]{1,18})?)$",
            "description": "0, or less for a credit limit",
            "examples": ["-500"],
        }
    ),
]
TimeIn = Annotated[
    datetime,
    BeforeValidator(_time),
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "description": "RFC 3339, with its zone",
            "examples": [_TIME_EXAMPLE],
        }
    ),
]
AccountId = Annotated[StrictStr, _text("The account", 255, "alice")]
HoldId = Annotated[StrictStr, _text("The hold: the id of the command that placed it", 128, "till-7")]
BatchId = Annotated[StrictStr, _text("The batch: the id of the command that posted it", 128, "payroll-2026-05")]
AssetIn = Annotated[StrictStr, _text("What is counted; the ledger's default when not given", 64, "USD")]
Text = Annotated[StrictStr, WithJsonSchema({"type": "string", "maxLength": 1024})]
Version = Annotated[StrictInt, Field(ge=0, le=2**63 - 1)]

AccountSegment = Annotated[AccountId, BeforeValidator(_segment)]
HoldSegment = Annotated[HoldId, BeforeValidator(_segment)]
BatchSegment = Annotated[BatchId, BeforeValidator(_segment)]
Segment = Annotated[StrictStr, BeforeValidator(_segment)]
"""A part of a path. It comes as it was sent, so that what is percent-encoded in it, "/" too, is decoded here."""
