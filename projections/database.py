"""Where the read model is, how it is connected to, and what PostgreSQL's errors mean to us."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg

from projections.errors import ReadModelUnavailable

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)
_SCHEMES: Final = ("postgresql", "postgres")
_UNREADABLE: Final = "an address that can't be read (postgresql://user:password@host:port/database, percent-encoded)"

LOST: Final = (
    OSError,  # refused, reset, timed out
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # used after it was closed
    asyncpg.InternalClientError,  # used between the server's last words and its hanging up
    asyncpg.OperatorInterventionError,  # shutdown, restart, cancelled
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.TransactionRollbackError,  # deadlock, serialization
)
"""Errors that can pass by themselves. A transaction that met one may be committed or not: positions tell."""

REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    ValueError,  # and those by which the client itself refuses a value
    OverflowError,
    TypeError,
)
"""Errors by which a row is refused: the same row would be refused again."""


KEEPALIVE: Final = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}
"""Settings of a session that holds a lock: that of one whose machine is gone must not be held for hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A ledger's read model: the database at `url` (never shown) and the PostgreSQL schema in it."""

    url: str = field(repr=False)
    schema: str = "ledger"
    connect_timeout: float = 5.0
    session: Mapping[str, str] = field(default_factory=dict)
    """PostgreSQL's settings for every connection that is made with `connect`."""

    def __post_init__(self) -> None:
        if not _SCHEMA.fullmatch(self.schema):
            raise ValueError(f"not a schema name (a-z, 0-9, _; at most 63): {self.schema[:80]!r}")

    @property
    def place(self) -> str:
        """Host, port and database, without user and password: for messages."""
        try:
            parts = urlsplit(self.url)
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return _UNREADABLE
        if parts.scheme not in _SCHEMES:  # without one, user and password would be taken for something else
            return _UNREADABLE
        return f"{parts.hostname or 'localhost'}{port}{parts.path}"

    async def connect(
        self, *, server_settings: Mapping[str, str] | None = None, **options: Any
    ) -> asyncpg.Connection:
        """Return a connection of one's own, made within `connect_timeout` seconds; options are those of asyncpg.

        Raises:
            ReadModelUnavailable: PostgreSQL does not answer, or does not let us in.
        """
        try:
            settings = {**self.session, **(server_settings or {})}
            return await asyncpg.connect(self.url, timeout=self.connect_timeout, server_settings=settings, **options)
        except (*LOST, asyncpg.PostgresError) as error:
            raise self.unavailable(error) from error
        except ValueError as error:
            raise self.unavailable(error) from None

    def unavailable(self, error: BaseException) -> ReadModelUnavailable:
        """Return the error that says where PostgreSQL was looked for and what it said."""
        match error:
            case asyncpg.UndefinedTableError() | asyncpg.InvalidSchemaNameError():
                message = f"there is no read model {self.schema!r} in {self.place}: has a projection been started?"
            case asyncpg.InvalidAuthorizationSpecificationError() | asyncpg.InvalidCatalogNameError():
                message = f"PostgreSQL at {self.place} does not let us in"
            case asyncpg.PostgresError() if not isinstance(error, LOST):
                message = f"PostgreSQL at {self.place} can't do it"
            case ValueError():
                message = f"PostgreSQL is to be at {self.place}"
            case _:
                message = f"PostgreSQL does not answer at {self.place}: is it up?"
        # What is said of an address that can't be read may hold a part of its password.
        said = "" if type(error) is ValueError else f": {error}"
        cause = f"{type(error).__name__}{said}"[:200]
        return ReadModelUnavailable(message, place=self.place, schema=self.schema, cause=cause)
