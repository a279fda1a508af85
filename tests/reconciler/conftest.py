"""Chains for the tests of the reconciler."""

import pytest

from tests.reconciler.worlds import Anvil, Fake, World
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
