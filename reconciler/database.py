"""What the reconciler needs of a database. The project's own connects for projections, and is passed in by the front
door: the siblings don't import each other.
"""

from typing import Any, Protocol

from events.errors import LedgerError


class Database(Protocol):
    """A PostgreSQL database, and the schema in it for the tables here."""

    @property
    def schema(self) -> str:
        """The PostgreSQL schema."""

    async def connect(self, **options: Any) -> Any:
        """Return a connection of asyncpg's; raises a `LedgerError` if there is none to be had."""

    def unavailable(self, error: BaseException) -> LedgerError:
        """Return the error that says where PostgreSQL was looked for and what it said."""
