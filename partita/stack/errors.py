"""What goes wrong with the local stack, told so that the reader knows which part it was and what to do."""

from pathlib import Path

_TAIL_LINES = 15
_TAIL_BYTES = 16_384


class StackError(Exception):
    """A part could not be fetched, started or stopped; the text says which, shows its log and what to do next."""


class UnhealthyError(Exception):
    """A part does not answer as it should (yet). Internal: callers see it as a state, or as a `StackError`."""


def log_tail(log: Path, *, since: int = 0) -> str:
    """Return the last lines of a log, at most those after the byte `since`; empty if there are none."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(since, log.stat().st_size - _TAIL_BYTES))
            text = handle.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def failed_part(part: str, what: str, *, log: Path, said: str, advice: str) -> StackError:
    """Build the error for one part: what happened, the end of its log, and what to do."""
    indented = "\n".join(f"    {line}" for line in (said or "(nothing)").splitlines())
    return StackError(f"{part}: {what}; the last it wrote to {log}:\n{indented}\n  {advice}")
