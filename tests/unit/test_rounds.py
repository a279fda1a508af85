"""Going on for ever with a chain: what is waited for, what is not, and being told to stop."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from events.errors import BrokerUnavailable, LedgerError
from reconciler import rounds
from reconciler.errors import WrongChain
from reconciler.provider import NodeAway, NodeRefused
from reconciler.rounds import in_thread, run_rounds


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_FIRST_DELAY", 0.001)
    monkeypatch.setattr(rounds, "_LONGEST_DELAY", 0.002)


class Story:
    """Rounds that go as told, one after the other; the last one sets `stop`."""

    def __init__(self, *steps: LedgerError | bool) -> None:
        self.steps: Iterator[LedgerError | bool] = iter(steps)
        self.stop = asyncio.Event()
        self.count = 0

    async def one(self) -> bool:
        self.count += 1
        step = next(self.steps, None)
        if isinstance(step, LedgerError):
            raise step
        if step is None:
            self.stop.set()
            return False
        return step


async def test_a_node_that_does_not_answer_is_waited_for_however_long() -> None:
    story = Story(*[NodeAway("away")] * 50)
    await run_rounds(story.one, story.stop, poll=60, give_up_after=0.01)
    assert story.count == 51


@pytest.mark.parametrize("error", [NodeRefused("no such method"), BrokerUnavailable("away")])
async def test_what_else_passes_is_waited_for_so_long_and_no_longer(error: LedgerError) -> None:
    story = Story(*[error] * 1000)
    with pytest.raises(type(error)):
        await run_rounds(story.one, story.stop, poll=60, give_up_after=0.05)
    assert 1 < story.count < 1000


async def test_the_time_counts_from_the_first_failure_in_a_row() -> None:
    story = Story(BrokerUnavailable("away"), True, BrokerUnavailable("away"))

    async def slow() -> bool:
        await asyncio.sleep(0.02)
        return await story.one()

    await run_rounds(slow, story.stop, poll=60, give_up_after=0.01)
    assert story.count == 4


async def test_what_waiting_does_not_mend_ends_it_at_once() -> None:
    story = Story(WrongChain("another"))
    with pytest.raises(WrongChain):
        await run_rounds(story.one, story.stop, poll=60)
    assert story.count == 1


async def test_a_round_that_ends_soon_after_the_stop_is_not_cut_short() -> None:
    stop, done = asyncio.Event(), []

    async def one() -> bool:
        stop.set()
        await asyncio.sleep(0.01)
        done.append(True)
        return False

    await run_rounds(one, stop, poll=60)
    assert done == [True]


async def test_one_that_does_not_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "FINISHING", 0.01)
    stop, cut = asyncio.Event(), asyncio.Event()

    async def one() -> bool:
        stop.set()
        try:
            await asyncio.sleep(60)
        finally:
            cut.set()
        return False

    async with asyncio.timeout(10):
        await run_rounds(one, stop, poll=60)
    assert cut.is_set()


async def test_a_thread_comes_to_its_end_before_its_caller_is_cancelled() -> None:
    began, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        began.set()
        goes_on.wait(10)
        ended.set()

    task = asyncio.create_task(in_thread(call))
    await asyncio.to_thread(began.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
