"""Starting one part until it answers, and stopping it. Owns the waiting and what is said when it is in vain."""

import time
from pathlib import Path
from signal import SIGKILL

from partita.stack import processes
from partita.stack.errors import StackError, UnhealthyError, failed_part, log_tail
from partita.stack.part import Part
from partita.stack.ports import await_free
from partita.stack.processes import Process
from partita.stack.programs import spawn
from partita.stack.progress import Teller
from partita.stack.site import Site, pid_file

_PORT_LIMIT_S = 10.0
_POLL_S = 0.1
_AGAIN_S = 0.5
_ADVICE = "Read the log, then run `partita stack up` again (`partita stack down --purge` to start from nothing)."


def start(site: Site, part: Part, tell: Teller) -> None:
    """Start a part unless it runs already, and wait until it answers. `StackError` with its log if it does not."""
    log = site.log(part.name)
    deadline = time.monotonic() + part.start_limit_s
    while True:
        since = log.stat().st_size if log.exists() else 0
        process = processes.recorded(site.pid_file(part.name))
        if process is None:
            tell("start")
            process = _spawn(site, part)
        if _answers(site, part, process, tell, deadline):
            tell("up", 1, 1)
            return
        said = log_tail(log, since=since)
        late, ended = time.monotonic() > deadline, not processes.alive(process)
        processes.end(process, how=SIGKILL, limit_s=0)
        if late or not any(text in said for text in part.passing):
            what = "ended while starting" if ended else f"does not answer after {part.start_limit_s:.0f} s"
            raise failed_part(part.name, what, log=log, said=said, advice=_ADVICE)
        time.sleep(_AGAIN_S)


def _spawn(site: Site, part: Part) -> Process:
    for key in part.ports:
        if not await_free(site.ports[key], limit_s=_PORT_LIMIT_S):
            raise StackError(
                f"{part.name}: its port {site.ports[key]} is used by another program; "
                "end that one, or let `partita stack up` choose another port"
            )
    ready = part.launch(site)
    return spawn(
        ready.argv, pid_file=site.pid_file(part.name), log=site.log(part.name), cwd=ready.cwd, user=ready.user
    )


def _answers(site: Site, part: Part, process: Process, tell: Teller, deadline: float) -> bool:
    """Wait until the part answers; False when its process has ended or the time is up."""
    while processes.alive(process) and time.monotonic() < deadline:
        try:
            part.probe(site)
        except UnhealthyError:
            if tell.stop.wait(_POLL_S):
                raise StackError(f"{part.name}: still starting; nobody waits for it any more") from None
        else:
            return processes.alive(process)
    return False


def stop(directory: Path, part: Part, *, kill: bool) -> None:
    """End the process that is on record for a part, by SIGKILL or as the part likes best, and forget it."""
    process = processes.recorded(pid_file(directory, part.name))
    if process is not None:
        processes.end(process, how=SIGKILL if kill else part.stop_signal, limit_s=part.stop_limit_s)
    pid_file(directory, part.name).unlink(missing_ok=True)
