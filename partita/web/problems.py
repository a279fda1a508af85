"""Errors as RFC 9457 problems, and the status of each: one table, for those of the ledger and of the edge alike."""

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from commands import errors as commands
from events import checkpoint
from events import errors as events
from events.errors import LedgerError
from partita import receipting, settings
from partita.web import errors as web
from projections import errors as projections

MEDIA_TYPE: Final = "application/problem+json"

RETRY_AFTER: Final = 1
"""Seconds, told with every error that can pass by itself."""

STATUSES: Final[Mapping[type[LedgerError], int]] = {
    LedgerError: 500,
    # A rule of the ledger said no.
    commands.Rejected: 409,
    commands.InvalidCommand: 422,
    commands.BatchUnbalanced: 422,
    commands.AccountNotFound: 404,
    commands.HoldNotFound: 404,
    commands.BatchNotFound: 404,
    # Not there, not yet there, or not known.
    commands.OutcomeUnknown: 503,
    events.BrokerUnavailable: 503,
    events.RegistryUnavailable: 503,
    events.TopicMissing: 503,
    settings.NotConfigured: 503,
    projections.ReadModelUnavailable: 503,
    projections.ReadModelBehind: 503,
    projections.AccountNotInReadModel: 404,
    projections.BatchNotInReadModel: 404,
    projections.EntryNotFound: 404,
    projections.HoldNotInReadModel: 404,
    receipting.ReceiptNotReady: 503,
    checkpoint.KeyInvalid: 503,
    projections.InvalidCursor: 422,
    projections.InvalidPointInTime: 422,
    # The request itself.
    web.InvalidRequest: 422,
    web.InvalidPosition: 422,
    web.InvalidPreference: 422,
    web.MalformedBody: 400,
    web.UnsupportedMediaType: 415,
    web.BodyTooLarge: 413,
    web.RequestTooSlow: 408,
    web.TooManyRequests: 503,
    web.Unauthenticated: 401,
    web.ForbiddenToToken: 403,
    web.ForeignOrigin: 403,
    web.PathNotFound: 404,
    web.NoSuchTree: 404,
    web.MethodNotAllowed: 405,
}
"""An error has the status of its class, or of the nearest of its bases that is here."""


def status_of(kind: type[LedgerError]) -> int:
    """Return the HTTP status of an error of this class."""
    return next(STATUSES[base] for base in kind.__mro__ if base in STATUSES)


def title_of(kind: type[LedgerError]) -> str:
    """Return what an error of this class means, the same for all of its kind."""
    return " ".join((kind.__doc__ or kind.__name__).split("\n\n")[0].split())


def problem(error: LedgerError) -> dict[str, Any]:
    """Return the error as a problem; `details` are by name, amounts and times in them as text."""
    told = error.to_dict()
    details = {**told["details"], **({"errors": error.details["errors"]} if "errors" in error.details else {})}
    return {
        "type": f"/problems/{error.code}",
        "title": title_of(type(error)),
        "status": status_of(type(error)),
        "detail": error.message,
        "code": error.code,
        "details": details,
        "retriable": error.retriable,
    }


def refusal(error: LedgerError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that tells of the error."""
    told = problem(error)
    more = {"cache-control": "no-store", **(headers or {})}
    if error.retriable:
        more["retry-after"] = str(RETRY_AFTER)
    if isinstance(error, web.Unauthenticated):
        more["www-authenticate"] = "Bearer"
    body = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")  # half of a surrogate pair becomes a "?"
    return Response(body, told["status"], more, MEDIA_TYPE)
