"""Progress of fetching and starting, as plain values; how it is shown is the caller's business."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from partita.stack.errors import StackError


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of one part. `done` of `total` counts the step's own units; 0 of 0 when it has none."""

    part: str
    step: str
    done: int = 0
    total: int = 0


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """Tells the steps of one part to whoever listens. Its `stop` is set when nobody waits for the part any more."""

    part: str
    on_progress: OnProgress | None
    stop: Event

    def __call__(self, step: str, done: int = 0, total: int = 0) -> None:
        """Tell one step. Raises `StackError` if the work was given up meanwhile."""
        if self.stop.is_set():
            raise StackError(f"{self.part}: given up")
        if self.on_progress is not None:
            self.on_progress(Progress(part=self.part, step=step, done=done, total=total))
