"""A ledger for each test, or one that runs for all that only need some accounts of it."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from partita import LedgerEngine
from tests.support.services import Ledger, eventually, ledger_on
from tests.support.stack import Stack

_numbers = itertools.count()


@pytest.fixture(scope="session")
def running(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger with its handler and its projections, shared: name your own accounts."""
    with ledger_on(stack.addresses, tmp_path_factory.mktemp("running"), asset_scales={"JPY": 0, "CENT": 2}) as ledger:
        handler = ledger.service("handler").start()
        ledger.service("balances").start()
        ledger.service("snapshots").start()
        ledger.await_handler(handler)
        yield ledger
        for service in ledger.services:
            assert service.alive(), service.log_text()[-3000:]


@pytest.fixture(scope="session")
def alone(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger whose partitions one handler has; without a projection."""
    with ledger_on(stack.addresses, tmp_path_factory.mktemp("alone")) as ledger:
        handler = ledger.service("handler").start()
        ledger.await_handler(handler)
        yield ledger
        assert handler.alive(), handler.log_text()[-3000:]


@pytest.fixture(scope="session")
def shared(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A ledger whose partitions two handlers have, each its half; without a projection."""
    with ledger_on(stack.addresses, tmp_path_factory.mktemp("shared")) as ledger:
        handlers = [ledger.service("handler").start() for _ in range(2)]
        for handler in handlers:
            ledger.await_handler(handler)
        eventually(lambda: all("is taken up" in handler.log_text() for handler in handlers))
        yield ledger
        for service in ledger.services:
            assert service.alive(), service.log_text()[-3000:]


@pytest.fixture
async def engine(running: Ledger) -> AsyncIterator[LedgerEngine]:
    """An engine on the ledger that runs."""
    async with running.engine() as engine:
        yield engine


@pytest.fixture
def account() -> Callable[[], str]:
    """Give the names of accounts that nobody else uses."""
    return lambda: f"account-{next(_numbers)}"


@pytest.fixture
def ledger(stack: Stack, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that does not exist yet, with no service running."""
    with ledger_on(stack.addresses, tmp_path) as ledger:
        yield ledger
