"""How much memory this process has, and had at most."""

from pathlib import Path
from typing import NamedTuple

_KIB = 1024


class Memory(NamedTuple):
    """Resident memory in bytes: ``now``, and ``most`` since the program began."""

    now: int
    most: int


def memory() -> Memory:
    """Return the memory of this process, from ``/proc/self/status`` (see proc(5)).

    ``getrusage(2)`` would not do: its highest value is handed from a process to the one that it starts.
    """
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return Memory(*(int(fields[name].split()[0]) * _KIB for name in ("VmRSS", "VmHWM")))
