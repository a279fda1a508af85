"""Where a page ended, as a text that callers hand back and need not understand."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Final, Self

from projections.errors import InvalidCursor

_LONGEST: Final = 4096
_MOST_VERSIONS: Final = 2**63

Question = tuple[str | bool | None, ...]
"""What a page is of: what was asked for, and with which arguments."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """After `version` (of the account) among the answers to one question."""

    question: Question
    version: int

    def encode(self) -> str:
        """Return the cursor as URL-safe text."""
        data = json.dumps([*self.question, self.version]).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the cursor that `text` stands for; raises `InvalidCursor`."""
        try:
            data = text[:_LONGEST].encode("ascii")
            match json.loads(base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)):
                case [*question, int() as version] if (
                    all(isinstance(part, str | bool | None) for part in question)
                    and not isinstance(version, bool)
                    and 0 < version < _MOST_VERSIONS
                ):
                    return cls(tuple(question), version)
        except (ValueError, RecursionError, binascii.Error):
            pass  # the same answer as to a text of another shape
        raise InvalidCursor("it is no cursor of ours")

    def expect(self, question: Question) -> int:
        """Return the version to go on after, if this is a cursor of that question; raises `InvalidCursor`."""
        if self.question != question:
            raise InvalidCursor("it belongs to another account, or was got with other arguments")
        return self.version
