"""What requests have in common: how long to wait, under which id, after which position."""

import re
import uuid
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query
from pydantic import BaseModel, ConfigDict, Field

from commands.errors import InvalidCommandId
from partita.web.backend import Backend, Served
from partita.web.errors import InvalidPreference
from partita.web.positions import decoded

DEFAULT_WAIT: Final = 10.0
_LEAST_WAIT: Final = 0.1
"""Seconds: enough for a command to leave. With less it might not be sent, and yet be told to be pending."""

_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([^\s\",;]*)", re.IGNORECASE)
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")

Prefer = Annotated[
    str | None,
    Header(
        description="`wait=SECONDS` (RFC 7240): how long to wait for the outcome, or for the tables to catch up. "
        "10 by itself; never longer than PARTITA_OUTCOME_TIMEOUT.",
        examples=["wait=2"],
    ),
]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="The command id, 1 to 128 visible ASCII characters. The same request under the same key is "
        "applied once, for ever. One is made and returned when none is given; then a repeat is another command.",
        examples=["invoice-7"],
    ),
]
MinPosition = Annotated[
    str | None,
    Header(
        alias="Partita-Min-Position",
        description="A Partita-Position that a response had: the answer is not older. Also as `min_position`.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a command is asked."""

    command_id: str
    wait: float
    dry_run: bool

    def options(self) -> dict[str, Any]:
        """Return it as the arguments of `LedgerEngine`."""
        return {"command_id": self.command_id, "timeout": self.wait, "dry_run": self.dry_run}


class CommandQuery(BaseModel):
    """What the query of a command may have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dry_run: Annotated[
        bool, Field(description="Tell what would come of the command; change nothing, use up no key")
    ] = False


def _asking(
    backend: Served, query: Annotated[CommandQuery, Query()], key: Key = None, prefer: Prefer = None
) -> Asking:
    if key is not None and not _ID.fullmatch(key):
        raise InvalidCommandId("Idempotency-Key must be 1 to 128 visible ASCII characters")
    wait = max(_wait(prefer, backend), _LEAST_WAIT)
    return Asking(command_id=key or str(uuid.uuid4()), wait=wait, dry_run=query.dry_run)


Asked = Annotated[Asking, Depends(_asking)]


class Nothing(BaseModel):
    """The query of what takes no parameter."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ReadQuery(BaseModel):
    """What every question may have. Parameters that there are not are refused, lest a filter be misspelt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_position: Annotated[
        str | None,
        Field(description="A Partita-Position that a response had: the answer is not older"),
    ] = None


class PageQuery(ReadQuery):
    """What every list may have."""

    cursor: Annotated[
        str | None, Field(description="The `next_cursor` of the page before; all else must be as it was")
    ] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="Most of them on a page")] = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeing:
    """How new an answer must be, and how long to wait for that."""

    backend: Backend
    header: str | None
    wait: float

    async def caught_up(self, query: ReadQuery, projection: str | None = None) -> None:
        """Return when the tables of a projection have got to the position that is asked for, if one is.

        Raises:
            InvalidPosition: it is none of ours.
            ReadModelBehind: they have not, in time.
        """
        for text in (self.header, query.min_position):
            if text is not None:
                await self.backend.read_model.wait_for(decoded(text), self.wait, projection)


def _seeing(backend: Served, min_position: MinPosition = None, prefer: Prefer = None) -> Seeing:
    return Seeing(backend=backend, header=min_position, wait=_wait(prefer, backend))


Seen = Annotated[Seeing, Depends(_seeing)]


def _wait(prefer: str | None, backend: Backend) -> float:
    """Return the seconds that are preferred, within what is allowed."""
    if prefer is None or (found := _WAIT.search(prefer)) is None:
        return min(DEFAULT_WAIT, backend.longest_wait)
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", found[1]):
        raise InvalidPreference("Prefer: wait= is followed by seconds")
    return min(float(found[1]), backend.longest_wait)
