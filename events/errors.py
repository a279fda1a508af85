"""What can go wrong, for callers: every error has a stable `code`, `details` that are data, and `to_dict()`.

Here are the base and the errors of the log's own surroundings. The rules a command can break are in
`commands.errors`, what a reader can meet is in `projections.errors`; `partita` exports those that a caller can meet.
"""

from decimal import Decimal
from typing import Any, ClassVar


def plain(value: object) -> str:
    """Return `value` as text, a Decimal without exponent: "0.0000001", not "1E-7"."""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


class LedgerError(Exception):
    """Any error that Partita raises on purpose.

    `code` is stable and equals the class name; `details` holds what the rule saw, by name; `retriable` says whether
    the same call can succeed later without a change.
    """

    retriable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def code(self) -> str:
        """The name of the error, for programs."""
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON-ready data."""
        details = {
            key: value if isinstance(value, int | None) else plain(value) for key, value in self.details.items()
        }
        return {"error": self.code, "message": self.message, "details": details, "retriable": self.retriable}


class BrokerUnavailable(LedgerError):
    """Kafka did not answer in time, or refused."""

    retriable = True


class RegistryUnavailable(LedgerError):
    """The Schema Registry did not answer in time, or answered with a failure of its own."""

    retriable = True


class SchemaIncompatible(LedgerError):
    """The registry refuses a schema because it does not go with the versions before it."""


class PartitionCountMismatch(LedgerError):
    """A topic has another number of partitions than the ledger was created with."""


class TopicMissing(LedgerError):
    """A topic of the ledger does not exist yet: the handler creates it when it starts."""

    retriable = True


class UnsafeTopic(LedgerError):
    """A topic that must keep everything for ever is set to delete or compact."""


class LogCorrupt(LedgerError):
    """The log broke its promise: a gap, a duplicate, an event that is no event, a writer that was fenced."""


class Fenced(LedgerError):
    """Another process goes by the same instance name and has taken over."""


class GroupSettingsRefused(LedgerError):
    """Kafka does not allow what the group needs in the consumer protocol: a short session."""


class CommandsExpired(LedgerError):
    """Commands were deleted by retention before they were handled."""
