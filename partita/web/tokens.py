"""Bearer tokens: who may ask, and who may also write. They are in a file, and nowhere else."""

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from partita.web.errors import TokensUnusable

_SHORTEST: Final = 16
_RIGHTS: Final = {"read": False, "write": True}
_FORM: Final = f"NAME read|write TOKEN, with a token of {_SHORTEST} characters or more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whose token it is; `writes` says whether commands are taken from there."""

    name: str
    writes: bool


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens that are known, as hashes. None at all: whoever can connect may do everything."""

    callers: tuple[tuple[bytes, Caller], ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        return bool(self.callers)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the tokens in a file: a line for each, `NAME read|write TOKEN`; `#` begins a comment.

        Raises:
            TokensUnusable: the file can't be read, has a line that is none of these, or no token at all.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TokensUnusable(f"the tokens in {path} can't be read: {type(error).__name__}") from None
        callers = [_caller(line, number, path) for number, line in enumerate(lines, 1) if _says_something(line)]
        if not callers:
            raise TokensUnusable(f"there is no token in {path}: a line is {_FORM}")
        return cls(tuple(callers))

    def caller(self, authorization: str) -> Caller | None:
        """Return whose token the value of an `Authorization` header has; None when it has none that is known.

        How long it takes says nothing of how much of a token is right.
        """
        scheme, _, token = authorization.partition(" ")
        digest = _digest(token.strip())
        matches = [caller for known, caller in self.callers if hmac.compare_digest(known, digest)]
        return matches[0] if matches and scheme.lower() == "bearer" else None


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _caller(line: str, number: int, path: Path) -> tuple[bytes, Caller]:
    match line.split():
        case [name, right, token] if right in _RIGHTS and len(token) >= _SHORTEST and token.isascii():
            return _digest(token), Caller(name=name, writes=_RIGHTS[right])
        case _:
            raise TokensUnusable(f"line {number} of {path} is not {_FORM}", line=number)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
