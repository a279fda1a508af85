"""Processes known by pid and start time, so that a recycled pid is never taken for one of ours.

Reads and signals them. Standard library only and quick to import: finding a running stack needs it.
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_POLL_S = 0.03
_FAMILY_LIMIT_S = 2.0
_KILL_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process of this boot: `started` is in clock ticks since the boot."""

    pid: int
    started: int


def parse_record(text: str) -> tuple[str, Process]:
    """Read what a process wrote about itself: its boot and its line of /proc. `ValueError` if it is not whole."""
    boot, _, line = text.partition(" ")
    fields = line.rpartition(")")[2].split()
    if not text.endswith("\n") or len(fields) <= _STARTED:
        raise ValueError("not a whole record")
    return boot, Process(pid=int(line.partition(" ")[0]), started=int(fields[_STARTED]))


# Places after the command's name in /proc/<pid>/stat.
_STATE, _PARENT, _STARTED = 0, 1, 19


def _stat(pid: int) -> list[str] | None:
    """Return the fields after the command's name, None if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def this_process() -> Process:
    """Return the process that calls."""
    fields = _stat(os.getpid())
    assert fields is not None
    return Process(pid=os.getpid(), started=int(fields[_STARTED]))


def alive(process: Process) -> bool:
    """Tell whether this very process still runs. A zombie does not, once all of its threads have gone."""
    fields = _stat(process.pid)
    if fields is None or int(fields[_STARTED]) != process.started:
        return False
    return fields[_STATE] not in "ZX" or _threads(process.pid) > 1


def _threads(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0


def recorded(pid_file: Path) -> Process | None:
    """Return the running process that a pid file names; None if there is no file or the process has ended."""
    try:
        boot, process = parse_record(pid_file.read_text(errors="replace"))
    except (FileNotFoundError, ValueError):
        return None
    return process if boot == _BOOT_ID.read_text().strip() and alive(process) else None


def is_running(pid_file: Path) -> bool:
    """Tell whether the process that a pid file names still runs."""
    return recorded(pid_file) is not None


def end(process: Process, *, how: signal.Signals, limit_s: float) -> bool:
    """Ask a process to end, wait up to `limit_s` seconds, then kill it. Return whether it ended by itself.

    The descendants that it had are killed with it, or after it if they outlive it by more than a moment.
    """
    family = list(descendants(process))
    _signal(process, how)
    by_itself = _wait_gone([process], limit_s)
    if not by_itself:
        _signal(process, signal.SIGKILL)
    if how is signal.SIGKILL or not by_itself or not _wait_gone(family, _FAMILY_LIMIT_S):
        for child in family:
            _signal(child, signal.SIGKILL)
    _wait_gone([process, *family], _KILL_LIMIT_S)
    return by_itself


def _signal(process: Process, how: signal.Signals) -> None:
    if alive(process):
        try:
            os.kill(process.pid, how)
        except ProcessLookupError:
            return


def _wait_gone(processes: Sequence[Process], limit_s: float) -> bool:
    deadline = time.monotonic() + limit_s
    while any(alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def descendants(process: Process) -> Iterator[Process]:
    """Yield the children of a process and theirs, as they are now."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else None
        if fields is not None:
            child = Process(pid=int(entry.name), started=int(fields[_STARTED]))
            children.setdefault(int(fields[_PARENT]), []).append(child)
    waiting = [process]
    while waiting:
        for child in children.get(waiting.pop().pid, []):
            yield child
            waiting.append(child)


def memory_mb(process: Process) -> float:
    """Return the resident memory of a process and its descendants in MiB, shared pages counted once."""
    return sum(_memory_kb(member.pid) for member in (process, *descendants(process))) / 1024


def _memory_kb(pid: int) -> int:
    # Pss first: PostgreSQL's processes all map the same shared buffers, which Rss would count each time.
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            lines = Path(f"/proc/{pid}/{name}").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith(key):
                return int(line.split()[1])
    return 0
