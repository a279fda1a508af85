"""What can be wrong with a request before anybody is asked anything, as errors like all others."""

from collections.abc import Sequence

from events.errors import LedgerError


class RequestRefused(LedgerError):
    """The request can't be served; the subclass says why. Nothing was changed."""


class InvalidRequest(RequestRefused):
    """A field or parameter is missing, is none that there is, or is not what it must be; `errors` name them."""

    def __init__(self, errors: Sequence[str]) -> None:
        super().__init__("; ".join(errors), errors=list(errors))


class MalformedBody(RequestRefused):
    """The body is no JSON in UTF-8, names a field twice, or has a number that would be rounded."""


class InvalidPosition(RequestRefused):
    """The `min_position` is none that this API gave."""


class InvalidPreference(RequestRefused):
    """`Prefer: wait=` is not followed by seconds."""


class UnsupportedMediaType(RequestRefused):
    """The body is not announced as application/json."""


class BodyTooLarge(RequestRefused):
    """The body is larger than the API takes."""


class RequestTooSlow(RequestRefused):
    """The body did not come in time."""


class TooManyRequests(RequestRefused):
    """As many requests as the process takes at a time are being served."""

    retriable = True


class Unauthenticated(RequestRefused):
    """The request has no token, or none that is known."""


class ForbiddenToToken(RequestRefused):
    """The token may only read."""


class ForeignOrigin(RequestRefused):
    """A web page of somewhere else sent the command, or the request names a host that this is not."""


class PathNotFound(RequestRefused):
    """There is nothing at this path."""


class NoSuchTree(RequestRefused):
    """The partition has no tree of such sizes that a checkpoint was made of and held against the log."""

    def __init__(self, partition: int, newest: int) -> None:
        super().__init__(
            f"partition {partition} has checkpoints of up to {newest} events, and the old size is not above the new",
            partition=partition,
            newest=newest,
        )


class MethodNotAllowed(RequestRefused):
    """The path does not take this method."""


class ServerFault(LedgerError):
    """The API has a fault; what it met is in its log."""


class TokensUnusable(LedgerError):
    """The file of tokens can't be read, or a line of it is no name, right and token."""


class AddressUnusable(LedgerError):
    """The API can't listen where it is to."""


class UnsafeBinding(LedgerError):
    """The API moves money: without tokens it is served on the loopback interface only."""
