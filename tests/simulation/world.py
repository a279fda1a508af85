"""A small world: requesters, handlers that crash, stand still and come back, and a cluster that loses what it can.

All of it is drawn from one seed, so a seed is a story that can be told again. When the story is over, everything is
healed, and what must hold is checked (`tests.simulation.checks`).
"""

from collections.abc import Callable
from random import Random

from commands.types import Command, key_of
from events.errors import Fenced, LedgerError
from events.partitioner import partition_of
from tests.simulation.checks import check
from tests.simulation.evidence import Broken
from tests.simulation.process import Circumstances, Disk, Killed, Process
from tests.simulation.requests import Requests
from tests.simulation.troubles import Troubles
from tests.support.fake_ledger import FakeLedger
from tests.support.fake_log import Loss
from tests.support.samples import CODECS, TOPICS

NAMES = ("a", "b", "c")
STEPS = 120
_LONGEST_PAUSE = 30
_MOST_ROUNDS = 400
"""Of turns after the healing: far more than bringing back any log of this length takes."""

_RESTED = 4
"""Rounds in which nothing happened, after which nothing will."""

_A_WHILE = 100_000_000
"""In microseconds: after it, handlers commit that they have read the markers too."""

_MOST_ASKS = 20
"""Times that it is asked again: of several reversals of a batch that are refused, each time one is told so."""

_DEATHS = 0.008
_PAUSES = 0.02
_TAKEN_FOR_DEAD = 0.4
_REPLACED = 0.25
_PROMPT = 0.4
_JUNK = b"\0junk"
_LATE = 6
"""Steps of a partition that may come again."""


