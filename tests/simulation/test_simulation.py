"""Thousands of small worlds, each of one seed: whatever befalls the handlers and the cluster, all invariants hold."""

import pytest

from commands.store import StoreLost
from commands.types import STEP_TYPES
from events.errors import Fenced
from events.log import LogLost
from events.types import EVENT_TYPES
from tests.simulation import batch_bugs, log_bugs, state_bugs, tree_bugs
from tests.simulation.evidence import Broken
from tests.simulation.planted import Bug
from tests.simulation.world import World, simulate
from tests.support.samples import CODECS, TOPICS

SEEDS = 2000
TOGETHER = 100
ENOUGH = 1000
"""Seeds within which every bug is caught."""


@pytest.mark.parametrize("first", range(1, SEEDS + 1, TOGETHER))
def test_whatever_happens_all_invariants_hold(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        simulate(seed)


def test_a_seed_tells_the_same_story_again() -> None:
    first, second = World(4711), World(4711)
    first.run()
    second.run()
    assert [str(step) for step in first.story] == [str(step) for step in second.story]
    assert first.ledger.events() == second.ledger.events()


def test_the_stories_have_in_them_what_they_are_for() -> None:
    """What never happens is not tested: every event, most rejections, and handlers that end in every way."""
    events, codes, endings, steps = set(), set(), set(), set()
    for seed in range(1, 2 * TOGETHER + 1):
        world = World(seed)
        world.run()
        events |= {type(item.event) for item in world.ledger.events()}
        for partition in range(world.ledger.cluster.partitions):
            sent = world.ledger.cluster.sent_by_handlers(TOPICS.commands, partition)
            steps |= {type(CODECS.commands.decode(record.value)) for record in sent}
        codes |= {getattr(outcome.event, "code", "") for outcome in world.ledger.outcomes()}
        endings |= {type(step[2]) for step in world.story if step[1:2] == ("ends:",)}
    assert events == set(EVENT_TYPES)
    assert steps >= set(STEP_TYPES)
    assert codes >= {"InsufficientFunds", "HoldExceeded", "HoldNotExpired", "IdempotencyConflict", "WrongPartition"}
    assert codes >= {"AccountLocked", "LockLost", "BatchNotFound"}
    assert endings >= {Fenced, LogLost, StoreLost}


ALL_BUGS = [*log_bugs.BUGS, *state_bugs.BUGS, *batch_bugs.BUGS, *tree_bugs.BUGS]


def _caught(seed: int) -> bool:
    try:
        simulate(seed)
    except Broken:
        return True
    return False


@pytest.mark.parametrize("bug", ALL_BUGS, ids=lambda bug: bug.__name__)
def test_the_simulation_catches(bug: Bug) -> None:
    with bug():
        assert any(_caught(seed) for seed in range(1, ENOUGH + 1))
