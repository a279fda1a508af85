"""How much of the processors each process took: what tells which limit a number is near."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


def _seconds(pid: int) -> float:
    """Return the processor time of a process and all its threads so far."""
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it has ended meanwhile
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found


@dataclass(slots=True)
class CpuMeter:
    """Measures from its making on. `processes` maps a name to a pid; all but this one count with their children."""

    processes: Mapping[str, int]
    _began: float = field(default_factory=time.monotonic)
    _before: dict[str, dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._before = {name: self._now(pid) for name, pid in self.processes.items()}

    def _now(self, pid: int) -> dict[int, float]:
        children = [] if pid == os.getpid() else _children(pid)
        return {each: _seconds(each) for each in (pid, *children) if (Path("/proc") / str(each)).exists()}

    def shares(self) -> dict[str, float]:
        """Return, by name, how many processors each has kept busy: 0.5 is half of one."""
        elapsed = time.monotonic() - self._began
        return {
            name: round(
                sum(after - self._before[name].get(each, 0.0) for each, after in self._now(pid).items()) / elapsed, 2
            )
            for name, pid in self.processes.items()
        }
