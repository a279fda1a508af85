"""The services as processes run them: set up what they need, serve until told to stop."""

import asyncio
import fcntl
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from commands.handler import Handler, Turn
from commands.service import serve
from events.errors import LedgerError
from events.log import Log
from partita.settings import Settings
from partita.wiring import Wiring
from projections.balances import BALANCES, Balances
from projections.mirror import MIRROR, ImmudbMirror
from projections.proofs.following import follow_checkpoints
from projections.proofs.projection import PROOFS, Proofs
from projections.rebuild.results import Rebuilt, Step
from projections.roles import Access
from projections.service import Progress, run_projection
from projections.snapshots.projection import SNAPSHOTS, Snapshots
from projections.store import Projection

log = logging.getLogger(__name__)

MOST_INSTANCES: Final = 64

GC_THRESHOLDS: Final = (100_000, 50, 100)
"""What the handler makes for a command stays or goes with its group, and nothing of it is in cycles.

So it is with what a rebuild makes of events.
"""


@dataclass(frozen=True, slots=True)
class Service:
    """How a projection is made from the wiring, in a thread, and what its command says of it."""

    open: Callable[[Wiring], AbstractContextManager[Projection[Any]]]
    help: str
    lacks: Callable[[Settings], str | None] = lambda _: None
    """What `partita run all` would need to run it and is not set; None: nothing."""
    beside: Callable[[Wiring, int, asyncio.Event, str], Coroutine[Any, Any, None]] | None = None
    """What runs in the same process until the event is set, given the partition count and the instance's name."""


@contextmanager
def _mirror(wiring: Wiring) -> Iterator[ImmudbMirror]:
    with closing(wiring.verified_database()) as immudb:
        immudb.catch_up()
        yield ImmudbMirror(immudb, wiring.topics.events)


def _checkpoints(wiring: Wiring, count: int, stop: asyncio.Event, instance: str) -> Coroutine[Any, Any, None]:
    return follow_checkpoints(
        wiring.clients,
        wiring.topics,
        wiring.database(Access.PROJECT),
        wiring.verifiers,
        origin=wiring.settings.origin,
        partition_count=count,
        stop=stop,
        instance=instance,
    )


PROJECTIONS: Final[Mapping[str, Service]] = {
    BALANCES: Service(
        lambda _: nullcontext(Balances()),
        "Project events into PostgreSQL: what every account has, and all that happened. Creates tables that are "
        "missing.",
    ),
    SNAPSHOTS: Service(
        lambda _: nullcontext(Snapshots()),
        "Project events into snapshots, which tell balances and a trial balance at any time. Creates tables that are "
        "missing.",
    ),
    PROOFS: Service(
        lambda _: nullcontext(Proofs()),
        "Keep what proves that an entry is in the log: the trees of the events, and every signed checkpoint, held "
        "against them. Receipts come from here. Creates tables that are missing.",
        beside=_checkpoints,
    ),
    MIRROR: Service(
        _mirror,
        "Mirror events into immudb, each transaction verified. Needs PostgreSQL too, where it keeps its positions.",
        lacks=lambda settings: None if settings.immudb_host is not None else "PARTITA_IMMUDB_HOST",
    ),
}
"""Each is `partita run NAME` and a group of its own."""

NOT_NEEDED: Final = frozenset({MIRROR, "reconciler", "anchor"})
"""Services that the ledger goes on without, since they need what others run: a mirror, a chain."""


def _lacks_key(settings: Settings) -> str | None:
    has_key = settings.anchor_key is not None or settings.anchor_key_file is not None
    return None if has_key else "PARTITA_ANCHOR_KEY_FILE"


def _lacks_node(settings: Settings) -> str | None:
    """Return what names the chain's node, unless it was given: the local stack's own is not a wish to use it."""
    return None if settings.evm_rpc_url is not None else "PARTITA_EVM_RPC_URL"


def run_together(settings: Settings) -> dict[str, str | None]:
    """Return the services of `partita run all`, each with the setting that it lacks to be one of them, or None."""
    return {
        "handler": None,
        **{name: service.lacks(settings) for name, service in PROJECTIONS.items()},
        "reconciler": _lacks_node(settings),
        "anchor": _lacks_node(settings) or _lacks_key(settings),
    }


class InstanceTaken(LedgerError):
    """Another process of the same service on this machine has the instance name."""


class ExtraMissing(LedgerError):
    """What the service needs beyond the plain install is not installed."""


