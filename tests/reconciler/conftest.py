"""Chains for the tests of the reconciler."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from projections.database import Database
from projections.migrate import upgrade
from tests.reconciler.treasury import Treasury
from tests.reconciler.worlds import Anvil, Fake, World
from tests.support.services import Ledger, ledger_on
from tests.support.stack import Stack


@pytest.fixture
def anvil(full_stack: Stack) -> Anvil:
    return Anvil(full_stack.addresses["evm_rpc_url"])


@pytest.fixture(params=["fake", pytest.param("anvil", marks=pytest.mark.stack)])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "fake":
        return Fake()
    made: World = request.getfixturevalue("anvil")
    return made


@pytest.fixture(scope="session")
def ledger(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with ledger_on(stack.addresses, tmp_path_factory.mktemp("chain")) as made:
        handler = made.service("handler").start()
        made.service("balances").start()
        made.await_handler(handler)
        yield made


@pytest.fixture
async def treasury(full_stack: Stack, ledger: Ledger) -> AsyncIterator[Treasury]:
    async with ledger.engine() as engine:
        yield Treasury(Anvil(full_stack.addresses["evm_rpc_url"]), ledger, engine)


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    made = Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}_chain")
    await upgrade(made, folder="reconciler:migrations")
    yield made
    connection = await made.connect()
    await connection.execute(f'DROP SCHEMA "{made.schema}" CASCADE')
    await connection.close()
