"""Keeping a handler running: what is tried again, and for how long. The clock is the test's own."""

import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from commands import service
from commands.handler import Turn
from commands.service import GIVE_UP_AFTER, serve
from events.errors import Fenced, LedgerError, LogCorrupt
from events.log import LogLost

MINUTE = 60.0
Story = Callable[[], Iterator[Turn]]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Stop(threading.Event):
    """Waiting takes the clock's time, not ours."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now += timeout or 0
        return self.is_set()


class Log:
    closed = 0

    def close(self) -> None:
        Log.closed += 1


class Handler:
    """Turns as a story tells."""

    closed = 0

    def __init__(self, story: Iterator[Turn]) -> None:
        self._story = story

    def turn(self) -> Turn:
        return next(self._story)

    def close(self) -> None:
        Handler.closed += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(service, "time", clock)
    return clock


def serve_stories(clock: Clock, *stories: Story) -> int:
    """Serve one story a start, and stop at the beginning of the one after the last; return the starts."""
    stop, starts = Stop(clock), 0

    def make_handler(_: Any) -> Any:
        nonlocal starts
        starts += 1
        if starts > len(stories):
            stop.set()
            return Handler(iter(()))
        return Handler(stories[starts - 1]())

    serve(cast(Any, Log), make_handler, stop)
    return starts


def turns(clock: Clock, turn: Turn, *, seconds: float, then: LedgerError) -> Story:
    def story() -> Iterator[Turn]:
        end = clock.now + seconds
        while clock.now < end:
            clock.now += 0.5
            yield turn
        raise then

    return story


def test_every_log_and_handler_is_closed_and_new_ones_made(clock: Clock) -> None:
    logs, handlers = Log.closed, Handler.closed
    lost = turns(clock, Turn(), seconds=1, then=LogLost("lost"))
    assert serve_stories(clock, lost, lost, lost) == 4
    assert (Log.closed - logs, Handler.closed - handlers) == (4, 4)


def test_what_starting_over_does_not_mend_is_final(clock: Clock) -> None:
    with pytest.raises(LogCorrupt):
        serve_stories(clock, turns(clock, Turn(), seconds=1, then=LogCorrupt("a gap")))


def test_it_gives_up_when_it_never_gets_anywhere(clock: Clock) -> None:
    restoring = turns(clock, Turn(restoring=6), seconds=100, then=LogLost("no progress"))
    with pytest.raises(LogLost):
        serve_stories(clock, *[restoring] * 10)
    assert GIVE_UP_AFTER < clock.now < GIVE_UP_AFTER + 2 * MINUTE


@pytest.mark.parametrize("turn", [Turn(), Turn(ready=6), Turn(commands=1, ready=6)], ids=["spare", "idle", "busy"])
def test_a_long_good_time_is_not_held_against_it(clock: Clock, turn: Turn) -> None:
    """A spare handler, of which there are more than partitions, is well too."""
    long = turns(clock, turn, seconds=60 * MINUTE, then=LogLost("the broker was restarted"))
    assert serve_stories(clock, long, long) == 3


def test_being_fenced_now_and_then_is_not_added_up_for_ever(clock: Clock) -> None:
    day = turns(clock, Turn(ready=6, commands=9), seconds=10 * MINUTE, then=Fenced("fenced"))
    assert serve_stories(clock, *[day] * 20) == 21


def test_two_of_one_name_do_not_fence_each_other_for_ever(clock: Clock) -> None:
    moment = turns(clock, Turn(ready=6, commands=9), seconds=5, then=Fenced("fenced"))
    with pytest.raises(Fenced):
        serve_stories(clock, *[moment] * 20)
    assert clock.now < 2 * MINUTE
