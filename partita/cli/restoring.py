"""Said on stderr while a handler reads its state from the log: a bar on a terminal, else a line now and then."""

import time
from collections.abc import Callable
from typing import Final, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_SILENT: Final = 1.0
"""Seconds: a handler that has its store is back before."""

_LINE_EVERY: Final = 5.0


class _Span(NamedTuple):
    """Offsets of one partition's events: where reading began, where it is, and where it ends."""

    first: int
    reached: int
    end: int


class RestoreReport:
    """Tells how far all partitions together have come, once restoring has taken a second. Counts log records."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._spans: dict[int, _Span] = {}
        self._began = 0.0
        self._told_at = 0.0
        self._bar: Progress | None = None

    def reached(self, partition: int, offset: int, end: int) -> None:
        """Take in that `offset` is reached, on the way to `end`. An earlier one than before: it is read anew."""
        if not self._spans:
            self._began = self._told_at = self._clock()
        first = min(offset, self._spans[partition].first) if partition in self._spans else offset
        self._spans[partition] = _Span(first, min(offset, end), end)
        if self._bar is not None or self._clock() - self._began >= _SILENT:
            self._tell()

    def end(self) -> None:
        """Nothing is being restored any more: say so, if all was read that was to be read."""
        took, (done, total) = self._clock() - self._began, self._counts()
        self.close()
        if took >= _SILENT and done == total > 0:
            self._console.print(f"restored from the log: {done:,} records in {took:,.1f} s")

    def close(self) -> None:
        """Take the bar away and begin anew."""
        self._spans.clear()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _counts(self) -> tuple[int, int]:
        """Return how many records were read, and how many there are."""
        spans = self._spans.values()
        return sum(span.reached - span.first for span in spans), sum(span.end - span.first for span in spans)

    def _tell(self) -> None:
        done, total = self._counts()
        if self._console.is_terminal:
            self._bar = self._bar or self._new_bar(total)
            self._bar.update(self._bar.task_ids[0], completed=done, total=total, refresh=True)
        elif (now := self._clock()) - self._told_at >= _LINE_EVERY:
            rate = done / (now - self._began)
            self._console.print(f"restoring from the log: {done:,} of {total:,} records, {rate:,.0f}/s")
            self._told_at = now

    def _new_bar(self, total: int) -> Progress:
        counts = TextColumn("{task.completed:,.0f} of {task.total:,.0f} records")
        columns = (TextColumn("restoring from the log"), BarColumn(), counts, TimeRemainingColumn())
        bar = Progress(*columns, console=self._console, transient=True)
        bar.add_task("", total=total)
        bar.start()
        return bar
