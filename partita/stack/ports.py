"""Free loopback ports that stay free: outside the range from which the kernel takes ports for clients.

A port of that range may be taken by any outgoing connection while a part is down (even by a client that tries to
reach this very part), and the part could then not come back on its port.
"""

import socket
import time
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from partita.stack.errors import StackError

LOOPBACK = "127.0.0.1"
_LOWEST, _HIGHEST = 15_000, 32_000
_CLIENT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_POLL_S = 0.05


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of the loopback address now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True


def await_free(port: int, *, limit_s: float) -> bool:
    """Wait until a port is free; False if it is not within `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def choose(names: Collection[str], *, directory: Path, taken: Collection[int]) -> dict[str, int]:
    """Choose a free port for each name. Each stack searches from its own place, so that two don't collide."""
    free = (port for port in _candidates(directory) if port not in taken and is_free(port))
    chosen = dict(zip(names, free, strict=False))
    if len(chosen) < len(names):
        raise StackError(f"no free ports on {LOOPBACK} between {_LOWEST} and {_HIGHEST}")
    return chosen


def _candidates(directory: Path) -> Iterator[int]:
    low, high = (int(value) for value in _CLIENT_RANGE.read_text().split())
    ports = [port for port in range(_LOWEST, _HIGHEST) if not low <= port <= high]
    ports = ports or list(range(_LOWEST, _HIGHEST))
    start = zlib.crc32(str(directory).encode()) % len(ports)
    return iter(ports[start:] + ports[:start])
