"""Up, down, status: the stack as a whole and part by part. Owns the order of things; the parts own the details."""

import secrets
import shutil
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from threading import Event

from partita.stack import postgres, processes
from partita.stack.errors import StackError, UnhealthyError
from partita.stack.part import ALL_PARTS, Part, checked_names
from partita.stack.parts import PARTS
from partita.stack.ports import LOOPBACK, await_free, choose
from partita.stack.progress import OnProgress, Teller
from partita.stack.report import PartStatus, StackStatus, State
from partita.stack.running import start, stop
from partita.stack.site import Site, load, locked, log_file, make_directories, pid_file, save

_UP_LOCK_LIMIT_S = 1_800.0
_DOWN_LOCK_LIMIT_S = 60.0
_OLD_PORT_LIMIT_S = 3.0


def up(
    directory: Path,
    *,
    parts: Collection[str] = ALL_PARTS,
    cache: Path,
    on_progress: OnProgress | None = None,
) -> StackStatus:
    """Fetch and start the parts that are missing, side by side; return when every one of them answers.

    Harmless when all is up. `on_progress` is called from several threads. Raises `StackError` naming the parts
    that could not be fetched or started; the others stay up.
    """
    directory, names = directory.absolute(), checked_names(parts)
    make_directories(directory)
    with _lock(directory, _UP_LOCK_LIMIT_S):
        site = _prepared(directory, names, cache.absolute())

        def bring_up(part: Part, tell: Teller) -> None:
            if not processes.is_running(site.pid_file(part.name)):
                part.fetch(site.cache, tell)
            start(site, part, tell)

        _side_by_side(bring_up, names, on_progress)
    return status(directory)


def fetch(cache: Path, *, parts: Collection[str] = ALL_PARTS, on_progress: OnProgress | None = None) -> None:
    """Fetch what the parts need into the cache, side by side, without starting any. `StackError` if one fails."""

    def fetch_one(part: Part, tell: Teller) -> None:
        part.fetch(cache.absolute(), tell)
        tell("fetched", 1, 1)

    _side_by_side(fetch_one, checked_names(parts), on_progress)


def down(directory: Path, *, purge: bool = False) -> StackStatus:
    """End what `up` started, and nothing else; with `purge` also delete the data, logs and addresses.

    Harmless when nothing runs. Raises `StackError` if an `up` holds the directory for a minute.
    """
    directory = directory.absolute()
    if not directory.exists():
        return status(directory)
    with _lock(directory, _DOWN_LOCK_LIMIT_S):
        _side_by_side(lambda part, _: stop(directory, part, kill=False), ALL_PARTS, None)
        if purge:
            postgres.purge(directory)
            for place in ("data", "config", "logs", "run"):
                shutil.rmtree(directory / place, ignore_errors=True)
            (directory / "stack.json").unlink(missing_ok=True)
    return status(directory)


def status(directory: Path) -> StackStatus:
    """Ask every part how it is, side by side, within a few seconds. Starts and changes nothing."""
    directory = directory.absolute()
    site = load(directory)
    names = site.parts if site else ALL_PARTS
    with ThreadPoolExecutor(len(ALL_PARTS)) as pool:
        found = tuple(pool.map(lambda name: _part_status(directory, site, PARTS[name]), names))
    return StackStatus(directory=directory, parts=found, addresses=site.addresses if site else {})


def stop_part(directory: Path, part: str, *, kill: bool = False) -> StackStatus:
    """End one part, with `kill` by SIGKILL to all its processes at once. Its port and data stay its own."""
    directory, (name,) = directory.absolute(), checked_names([part])
    with _lock(directory, _DOWN_LOCK_LIMIT_S):
        stop(directory, PARTS[name], kill=kill)
    return status(directory)


def start_part(directory: Path, part: str) -> StackStatus:
    """Start one part that is down, on its own port and data, and return when it answers.

    Raises `StackError` if the stack was never up, the port has been taken, or the part does not come up.
    """
    directory, (name,) = directory.absolute(), checked_names([part])
    with _lock(directory, _DOWN_LOCK_LIMIT_S):
        site = load(directory)
        if site is None or name not in site.parts:
            raise StackError(f"{name}: not a part of the stack in {directory}; run `partita stack up` first")
        found = site
        _side_by_side(lambda part, tell: start(found, part, tell), [name], None)
    return status(directory)


def _lock(directory: Path, limit_s: float) -> AbstractContextManager[None]:
    busy = f"another `partita stack` command has been at work in {directory} for {limit_s:.0f} s; let it end first"
    return locked(directory / "lock", limit_s=limit_s, busy=busy)


def _prepared(directory: Path, names: tuple[str, ...], cache: Path) -> Site:
    """Load or make the stack's facts, so that every part asked for has ports and an address on record."""
    site = load(directory) or Site(directory=directory, cache=cache, password=secrets.token_urlsafe(18))
    ports = dict(site.ports)
    for name in names:
        keys = PARTS[name].ports
        if not processes.is_running(site.pid_file(name)):
            taken = [key for key in keys if key in ports and not await_free(ports[key], limit_s=_OLD_PORT_LIMIT_S)]
            wanted = [key for key in keys if key not in ports or key in taken]
            ports |= choose(wanted, directory=directory, taken=ports.values())
    asked = checked_names({*site.parts, *names})
    site = replace(site, cache=cache, ports=ports, parts=asked)
    addresses = {key: value for name in asked for key, value in PARTS[name].addresses(site).items()}
    site = replace(site, addresses=addresses)
    save(site)
    return site


def _side_by_side(
    work: Callable[[Part, Teller], None], names: Collection[str], on_progress: OnProgress | None
) -> None:
    """Do the work for every part at once; raise one `StackError` that tells every failure.

    When the caller is interrupted, the work is given up at its next step. Never in the caller's own thread: that
    may run an event loop, and some probes need one of their own.
    """
    failures = []
    stop_all = Event()
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        tellers = [Teller(part=name, on_progress=on_progress, stop=stop_all) for name in names]
        jobs = [pool.submit(work, PARTS[tell.part], tell) for tell in tellers]
        try:
            for job in as_completed(jobs):
                try:
                    job.result()
                except StackError as error:
                    failures.append(str(error))
        finally:
            stop_all.set()
    if failures:
        raise StackError("\n".join(failures))


def _part_status(directory: Path, site: Site | None, part: Part) -> PartStatus:
    process = processes.recorded(pid_file(directory, part.name))
    port = site.ports.get(part.ports[0]) if site else None
    state: State = "down"
    detail = "not running"
    if site and process:
        state, detail = _health(site, part)
    return PartStatus(
        name=part.name,
        state=state,
        pid=process.pid if process else None,
        address=f"{LOOPBACK}:{port}" if port else None,
        memory_mb=round(processes.memory_mb(process), 1) if process else 0.0,
        log=log_file(directory, part.name),
        detail=detail,
    )


def _health(site: Site, part: Part) -> tuple[State, str]:
    try:
        return "up", part.probe(site)
    except UnhealthyError as error:
        return "unhealthy", str(error)
