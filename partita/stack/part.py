"""What a part of the stack is: how it is fetched, launched, probed and addressed. Owns the names of the parts."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from partita.stack.errors import StackError
from partita.stack.programs import User
from partita.stack.progress import Teller
from partita.stack.site import Site

CORE_PARTS: tuple[str, ...] = ("kafka", "registry", "postgres")
ALL_PARTS: tuple[str, ...] = (*CORE_PARTS, "immudb", "anvil")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A command that is ready to run: everything that it needs on disk is there."""

    argv: tuple[str, ...]
    cwd: Path
    user: User | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the stack.

    `launch` prepares the data directory (once) and returns the command. `probe` returns a short text when the
    part answers and raises `UnhealthyError` otherwise. `ports` are the keys of the site's ports that it listens on,
    the main one first. `passing` are texts in the log of a failed start after which the same start works
    a moment later (for instance while the last process of a killed predecessor is still going).
    """

    name: str
    ports: tuple[str, ...]
    fetch: Callable[[Path, Teller], None]
    launch: Callable[[Site], Launch]
    probe: Callable[[Site], str]
    addresses: Callable[[Site], Mapping[str, str]]
    stop_signal: Signals = Signals.SIGTERM
    start_limit_s: float = 120.0
    stop_limit_s: float = 20.0
    passing: tuple[str, ...] = ()


def checked_names(parts: Collection[str]) -> tuple[str, ...]:
    """Return the parts asked for in their fixed order; `StackError` if there are none or one is unknown."""
    unknown = sorted(set(parts) - set(ALL_PARTS))
    if unknown or not parts:
        what = f"unknown parts {', '.join(unknown)}" if unknown else "no parts asked for"
        raise StackError(f"{what}; the parts are {', '.join(ALL_PARTS)}")
    return tuple(name for name in ALL_PARTS if name in parts)
