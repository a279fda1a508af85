"""Time in periods of six lengths, so that a sum up to any moment is a sum of few rows. Pure.

A period of level n is 2^(10n) microseconds long: 1 µs, about 1 ms, 1 s, 18 minutes, 13 days, 36 years. Each but the
shortest holds 1,024 of the next level. What happened at a moment is added to one period of each level; what happened
up to a moment is found in the whole periods before it: of each level, those within the period of the next level in
which the moment is.
"""

from typing import Final, NamedTuple

LEVELS: Final = 6
_BITS: Final = 10
_EVER: Final = -(2**63)
"""No period has a lower number; those of the longest level are few."""


class Period(NamedTuple):
    """Period number `bucket` of `level`; numbers go up with time, and 1970 begins with 0."""

    level: int
    bucket: int


class Span(NamedTuple):
    """The periods of `level` from `first` to `last`; none when `last` is before `first`."""

    level: int
    first: int
    last: int


def periods_of(micros: int) -> list[Period]:
    """Return the periods that `micros` (microseconds since 1970) is in, one of each level."""
    return [Period(level, micros >> _BITS * level) for level in range(LEVELS)]


def spans_to(micros: int) -> list[Span]:
    """Return spans that hold every moment up to and with `micros`, each in one period, and none after it."""
    spans = [Span(0, _first_within(micros), micros)]
    for level in range(1, LEVELS):
        bucket = micros >> _BITS * level
        spans.append(Span(level, _EVER if level == LEVELS - 1 else _first_within(bucket), bucket - 1))
    return spans


def _first_within(bucket: int) -> int:
    """Return the first of the periods that are in the same longer one as `bucket`."""
    return bucket >> _BITS << _BITS
