"""A ledger on the fake cluster, for the stories that need no particular one."""

import pytest

from tests.support.fake_ledger import FakeLedger


@pytest.fixture
def ledger() -> FakeLedger:
    """A ledger that nobody has written to."""
    return FakeLedger()
