"""Commands of `partita` as processes that begin at once: forked from a process that has imported what they import.

To start an interpreter and to import takes a second of a processor, and the tests start hundreds of services. A
forked one is a process of its own all the same, with an environment and a log of its own. That the command itself
starts is what the tests of the command line see to.
"""

import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

# Not `partita.cli` itself: what it makes for a terminal must be made in the process whose terminal it is.
_IMPORTED: Final = (
    "pytest",  # else each imports it, since it is the main module
    "partita",
    "partita.anchors",
    "partita.services",
    "projections.migrate",
    "reconciler.web3_chain",
    "rich.progress",
    "rich.table",
    "typer",
    "tests.support.forked",
)
_FORKING: Final = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload([*_IMPORTED])


class Forked:
    """A running `partita ...`; it is as `subprocess.Popen` is."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], log_file: Path) -> None:
        self._process = _FORKING.Process(target=_run, args=(arguments, environment, log_file), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit status; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends, and return its exit status; raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("partita", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(arguments: Sequence[str], environment: Mapping[str, str], log_file: Path) -> None:
    log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    faulthandler.enable()  # one that is aborted says in its log where each of its threads was
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["partita", *arguments]
    from partita.cli import app  # noqa: PLC0415  # see above

    app()
