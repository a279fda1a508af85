"""`partita run handler | PROJECTION | web | reconciler | anchor | all`: the services, in the foreground."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from types import FrameType
from typing import Annotated, Any, Final

import typer

from commands.handler import Turn
from partita.cli.output import Exit, Json, err, errors_told, print_json
from partita.cli.restoring import RestoreReport
from partita.services import NOT_NEEDED, PROJECTIONS, project, run_handler, run_together, run_web
from partita.settings import Settings
from partita.wiring import Wiring
from projections.service import Progress

app = typer.Typer(help="Run a service in the foreground, until SIGTERM.", no_args_is_help=True)

Instance = Annotated[
    str | None, typer.Option(help="Its name in its group; by itself it takes the first that is free on this machine.")
]

_LINE: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_REPORT_EVERY: Final = 5.0
_STOPPING: Final = 30.0
_IN_ORDER: Final = frozenset({0, -signal.SIGTERM})
"""Statuses of a service that was told to stop; so early that it did not know how to, it is ended by the signal."""


class _Reporter:
    """Says on stderr how far a service has got, every few seconds while there is something to say."""

    def __init__(self, unit: str, *, as_json: bool) -> None:
        self._unit = unit
        self._as_json = as_json
        self.total = 0
        self._told = 0
        self._told_at = time.monotonic()

    def add(self, count: int) -> None:
        self.total += count
        now = time.monotonic()
        if self.total > self._told and now - self._told_at >= _REPORT_EVERY:
            rate = (self.total - self._told) / (now - self._told_at)
            err.print(f"{self.total:,} {self._unit}, {rate:,.0f}/s")
            self._told, self._told_at = self.total, now

    def end(self) -> None:
        if self._as_json:
            print_json({self._unit: self.total})


class _Lines(logging.Handler):
    """Writes log lines to stderr, above a progress bar when there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        err.print(self.format(record), markup=False, emoji=False)


@app.callback()
def _logging() -> None:
    logging.basicConfig(level=logging.INFO, format=_LINE, handlers=[_Lines()])
    for chatty in ("httpx", "httpx2", "alembic", "web3"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@app.command()
def handler(instance: Instance = None, json: Json = False) -> None:
    """Handle commands: check them, append events, tell outcomes. Creates topics and schemas that are missing."""
    reporter = _Reporter("commands", as_json=json)
    restoring = RestoreReport(err)

    def on_turn(turn: Turn) -> None:
        if not turn.restoring:
            restoring.end()
        reporter.add(turn.commands)

    with errors_told(as_json=json), closing(restoring):
        run_handler(Wiring(Settings()), instance=instance, on_turn=on_turn, on_restore=restoring.reached)
    reporter.end()


def _projection(name: str) -> Callable[..., None]:
    def run(instance: Instance = None, json: Json = False) -> None:
        reporter = _Reporter("events", as_json=json)

        def on_progress(progress: Progress) -> None:
            reporter.add(progress.events - reporter.total)

        with errors_told(as_json=json):
            asyncio.run(project(name, Wiring(Settings()), instance=instance, on_progress=on_progress))
        reporter.end()

    return run


for _name, _service in PROJECTIONS.items():
    app.command(_name, help=_service.help)(_projection(_name))


@app.command()
def web(json: Json = False) -> None:
    """Serve the HTTP API on PARTITA_WEB_HOST and PARTITA_WEB_PORT: questions and commands. /docs explains it."""
    logging.basicConfig(format=_LINE, force=True)  # a line for each request, without what a progress bar would need
    with errors_told(as_json=json):
        asyncio.run(run_web(Wiring(Settings())))


@app.command()
def anchor(json: Json = False) -> None:
    """Anchor new checkpoints on the chain every PARTITA_ANCHOR_EVERY seconds (PARTITA_ANCHOR_KEY_FILE)."""
    from partita.anchors import run_anchor_service  # noqa: PLC0415  # the other services need no chain

    with errors_told(as_json=json):
        asyncio.run(_until_told(lambda stop: run_anchor_service(Settings(), stop)))


@app.command()
def reconciler(json: Json = False) -> None:
    """Compare the chain with the ledger, for ever: PARTITA_CHAIN, PARTITA_EVM_RPC_URL, PARTITA_CHAIN_ADDRESSES."""
    from partita.reconciliation import run_reconciler_service  # noqa: PLC0415  # the other services need no chain

    reporter = _Reporter("blocks", as_json=json)

    def serve(stop: asyncio.Event) -> Coroutine[Any, Any, None]:
        return run_reconciler_service(Settings(), stop, lambda done: reporter.add(done.blocks))

    with errors_told(as_json=json):
        asyncio.run(_until_told(serve))
    reporter.end()


async def _until_told(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await serve(stop)


@app.command(name="all")
def run_all(json: Json = False) -> None:
    """Run every service, each in a process of its own; when one that the ledger needs ends, the others are stopped.

    The mirror is one of them when PARTITA_IMMUDB_HOST is set, the reconciler when PARTITA_EVM_RPC_URL is, and the
    anchors when there is a key for them too. When one of these ends, the others go on. It says on stderr which are
    started, and what the others lack.
    """
    told: list[int] = []
    _on_signals(lambda number, _: told.append(number))  # only noted: a service that is just begun is not left behind
    processes: dict[str, subprocess.Popen[bytes]] = {}
    statuses: dict[str, int] = {}
    with errors_told(as_json=json):
        settings = Settings()
    lacking = run_together(settings)
    wanted = [name for name, lacks in lacking.items() if lacks is None]
    err.print(f"starting {', '.join(wanted)}")
    for name, lacks in lacking.items():
        if lacks is not None:
            err.print(f"not {name}: {lacks} is not set")
    try:
        for name in wanted:
            if not told:
                processes[name] = subprocess.Popen([sys.executable, "-m", "partita", "run", name])  # noqa: S603  # ourselves
        _on_signals(_stop)
        while not told and (name := _next_to_end(processes)) in NOT_NEEDED:
            statuses[name] = processes[name].wait()
            del processes[name]
            err.print(f"{name} has ended with status {statuses[name]}; the others go on. Again: partita run {name}")
    except _Stop:
        pass
    statuses |= _end(processes)
    if json:
        print_json(statuses)
    if not _IN_ORDER.issuperset(statuses.values()):
        raise typer.Exit(Exit.FAILED)


def _next_to_end(processes: "dict[str, subprocess.Popen[bytes]]") -> str:
    """Wait until one of them has ended, and return which; its status is still to be asked for."""
    names = {process.pid: name for name, process in processes.items()}
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        if ended.si_pid in names:
            return names[ended.si_pid]
        os.waitpid(ended.si_pid, 0)  # another's, that was left to the first process of a container


class _Stop(Exception):
    """SIGTERM or SIGINT came."""


def _stop(_number: int, _frame: object) -> None:
    _on_signals(signal.SIG_IGN)
    raise _Stop


def _on_signals(action: "Callable[[int, FrameType | None], object] | signal.Handlers") -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, action)


def _end(processes: dict[str, "subprocess.Popen[bytes]"]) -> dict[str, int]:
    """Stop what still runs, and return the exit statuses by service."""
    _on_signals(signal.SIG_IGN)  # what they ask for is being done, and must not be interrupted
    for process in processes.values():
        process.terminate()
    statuses = {}
    for name, process in processes.items():
        try:
            statuses[name] = process.wait(_STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            statuses[name] = process.wait()
    return statuses
