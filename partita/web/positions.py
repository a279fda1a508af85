"""Positions: how far of the log a reader must have got, as an opaque text that writes return and reads take."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Final

from partita.web.errors import InvalidPosition

_LONGEST: Final = 65_536
_MOST_PARTITIONS: Final = 1000
_LAST: Final = 2**63 - 1


def encoded(position: Mapping[int, int]) -> str:
    """Return a position (partition to sequence) as URL-safe text."""
    data = json.dumps([*sorted(position.items())], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: str) -> dict[int, int]:
    """Return the position that `text` stands for; raises `InvalidPosition`."""
    try:
        data = text[:_LONGEST].encode("ascii")
        found = json.loads(base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError, binascii.Error):
        found = None
    if not isinstance(found, list) or not all(map(_is_place, found)):
        raise InvalidPosition("the position is none that a response had in Partita-Position")
    return dict(found)


def _is_place(item: object) -> bool:
    match item:
        case [int() as partition, int() as sequence]:
            integers = bool not in (type(partition), type(sequence))  # true is an int too
            return integers and 0 <= partition < _MOST_PARTITIONS and 0 <= sequence <= _LAST
        case _:
            return False
