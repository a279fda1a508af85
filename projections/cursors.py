"""Where a page of entries ended, as a text that callers hand back and need not understand."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Final, Self

from projections.errors import InvalidCursor

_LONGEST: Final = 4096
_MOST_VERSIONS: Final = 2**63


@dataclass(frozen=True, slots=True)
class Cursor:
    """After `version` of a statement: of one account, in one order, of one asset or (None) of all."""

    account_id: str
    asset: str | None
    newest_first: bool
    version: int

    def encode(self) -> str:
        """Return the cursor as URL-safe text."""
        data = json.dumps([self.account_id, self.asset, self.newest_first, self.version]).encode()
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the cursor that `text` stands for; raises `InvalidCursor`."""
        try:
            data = text[:_LONGEST].encode("ascii")
            match json.loads(base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)):
                case [str() as account, str() | None as asset, bool() as newest_first, int() as version] if (
                    not isinstance(version, bool) and 0 < version < _MOST_VERSIONS
                ):
                    return cls(account, asset, newest_first, version)
        except (ValueError, RecursionError, binascii.Error):
            pass  # the same answer as to a text of another shape
        raise InvalidCursor("it is no cursor of ours")

    def expect(self, account_id: str, asset: str | None, *, newest_first: bool) -> int:
        """Return the version to go on after, if this is a cursor of that statement; raises `InvalidCursor`."""
        if (self.account_id, self.asset, self.newest_first) != (account_id, asset, newest_first):
            raise InvalidCursor("it belongs to a statement of another account, asset or order")
        return self.version
