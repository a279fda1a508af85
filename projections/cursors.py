"""Where a page ended, as a text that callers hand back and need not understand."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Final, Self

from projections.errors import InvalidCursor

_LONGEST: Final = 32_768
"""Some texts of 255 characters that JSON writes as twelve each, and one of 1,024."""

Question = tuple[str | bool | None, ...]
"""What a page is of: what was asked for, and with which arguments."""

Place = tuple[int | str, ...]
"""The values by which the answers are ordered, of the last answer on a page."""

Kinds = tuple[int | None, ...]
"""What a place must be, value by value: an integer of 0 up to so much, or a text (None)."""

VERSION: Final[Kinds] = (2**63 - 1,)
"""The place of what is ordered by the versions of an account."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """After `place` among the answers to one question."""

    question: Question
    place: Place

    def encode(self) -> str:
        """Return the cursor as URL-safe text."""
        data = json.dumps([self.question, self.place], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the cursor that `text` stands for; raises `InvalidCursor`."""
        try:
            data = text[:_LONGEST].encode("ascii")
            match json.loads(base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)):
                case [[*question], [*place]] if all(isinstance(part, str | bool | None) for part in question) and all(
                    isinstance(value, int | str) and not isinstance(value, bool) for value in place
                ):
                    return cls(tuple(question), tuple(place))
                case _:
                    pass  # refused below
        except (ValueError, RecursionError, binascii.Error):
            pass  # the same answer as to a text of another shape
        raise InvalidCursor("it is no cursor of ours")

    def expect(self, question: Question, kinds: Kinds = VERSION) -> Place:
        """Return the place to go on after, if this is a cursor of that question; raises `InvalidCursor`."""
        if self.question != question:
            raise InvalidCursor("it belongs to another question, or was got with other arguments")
        if len(self.place) != len(kinds) or not all(map(_is, self.place, kinds)):
            raise InvalidCursor("it is no cursor of ours")
        return self.place


def _is(value: int | str, most: int | None) -> bool:
    return isinstance(value, str) if most is None else isinstance(value, int) and 0 <= value <= most
