"""A bank under faults, short in every test run and long with `-m chaos`; any counts with `python -m tests.chaos`."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.membership import GroupProtocol
from tests.chaos.fleet import Faults
from tests.chaos.run import LONG, SHORT, run
from tests.support.services import Ledger, ledger_on
from tests.support.stack import NativeStack, native_stack

SEED = 1


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory, stack_cache: Path) -> Iterator[NativeStack]:
    """A stack that may be broken."""
    with native_stack(tmp_path_factory.mktemp("chaos"), cache=stack_cache) as stack:
        yield stack


@pytest.fixture
def ledger(request: pytest.FixtureRequest, breakable: NativeStack, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on the stack that may be broken."""
    with ledger_on(breakable.addresses, tmp_path, group_protocol=request.param) as ledger:
        yield ledger


@pytest.mark.stack
@pytest.mark.parametrize(
    ("ledger", "faults"),
    [
        pytest.param(GroupProtocol.CLASSIC, SHORT, id="short"),
        *(pytest.param(protocol, LONG, id=f"long-{protocol}", marks=pytest.mark.chaos) for protocol in GroupProtocol),
    ],
    indirect=["ledger"],
)
async def test_no_money_is_lost_or_made_whatever_fails(
    ledger: Ledger, breakable: NativeStack, faults: Faults
) -> None:
    """Every transfer has one outcome, which is in the log and was told to all who asked."""
    report = await run(ledger, breakable, faults, SEED)
    print(json.dumps(report.to_dict(), indent=2))
    assert [result for result in report.checks if not result.ok] == []
    assert sum(report.faults.values()) == sum(faults)
    allowed = faults.broker_kills if ledger.settings().group_protocol is GroupProtocol.CONSUMER else 0
    assert report.broker_restarts <= allowed
