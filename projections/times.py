"""Times of the log as PostgreSQL takes them: microseconds since 1970 to values and to text, exactly."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_EARLIEST: Final = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LATEST: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def timestamp(micros: int) -> datetime:
    """Return the aware datetime of `micros` microseconds since 1970, exactly.

    Raises:
        OverflowError: outside the years 1 to 9999.
    """
    return _EPOCH + timedelta(0, 0, micros)


def copied(micros: int) -> str:
    """Return `micros` microseconds since 1970 as COPY reads it; raises OverflowError as `timestamp`."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}+00"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(0, seconds)).isoformat()[:19]


def clipped(micros: int) -> int:
    """Return `micros`, or the first or last instant of the years 1 to 9999 when it is beyond them.

    For times that a requester chooses: they must not be able to stop the projection; the log keeps what was given.
    """
    return min(max(micros, _EARLIEST), _LATEST)