class World:
    """One run. `story` is what befell it, step by step; `asked` is what is on the commands topic."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.ledger = FakeLedger(partitions=self.random.randint(3, 4), group_size=self.random.choice((1, 2, 4, 8)))
        self.cluster = self.ledger.cluster
        self.requests = Requests(self.random, self.ledger)
        self.asked: dict[tuple[int, int], Command | None] = {}
        self.circumstances: Circumstances = {}
        self.story: list[tuple[object, ...]] = []
        self.processes: list[Process] = []
        self._twins: set[str] = set()
        self._copies: list[Disk] = []
        self._calm = False
        self._troubles = Troubles(self.ledger, self.random, self._tell)
        steps: dict[Callable[[], None], int] = {
            self._turn: 220,
            self._ask: 75,
            self._repeat: 45,
            self._go_astray: 2,
            self._junk: 1,
            self._deliver_a_step_again: 25,
            self._start: 20,
            self._crash: 3,
            self._stop: 2,
            self._start_a_twin: 1,
            self._copy_a_disk: 2,
            self._fail_a_disk: 2,
            self._lose_a_commit: 12,
            self._delete_old_commands: 3,
            **self._troubles.steps,
        }
        self._steps = list(steps), list(steps.values())

    def run(self) -> None:
        """Live, heal, and see that all holds.

        Raises:
            Broken: it does not.
        """
        self._start()
        for _ in range(STEPS):
            self._step()
        self._heal()
        self._settle()
        self._ask_until_answered()
        self.ledger.now += _A_WHILE
        self._settle()
        check(self.ledger, self.asked, self.processes, self.circumstances)

    def _step(self) -> None:
        (step,) = self.random.choices(*self._steps)
        step()

    def _tell(self, *what: object) -> None:
        self.story.append(what)

    # What requesters do.

    def _ask(self) -> None:
        self._produce(self.requests.new())

    def _repeat(self) -> None:
        self._produce(self.requests.repeat())

    def _go_astray(self) -> None:
        """Be a producer that does not partition as the others do."""
        self._produce(self.requests.new(), self.random.randrange(self.cluster.partitions))

    def _junk(self) -> None:
        self._send(b"key", _JUNK, None, self.random.randrange(self.cluster.partitions))

    def _produce(self, command: Command, partition: int | None = None) -> None:
        key = key_of(command)
        if partition is None:
            partition = partition_of(key, self.cluster.partitions)
        self._send(key.encode(), CODECS.commands.encode(command), command, partition)

    def _send(self, key: bytes, value: bytes, command: Command | None, partition: int) -> None:
        offset = self.cluster.produce(TOPICS.commands, key, value, partition)
        self.asked[partition, offset] = command
        self._tell("asked", partition, offset, command)

    def _ask_until_answered(self) -> None:
        """Ask again, as requesters do whose time is up: who waits for a batch in flight is forgotten in a crash."""
        left = [(partition, command) for (partition, _), command in sorted(self.asked.items()) if command is not None]
        for _ in range(_MOST_ASKS):
            told = {(record.key or b"").decode() for record in self.cluster.all_visible(TOPICS.outcomes)}
            left = [(p, self.requests.again(command)) for p, command in left if command.reply_key not in told]
            if not left:
                return
            for partition, command in left:
                self._produce(command, partition)
            self._settle()

    def _deliver_a_step_again(self) -> None:
        """Bring one of the last steps that handlers sent each other, or an older one, once more."""
        partition = self.random.randrange(self.cluster.partitions)
        if steps := self.cluster.sent_by_handlers(TOPICS.commands, partition):
            step = self.random.choice(steps[-_LATE:])
            self.cluster.produce(TOPICS.commands, step.key, step.value, partition)
            self._tell("a step comes again:", partition, step.offset)

    # What handlers do, and what befalls them.

    def _awake(self) -> list[Process]:
        return [process for process in self.processes if not process.paused]

    def _turn(self) -> None:
        if awake := self._awake():
            self._turn_of(self.random.choice(awake))

    def _turn_of(self, process: Process) -> int:
        """Let it do a turn, and start it anew as its service does; return whether something was done."""
        try:
            turn = process.member.turn()
        except Killed:
            self._gone(process)
        except Fenced as error:
            if process.name not in self._twins:
                raise Broken(f"I9: {process.name} was fenced, and by nobody: {error}") from error
            self._end(process, error)
            if process.name in self._missing():  # its twin is gone meanwhile: it joins again
                self._start_process(process.name, process.disk)
        except LedgerError as error:
            if not error.retriable:
                raise Broken(f"{type(error).__name__} stopped {process.name}: {error}") from error
            self._end(process, error)
            if self._calm or self.random.random() < _PROMPT:  # else its service is still waiting to start it anew
                self._start_process(process.name, process.disk)
        else:
            self._tell(process.name, turn)
            return turn.commands + turn.restoring
        return 1

    def _end(self, process: Process, why: object) -> None:
        self._tell(process.name, "ends:", why)
        self._gone(process)
        process.close()
        if process.disk.opened:
            raise Broken(f"I9: {process.name} ends and keeps partitions {list(process.disk.opened)} of its disk open")

    def _gone(self, process: Process) -> None:
        if process in self.processes:
            self.processes.remove(process)

    def _start_process(self, name: str, disk: Disk) -> None:
        self.processes.append(Process(self.ledger, name, disk, self._point, self.random, self.circumstances))
        self._tell(name, "starts")

    def _point(self, process: Process) -> None:
        """Be where a process can die or stand still: at every call of its log, and before every write to its disk."""
        chance = 1.0 if self._calm else self.random.random()
        if chance < _DEATHS:
            self._tell(process.name, "dies in mid-turn")
            raise Killed
        if chance < _DEATHS + _PAUSES:
            self._stand_still(process)

    def _stand_still(self, process: Process) -> None:
        """Let the world go on while the process stands still in the middle of its turn."""
        self._tell(process.name, "stands still")
        process.paused = True
        chance = self.random.random()
        if chance < _TAKEN_FOR_DEAD and self.cluster.is_current(process.member.log):
            self._troubles.take_for_dead(process.name)
        elif chance > 1 - _REPLACED:
            self._replace(process)
        for _ in range(self.random.randint(1, _LONGEST_PAUSE)):
            self._step()
        process.paused = False
        self._tell(process.name, "never wakes up" if process.killed else "wakes up")
        if process.killed:
            raise Killed

    def _crash(self) -> None:
        if self.processes:
            process = self.random.choice(self.processes)
            process.killed = True
            self._gone(process)
            self._tell(process.name, "is killed")

    def _stop(self) -> None:
        if awake := self._awake():
            self._end(self.random.choice(awake), "it was told to")

    def _start(self) -> None:
        """Start one that is not running, mostly on its own disk; else on an old copy of a disk, or an empty one."""
        if missing := self._missing():
            name = self.random.choice(missing)
            kept = self.ledger.disks.get(name)
            own = kept if isinstance(kept, Disk) and self.random.random() < 0.8 else None
            self._start_process(name, own or self._another_disk())

    def _missing(self) -> list[str]:
        return [name for name in NAMES if not any(process.name == name for process in self.processes)]

    def _another_disk(self) -> Disk:
        if self._copies and self.random.random() < 0.5:
            return self.random.choice(self._copies).copy()
        return Disk()

    def _start_a_twin(self) -> None:
        if self.processes:
            self._replace(self.random.choice(self.processes))

    def _replace(self, process: Process) -> None:
        """Start one of the same name elsewhere: someone took the first for dead, and it is not."""
        self._twins.add(process.name)
        self._start_process(process.name, self._another_disk())

    def _copy_a_disk(self) -> None:
        if self.processes:
            self._copies.append(self.random.choice(self.processes).disk.copy())

    def _fail_a_disk(self) -> None:
        if self.processes:
            process = self.random.choice(self.processes)
            process.disk.fail()
            self._tell(process.name, "will have its disk fail")

    def _lose_a_commit(self) -> None:
        if self.processes:
            process, loss = self.random.choice(self.processes), self.random.choice((*Loss, Loss.BEFORE_COMMIT))
            process.member.log.lose_next_commit(loss)
            self._tell(process.name, "will lose a commit:", loss.name)

    def _delete_old_commands(self) -> None:
        """Let retention delete commands that were handled: that takes days, for which no process stands still."""
        if self._awake() == self.processes:
            self._troubles.delete_handled_commands()

    # The end of the story.

    def _heal(self) -> None:
        self._calm = True
        self._tell("all is healed")
        self.cluster.release_markers()
        self.cluster.time_out_transactions()
        while self._missing():
            self._start()

    def _settle(self) -> None:
        """Turn all handlers until nothing is left to do."""
        idle = 0
        for _ in range(_MOST_ROUNDS):
            idle = 0 if sum([self._turn_of(process) for process in list(self.processes)]) else idle + 1
            if idle == _RESTED:
                return
        raise Broken(f"I9: it does not come to rest in {_MOST_ROUNDS} rounds")


def simulate(seed: int) -> None:
    """Run one world; what is wrong with it tells its story.

    Raises:
        Broken: an invariant does not hold.
    """
    world = World(seed)
    try:
        world.run()
    except Exception as error:
        story = [" ".join(map(str, step)) for step in world.story]
        error.add_note("\n".join([*story, f"make simulate SEEDS={seed}..{seed} tells this again"]))
        raise
