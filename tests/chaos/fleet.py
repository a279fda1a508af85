"""The handlers of one ledger as processes, and the faults that befall them and their broker."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from confluent_kafka import KafkaException

from partita.cli.output import Exit
from tests.chaos.bank import Bank
from tests.support.services import Ledger, Service
from tests.support.stack import Stack

HANDLERS: Final = 3
_MOST: Final = 5
_SUPERVISE_EVERY: Final = 0.2
_STANDS_STILL_AFTER: Final = 60.0
_LET_IN_NOBODY: Final = "A group that lets nobody in"
_IN_ORDER: Final = (0, -signal.SIGTERM)
"""Statuses of a handler that was told to stop, in the second case before it had begun."""


class Faults(NamedTuple):
    """How many of each kind."""

    kills: int
    stops: int
    rebalances: int
    broker_kills: int


@dataclass
class Fleet:
    """Handlers under names of their own. Which one a fault befalls is drawn from `random`; never one of `others`."""

    ledger: Ledger
    stack: Stack
    bank: Bank
    random: Random
    handlers: dict[str, Service] = field(default_factory=dict)
    others: tuple[Service, ...] = ()
    broker_restarts: int = 0
    """Of the broker, as docs/operations.md has it for a group that lets nobody in: a bug of Kafka's (ADR 0018)."""
    _named: int = 0

    def start(self, count: int = HANDLERS) -> "Fleet":
        """Start the first ones and wait until they have opened the ledger."""
        for _ in range(count):
            self.join()
        self.ledger.await_handler(next(iter(self.handlers.values())))
        return self

    def join(self) -> str:
        """Start one more, under a new name."""
        name = f"h{self._named}"
        self._named += 1
        self.handlers[name] = self.ledger.service("handler", "--instance", name).start()
        return name

    def drawn(self) -> str:
        """Draw a handler."""
        return self.random.choice(sorted(self.handlers))

    async def befall(self, faults: Faults, on_fault: Callable[[str, float], None]) -> None:
        """Let all of it happen in an order that is drawn; `on_fault` is told the kind and the seconds to recover.

        A third of the faults come before the one before is healed. All of the bank's callers have their answers
        before the others.
        """
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self.kill,
            "stop": self.stand_still,
            "rebalance": self.rebalance,
            "broker": self.kill_broker,
        }
        plan = [kind for kind, count in zip(kinds, faults, strict=True) for _ in range(count)]
        self.random.shuffle(plan)
        async with asyncio.TaskGroup() as together:
            supervising = together.create_task(self._supervise())
            for kind in plan:
                await self.bank.advanced(self.random.randint(1, 60))
                await kinds[kind]()
                on_fault(kind, await self.bank.settled() if self.random.random() > 1 / 3 else 0.0)
            await self.bank.settled()
            supervising.cancel()
        self.supervise()

    async def _supervise(self) -> None:
        clock = asyncio.get_running_loop().time
        answered, at = self.bank.answered, clock()
        while True:
            self.supervise()
            if self.bank.answered != answered or not self._is_refused():
                answered, at = self.bank.answered, clock()
            elif clock() - at > _STANDS_STILL_AFTER:
                await asyncio.to_thread(self.stack.stop, "kafka")
                await asyncio.to_thread(self.stack.start, "kafka")
                self.broker_restarts += 1
                at = clock()
            await asyncio.sleep(_SUPERVISE_EVERY)

    def _is_refused(self) -> bool:
        """Whether what a handler said last is that the group does not let it in."""
        return any(_LET_IN_NOBODY in handler.log_text()[-1000:] for handler in self.handlers.values())

    def supervise(self) -> None:
        """Start those again that ended because Kafka was away when they began; for no other reason may one end."""
        for service in (*self.handlers.values(), *self.others):
            if not service.alive():
                status = service.ended()
                assert status == Exit.UNAVAILABLE, (
                    f"{service.arguments} ended with {status}:\n{service.log_text()[-3000:]}"
                )
                service.start()

    async def kill(self) -> None:
        """Kill a handler; it comes back under its name, or another one comes."""
        name = self.drawn()
        self.handlers[name].kill()
        if self.random.random() < 0.7:
            self.handlers[name].start()
        else:
            del self.handlers[name]
            self.join()

    async def stand_still(self) -> None:
        """Stop a handler until the others have its work, or only for a moment, and let it go on."""
        handler = self.handlers[self.drawn()]
        long = self.random.random() < 0.7
        send(handler, signal.SIGSTOP)
        try:
            await (self.bank.settled() if long else self.bank.advanced(1))
        finally:
            send(handler, signal.SIGCONT)

    async def rebalance(self) -> None:
        """Let one join, or one leave."""
        if len(self.handlers) < HANDLERS or (len(self.handlers) < _MOST and self.random.random() < 0.5):
            self.join()
        else:
            leaving = self.handlers.pop(self.drawn())
            status = await asyncio.to_thread(leaving.stop)
            assert status in _IN_ORDER, (
                f"a handler that was told to stop ended with {status}:\n{leaving.log_text()[-3000:]}"
            )

    async def kill_broker(self) -> None:
        """Kill the broker and start it again on its data."""
        await asyncio.to_thread(self.stack.stop, "kafka", kill=True)
        await asyncio.to_thread(self.stack.start, "kafka")

    def keep_evidence(self) -> Path:
        """Keep what tells why a run went wrong, and return the directory, which has the handlers' logs too.

        That is the broker's log, the group as the broker has it, and what each handler was at, which ends them.
        """
        directory = self.ledger.directory
        (directory / "kafka.log").write_text(self.stack.log_text("kafka"))
        for handler in self.handlers.values():
            handler.abort()
        (directory / "group.txt").write_text(self._described())
        return directory

    def _described(self) -> str:
        wiring = self.ledger.wiring()
        group, admin = wiring.handler_group, wiring.clients.admin()
        try:
            found = admin.describe_consumer_groups([group], request_timeout=10)[group].result(20)
        except (KafkaException, TimeoutError) as error:
            return f"{group}: {error}\n"
        lines = [f"{group}: {found.state}, {found.type}, {found.partition_assignor}"]
        lines += [f"{m.group_instance_id}: {m.member_id} {m.assignment.topic_partitions}" for m in found.members]
        return "\n".join(lines) + "\n"


def send(handler: Service, number: int) -> None:
    """Send a signal."""
    assert handler.process is not None
    handler.process.send_signal(number)
