"""A ledger on the fake cluster: handlers that are turned by hand, commands for them, and what became of these."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from commands.codec import Outcome
from commands.deadletter import MOST_DEAD_LETTERS
from commands.handler import Handler, Turn
from commands.restore import Restorer
from commands.types import Command, Policy, key_of
from events.account import Account
from events.checkpoint import Checkpoint, origin_of, read
from events.checks import LogAudit
from events.errors import LedgerError
from events.follow import SequenceCheck, StoredEvent
from events.tree_audit import TreeAudit
from events.types import CommandRejected
from tests.support.fake_cluster import FakeCluster
from tests.support.fake_log import FakeLog
from tests.support.memory_store import MemoryStores
from tests.support.samples import CHECKPOINTS, CODECS, NOON, SIGNER, TOPICS, decider

MOST_TURNS = 1000


@dataclass
class FakeLedger:
    """One ledger. Time goes on by a microsecond with every look at the clock; patience is counted in `seconds`."""

    partitions: int = 2
    group_size: int = 100
    now: int = NOON
    handlers: int = 0
    seconds: float = 0.0
    most_dead_letters: int = MOST_DEAD_LETTERS

    def __post_init__(self) -> None:
        self.cluster = FakeCluster(TOPICS, self.partitions)
        self.disks: dict[str, MemoryStores] = {}

    def clock(self) -> int:
        self.now += 1
        return self.now

    def ask(self, command: Command, partition: int | None = None) -> None:
        """Produce a command."""
        self.cluster.produce(TOPICS.commands, key_of(command).encode(), CODECS.commands.encode(command), partition)

    def member(self, instance: str = "a", make_log: Callable[[FakeCluster, str], FakeLog] = FakeLog) -> "Member":
        """Return a handler on a new log, with the disk that it had before; a process of that name is gone."""
        log = make_log(self.cluster, instance)
        stores = self.disks.setdefault(instance, MemoryStores())
        stores.crash()
        handler = Handler(
            log=log,
            topics=TOPICS,
            codecs=CODECS,
            checkpoints=CHECKPOINTS,
            decider=decider(Policy(asset_scales={"JPY": 0})),
            partition_count=self.partitions,
            group_size=self.group_size,
            restorer=Restorer(log, CODECS.events, stores, clock=lambda: self.seconds, most_cached=2),
            most_dead_letters=self.most_dead_letters,
            now=self.clock,
        )
        return Member(self, log, handler)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes that requesters see."""
        return [CODECS.outcomes.decode(r.value or b"") for r in self.cluster.all_visible(TOPICS.outcomes)]

    def events(self) -> list[StoredEvent]:
        """Return all events, checked as every reader checks them."""
        checks = {p: SequenceCheck(p) for p in range(self.partitions)}
        return [checks[r.partition].decode(CODECS.events, r) for r in self.cluster.all_visible(TOPICS.events)]

    def accounts(self) -> dict[str, Account]:
        """Return the accounts as the log tells them; see that all invariants hold and no outcome is false."""
        assert self.tree_fault() is None
        audit = LogAudit()
        stored = self.events()
        for item in stored:
            audit.take(item)
        assert [result for result in audit.results() if not result.ok] == []
        known = {(item.partition, item.event.sequence): item.event for item in stored}
        for outcome in (outcome for outcome in self.outcomes() if outcome.event.sequence >= 0):
            assert known[outcome.partition, outcome.event.sequence] == outcome.event
        return audit.accounts

    def tree_fault(self) -> str | None:
        """Return what is wrong with the checkpoints, or with the trees that requesters were told of."""
        audit = TreeAudit(CHECKPOINTS.ledger_origin, self.partitions, [SIGNER.verifier], open_from=2**62)
        heads = set()
        for record in self.cluster.visible(TOPICS.checkpoints, 0):
            audit.take_checkpoint(record)
            heads.add(read((record.value or b"").decode()))
        for item in self.events():
            audit.take(item)
        untrue = (f"{told} tells of another tree" for told in self.outcomes() if not _true(told, heads))
        return audit.result().detail or next(untrue, None)

    def rejections(self) -> list[str]:
        """Return the codes of what was rejected."""
        return [item.event.code for item in self.events() if isinstance(item.event, CommandRejected)]


def _true(told: Outcome, heads: Collection[Checkpoint]) -> bool:
    """Whether an outcome tells of a tree that was signed and has its event; of none when it is in no log."""
    if told.tree_size is None or told.merkle_root is None:
        return told.event.sequence < 0
    head = Checkpoint(origin_of(CHECKPOINTS.ledger_origin, told.partition), told.tree_size, told.merkle_root)
    return head in heads and 0 <= told.event.sequence < head.size


@dataclass
class Member:
    """A handler and its log."""

    ledger: FakeLedger
    log: FakeLog
    handler: Handler
    turns: list[Turn] = field(default_factory=list)

    def turn(self) -> Turn:
        """Turn once."""
        self.turns.append(self.handler.turn(0))
        return self.turns[-1]

    def run(self) -> "Member":
        """Turn until there is nothing to do: the turn that ends a restore takes no command yet."""
        idle = 0
        for _ in range(MOST_TURNS):
            turn = self.turn()
            idle = 0 if turn.commands or turn.restoring else idle + 1
            if idle == 2:
                return self
        raise AssertionError("it does not come to rest")

    def ready(self) -> "Member":
        """Turn until every partition that it has is restored."""
        for _ in range(MOST_TURNS):
            if self.turn().ready and not self.turns[-1].restoring:
                return self
        raise AssertionError("it does not become ready")

    def fails(self) -> LedgerError:
        """Turn until it fails, and return the error."""
        try:
            self.run()
        except LedgerError as error:
            return error
        raise AssertionError("it did not fail")
