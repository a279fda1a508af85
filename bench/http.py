"""The HTTP API: how many questions one process answers in a second, and how long each waits."""

import asyncio
import itertools
import json
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench.cpu import CpuMeter
from bench.ledger import Bench, fill
from partita.demo.processes import Services
from partita.wiring import Wiring

_ACCOUNTS: Final = 1_000
_ENTRIES: Final = 100_000
_PAGE: Final = 100
_READY_WITHIN: Final = 120.0


def run(bench: Bench, *, seconds: float = 15, connections: int = 16) -> dict[str, Any]:
    """Ask for a balance by id, and for a page of entries, over `connections` that each wait for every answer."""
    wiring = Wiring(bench.settings())
    wiring.ensure_topics()
    fill(wiring, _ENTRIES, _ACCOUNTS)
    port = _free_port()
    with tempfile.TemporaryDirectory() as logs:
        environment = {**wiring.settings.environment(), "PARTITA_STATE_DIR": logs, "PARTITA_WEB_PORT": str(port)}
        services = Services(environment=environment, logs=Path(logs))
        try:
            for name in ("handler", "balances", "web"):
                services.start(name)
            asyncio.run(_projected(port))
            meter = CpuMeter(bench.processes(**services.pids()))
            return {
                name: asyncio.run(_measured(port, paths, seconds, connections)) for name, paths in _QUESTIONS.items()
            } | {
                "connections": connections,
                "processors_busy": meter.shares(),
                "limit": f"{os.cpu_count()} processors shared by the client (`this`), the services and the stack",
            }
        finally:
            services.stop()


def _balances() -> Iterator[str]:
    return (f"/v1/accounts/account-{number * 7 % _ACCOUNTS:07d}/balances/USD" for number in itertools.count())


def _pages() -> Iterator[str]:
    names = (f"account-{number * 7 % _ACCOUNTS:07d}" for number in itertools.count())
    return (f"/v1/entries?account_id={name}&newest_first=true&limit={_PAGE}" for name in names)


_QUESTIONS: Final[dict[str, Callable[[], Iterator[str]]]] = {"balance_by_id": _balances, "page_of_entries": _pages}


async def _measured(
    port: int, paths: Callable[[], Iterator[str]], seconds: float, connections: int
) -> dict[str, Any]:
    stream, waits, sizes = paths(), [], []
    ends = time.monotonic() + seconds

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (begun := time.monotonic()) < ends:
            sizes.append(len(await _get(reader, writer, next(stream))))
            waits.append(time.monotonic() - begun)
        writer.close()

    begun = time.monotonic()
    await asyncio.gather(*(ask() for _ in range(connections)))
    elapsed, ordered = time.monotonic() - begun, sorted(waits)
    return {
        "seconds": round(elapsed, 1),
        "requests_per_second": round(len(waits) / elapsed),
        "latency_ms": {
            f"p{percent}": round(1000 * ordered[len(ordered) * percent // 100], 1) for percent in (50, 99)
        },
        "bytes_of_an_answer": round(sum(sizes) / len(sizes)),
    }


async def _projected(port: int) -> None:
    """Return when the tables have everything, by what the API says."""
    async with asyncio.timeout(_READY_WITHIN):
        while not await _is_projected(port):  # noqa: ASYNC110  # another process knows
            await asyncio.sleep(0.2)


async def _is_projected(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    positions = json.loads(await _get(reader, writer, "/v1/positions", wanted=(200, 503))).get("positions", [])
    writer.close()
    return bool(sum(position["next_sequence"] for position in positions) >= _ENTRIES)


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, wanted: tuple[int, ...] = (200,)
) -> bytes:
    """Return the body of an answer, as little a client as will do: it shares the processors with what is measured."""
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ", 2)[1])
    length = next(int(line[15:]) for line in head.splitlines() if line.startswith("content-length:"))
    body = await reader.readexactly(length)
    if status not in wanted:
        raise RuntimeError(f"{path}: {status} {body[:500]!r}")
    return body


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
