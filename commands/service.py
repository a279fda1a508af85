"""Keeping a handler running: a new log and a new handler after every loss, within bounds, until told to stop."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Final

from commands.handler import Handler, Turn
from events.errors import Fenced, LedgerError
from events.log import Log

log = logging.getLogger(__name__)

GIVE_UP_AFTER: Final = 300.0
"""Seconds without a committed command, or some time with nothing to restore, after which a failure is final."""

_FIRST_DELAY: Final = 0.2
_MOST_FENCED: Final = 5
"""Times in a row that a service joins again under a name that another seems to have, before it believes it."""

_LONGEST_DELAY: Final = 5.0
_SETTLED: Final = 30.0
"""Seconds after which a start has gone well when there is nothing to restore, commands and partitions or not."""


def serve(
    make_log: Callable[[], Log],
    make_handler: Callable[[Log], Handler],
    stop: threading.Event,
    *,
    on_turn: Callable[[Turn], None] | None = None,
    give_up_after: float = GIVE_UP_AFTER,
) -> None:
    """Handle commands until `stop` is set.

    Raises:
        LedgerError: one that starting over does not mend, or that it has not mended for `give_up_after` seconds.
    """
    healthy_at = time.monotonic()
    delay = _FIRST_DELAY
    fenced = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            for turn in _turns(make_log, make_handler, stop):
                settled = not turn.restoring and time.monotonic() - began > _SETTLED
                if turn.commands or settled:
                    healthy_at, delay = time.monotonic(), _FIRST_DELAY
                if settled:  # two that fence each other never get so far
                    fenced = 0
                if on_turn is not None:
                    on_turn(turn)
        except LedgerError as error:
            if isinstance(error, Fenced) and fenced < _MOST_FENCED:
                fenced += 1  # librdkafka can fence a static member by itself when its session ended: rejoin
            elif not error.retriable or time.monotonic() - healthy_at > give_up_after:
                raise
            log.warning("starting over from the log in %.1f s: %s", delay, error)
            stop.wait(delay)
            delay = min(2 * delay, _LONGEST_DELAY)


def _turns(
    make_log: Callable[[], Log], make_handler: Callable[[Log], Handler], stop: threading.Event
) -> Iterator[Turn]:
    ledger_log = make_log()
    with closing(ledger_log), closing(make_handler(ledger_log)) as handler:
        while not stop.is_set():
            yield handler.turn()
