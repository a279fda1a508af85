"""The services as processes of the demo: started, killed, started again, and told to end."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SERVICES: Final = ("handler", "balances")
_ENDING: Final = 30.0


@dataclass(slots=True)
class Services:
    """Runs `partita run NAME` for each service, with its log in `logs`."""

    environment: dict[str, str]
    logs: Path
    _running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start the service; its output is appended to its log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.log").open("ab") as output:
            self._running[name] = subprocess.Popen(  # noqa: S603  # ourselves
                [sys.executable, "-m", "partita", "run", name],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # an interrupt of the terminal reaches the demo, which ends them in order
            )

    def kill(self, name: str) -> None:
        """End the service as a crash would: SIGKILL."""
        process = self._running.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def pids(self) -> dict[str, int]:
        """Return the process id of each service."""
        return {name: process.pid for name, process in self._running.items()}

    def ended(self) -> dict[str, int]:
        """Return the exit status of each service that has ended by itself."""
        return {name: process.returncode for name, process in self._running.items() if process.poll() is not None}

    def stop(self) -> dict[str, int]:
        """End the services in order, and return their exit statuses."""
        for process in self._running.values():
            process.terminate()
        return {name: _wait(process) for name, process in self._running.items()}


def _wait(process: "subprocess.Popen[bytes]") -> int:
    try:
        return process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