def run_handler(
    wiring: Wiring,
    *,
    instance: str | None = None,
    on_turn: Callable[[Turn], None] | None = None,
    on_restore: Callable[[int, int, int], None] | None = None,
) -> None:
    """Create what is missing of the topics and schemas, then handle commands until SIGTERM or SIGINT.

    `instance` names this handler among those of the ledger; when None it is the first name that no other handler
    on this machine has, so that one that comes back takes the place of the one that was killed, and its stores.
    `on_restore` is told the partition, the offset reached and the end.

    Raises:
        LedgerError: what waiting does not mend.
    """
    from commands.rocks_store import RocksStores  # noqa: PLC0415  # RocksDB is not in the plain install

    gc.set_threshold(*GC_THRESHOLDS)
    stop = threading.Event()
    with _stopping(stop.set), _instance(wiring.settings, "handler", instance) as name:
        count = wiring.ensure_topics()
        log.info("handler %s of ledger %s, %d partitions", name, wiring.settings.ledger, count)
        stores = RocksStores(wiring.settings.stores_dir(name))
        if vacancies := wiring.vacancies(name, count):
            threading.Thread(target=vacancies.watch, args=(stop,), name="partita-vacancies", daemon=True).start()

        def make_handler(ledger_log: Log) -> Handler:
            return wiring.handler(ledger_log, stores, count, on_restore=on_restore)

        try:
            serve(lambda: wiring.log(name), make_handler, stop, on_turn=on_turn)
        finally:
            stop.set()


async def project(
    name: str,
    wiring: Wiring,
    *,
    instance: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Progress:
    """Run the projection of this name until SIGTERM or SIGINT.

    The read model's tables are migrated before; if its roles have addresses of their own, they must be there.

    Raises:
        LedgerError: what waiting does not mend.
    """
    from projections.migrate import check_version, upgrade  # noqa: PLC0415  # Alembic is not in the plain install

    stop = _stop_event()
    with _instance(wiring.settings, name, instance) as instance_name, ExitStack() as stack:
        projection = await asyncio.to_thread(stack.enter_context, PROJECTIONS[name].open(wiring))
        count = await asyncio.to_thread(wiring.ensure_topics)
        database = wiring.database(Access.PROJECT)
        await (check_version if wiring.settings.has_database_roles else upgrade)(database)
        projecting = run_projection(
            wiring.clients,
            wiring.topics,
            wiring.event_codec,
            database,
            projection,
            ledger=wiring.settings.ledger,
            stop=stop,
            instance=instance_name,
            on_progress=on_progress,
        )
        beside = PROJECTIONS[name].beside
        if beside is None:
            return await projecting
        return await _together(stop, projecting, beside(wiring, count, stop, instance_name))


async def rebuild(
    name: str, wiring: Wiring, *, accept_differences: bool = False, on_step: Callable[[Step], None] = lambda _: None
) -> Rebuilt:
    """Rebuild the tables of the projection of this name: does and raises what `projections.rebuild.run` says."""
    from projections.rebuild.run import rebuild as rebuild_tables  # noqa: PLC0415  # as in `project`

    gc.set_threshold(*GC_THRESHOLDS)
    with PROJECTIONS[name].open(wiring) as projection:
        return await rebuild_tables(
            wiring.clients,
            wiring.topics,
            wiring.event_codec,
            wiring.database(Access.MIGRATE),
            projection,
            ledger=wiring.settings.ledger,
            accept_differences=accept_differences,
            on_step=on_step,
        )


async def drop_rebuilt(name: str, wiring: Wiring, *, old: bool) -> list[str]:
    """Drop the tables that were live before the last rebuild, or else what one that was not finished has built.

    Return the names of the old ones. Raises what `projections.rebuild.run.drop_old` does.
    """
    from projections.rebuild.run import drop_new, drop_old  # noqa: PLC0415  # as in `project`

    with PROJECTIONS[name].open(wiring) as projection:
        return await (drop_old if old else drop_new)(wiring.database(Access.MIGRATE), projection)


async def _together(
    stop: asyncio.Event, service: Coroutine[Any, Any, Progress], beside: Coroutine[Any, Any, None]
) -> Progress:
    """Run both until `stop`; when one ends with an error, the other is stopped, and the error raised."""
    tasks = asyncio.create_task(service), asyncio.create_task(beside)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await asyncio.wait(tasks)
    tasks[1].result()
    return tasks[0].result()


def _stop_event() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def run_web(wiring: Wiring) -> None:
    """Serve the HTTP API until SIGTERM or SIGINT.

    Raises:
        ExtraMissing: the extra `web` is not installed.
        LedgerError: it can't be served so; `partita.web.server` says why.
    """
    try:
        from partita.web.server import serve as serve_web  # noqa: PLC0415  # FastAPI is not in the plain install
    except ModuleNotFoundError as error:
        raise ExtraMissing(f"there is no {error.name} here: install partita[web]", extra="web") from error
    await serve_web(wiring)


@contextmanager
def _stopping(stop: Callable[[], None]) -> Iterator[None]:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _instance(settings: Settings, service: str, name: str | None) -> Iterator[str]:
    """Hold an instance name: the given one, or the first that is free on this machine."""
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    names = [name] if name else [f"{os.uname().nodename}-{number}" for number in range(MOST_INSTANCES)]
    for candidate in names:
        with (settings.state_dir / f"{settings.ledger}-{service}-{candidate}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield candidate
            return
    raise InstanceTaken(f"a {service} called {name or 'any of our names'} runs here already", service=service)
