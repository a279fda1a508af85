"""A broken rule, from error to event and back."""

from collections.abc import Mapping
from decimal import Decimal
from inspect import signature
from typing import Any, ClassVar, Final

from commands import errors
from commands.errors import Rejected
from events.errors import plain
from events.types import BatchRejected, CommandRejected

_RULES: Final[dict[str, type[Rejected]]] = {
    name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, Rejected)
}
_INTEGERS: Final = frozenset({"expected", "actual", "partition", "token"})
_DECIMALS: Final = frozenset({"available", "requested", "balance", "held", "remaining", "debits", "credits"})
_BOOLEANS: Final = frozenset({"permanent"})


def details_of(error: Rejected) -> dict[str, str]:
    """Return the error's details as the event carries them: text by name."""
    return {name: plain(value) for name, value in error.details.items()}


def from_event(event: CommandRejected | BatchRejected) -> Rejected:
    """Return the error that the event stands for; one that this version does not know is a plain `Rejected`.

    If it was one entry of a batch that broke the rule, its number is among the details as `leg`.
    """
    details = {name: _typed(name, text) for name, text in event.details.items()}
    if isinstance(event, BatchRejected) and event.leg is not None:
        details["leg"] = event.leg
    cls = _RULES.get(event.code)
    known = signature(cls).parameters if cls else {}
    if cls is None or known.keys() - details.keys():
        return _Unknown(event.code, event.message, details)
    error = cls(**{name: details[name] for name in known})
    error.details.update(details)  # a newer handler may tell more
    return error


def _typed(name: str, text: str) -> Any:
    if name in _INTEGERS:
        return int(text)
    if name in _BOOLEANS:
        return text == "True"
    return Decimal(text) if name in _DECIMALS else text


class _Unknown(Rejected):
    """A rejection by a rule that is newer than this client."""

    retriable: ClassVar[bool] = False

    def __init__(self, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(message, **details)
        self._code = code

    @property
    def code(self) -> str:
        return self._code
