"""What befalls a cluster and its clocks, as chance has it."""

from collections.abc import Callable
from random import Random

from tests.support.fake_ledger import FakeLedger
from tests.support.samples import TOPICS


class Troubles:
    """Troubles of one ledger's cluster; `tell` is told of each. `steps` are those that can come at any time, and how
    often: in proportion to each other and to what else happens.
    """

    def __init__(self, ledger: FakeLedger, random: Random, tell: Callable[..., None]) -> None:
        self._ledger = ledger
        self._cluster = ledger.cluster
        self._random = random
        self._tell = tell
        self.steps: dict[Callable[[], None], int] = {
            self._let_lost_commits_arrive: 12,
            self._expire_a_member: 3,
            self._hold_markers: 6,
            self._let_all_markers_arrive: 7,
            self._let_some_markers_arrive: 13,
            self._let_time_pass: 6,
            self._set_the_clock_back: 2,
            self._let_locks_expire: 8,
        }

    def take_for_dead(self, name: str) -> None:
        """Let the group expel a member."""
        self._cluster.expire_member(name)
        self._tell("the group takes for dead:", name)

    def delete_handled_commands(self) -> None:
        """Let retention delete what was handled of one partition."""
        partition = self._partition()
        handled = self._cluster.committed_offset(partition)
        if handled is not None and handled > 0:
            self._cluster.delete_before(TOPICS.commands, partition, handled)
            self._tell("commands are deleted before", partition, handled)

    def _partition(self) -> int:
        return self._random.randrange(self._cluster.partitions)

    def _let_lost_commits_arrive(self) -> None:
        self._cluster.let_lost_commits_arrive()
        self._tell("commits that were on their way arrive")

    def _expire_a_member(self) -> None:
        if members := sorted(self._cluster._members):
            self.take_for_dead(self._random.choice(members))

    def _hold_markers(self) -> None:
        self._cluster.hold_markers()
        self._tell("markers are on their way")

    def _let_all_markers_arrive(self) -> None:
        self._cluster.release_markers()
        self._tell("all markers arrive")

    def _let_some_markers_arrive(self) -> None:
        where = self._random.choice((TOPICS.events, TOPICS.outcomes)), self._partition()
        self._cluster.release_markers([where])
        self._tell("markers arrive:", *where)

    def _let_time_pass(self) -> None:
        """Let so much pass that transactions time out, and at times the patience of those who restore."""
        self._ledger.seconds += self._random.choice((10, 100, 1000))
        self._cluster.time_out_transactions()
        self._tell("time passes")

    def _let_locks_expire(self) -> None:
        self._ledger.now += self._random.randint(100, 2000)
        self._tell("the clock goes on")

    def _set_the_clock_back(self) -> None:
        self._ledger.now -= self._random.randint(1, 1000)
        self._tell("the clock goes back")
