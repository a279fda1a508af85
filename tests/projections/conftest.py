"""A ledger of each test's own on the shared stack, and the projection running on it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from events.codec import EventCodec, event_codec
from events.registry import Registry
from projections.balances import Balances
from projections.migrate import upgrade
from projections.queries import ReadModel
from projections.service import Progress, run_projection
from projections.store import Projection
from tests.projections.log import TestLedger
from tests.support.stack import Stack


@dataclass
class Service:
    """A projection that runs in this process."""

    task: asyncio.Task[Progress]
    stop: asyncio.Event
    progress: Progress = field(default_factory=lambda: Progress(0, {}))
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, condition: Callable[[Progress], bool]) -> None:
        """Wait until the progress is as wanted; fails when the service ends before."""
        async with asyncio.timeout(60):
            while not condition(self.progress):
                if self.task.done():
                    self.task.result()
                    raise AssertionError("the service ended")
                self.changed.clear()
                noted = asyncio.create_task(self.changed.wait())
                await asyncio.wait([noted, self.task], return_when=asyncio.FIRST_COMPLETED)
                noted.cancel()


@asynccontextmanager
async def projecting(
    ledger: TestLedger, projection: Projection[Any] | None = None, /, **settings: Any
) -> AsyncIterator[Service]:
    stop = asyncio.Event()

    def note(progress: Progress) -> None:
        service.progress = progress
        service.changed.set()

    call = run_projection(
        ledger.clients,
        ledger.topics,
        ledger.codec,
        ledger.database,
        projection or Balances(),
        **{"ledger": ledger.name, "stop": stop, "on_progress": note, **settings},
    )
    service = Service(asyncio.create_task(call), stop)
    try:
        yield service
    finally:
        stop.set()
        async with asyncio.timeout(30):
            await asyncio.gather(service.task, return_exceptions=True)


Projecting = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture(scope="session")
def codec(stack: Stack) -> Iterator[EventCodec]:
    registry = Registry(stack.addresses["schema_registry_url"])
    yield event_codec(registry.register(), registry.lookup)
    registry._client._rest_client.session.close()


@pytest.fixture
async def ledger(stack: Stack, codec: EventCodec) -> AsyncIterator[TestLedger]:
    made = await asyncio.to_thread(TestLedger.create, stack.addresses, codec)
    await upgrade(made.database)
    yield made
    await made.drop()


@pytest.fixture
async def reader(ledger: TestLedger) -> AsyncIterator[ReadModel]:
    async with ReadModel(ledger.database) as model:
        yield model
