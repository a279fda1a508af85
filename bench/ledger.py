"""What the benchmarks stand on: a ledger of their own on the stack, and commands to fill it with."""

import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from commands.types import Command, PostEntry
from events.money import UNITS_PER_WHOLE
from events.types import EntryType
from partita import stack
from partita.keys import SigningKeys
from partita.settings import Settings, one_database
from partita.wiring import Wiring


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The stack's addresses by name, the pids of its parts, and where services may keep what they can rebuild."""

    addresses: dict[str, str]
    parts: dict[str, int]
    state_dir: Path

    def settings(self) -> Settings:
        """Return the settings of a new, empty ledger."""
        return Settings(
            kafka_bootstrap=self.addresses["kafka_bootstrap"],
            schema_registry_url=self.addresses["schema_registry_url"],
            **one_database(self.addresses["postgres_url"]),
            ledger=f"bench{uuid.uuid4().hex[:10]}",
            state_dir=self.state_dir,
            signing_key_file=self.signing_key_file,
        )

    @property
    def signing_key_file(self) -> Path:
        """A key of their own."""
        path = self.state_dir / "signing.key"
        if not path.exists():
            SigningKeys(path=path, name="partita.local/bench").make()
        return path

    def processes(self, **others: int) -> dict[str, int]:
        """Return the pids to meter: the stack's parts, this process, and others."""
        return {**self.parts, "this": os.getpid(), **others}


def on_stack(directory: Path, state_dir: Path) -> Bench:
    """Return the bench on the stack that is up in `directory`."""
    status = stack.status(directory)
    pids = {part.name: part.pid for part in status.parts if part.pid is not None}
    return Bench(addresses=dict(status.addresses), parts=pids, state_dir=state_dir)


def fill(wiring: Wiring, commands: int, accounts: int) -> None:
    """Put `commands` on the topic, one third debits, none of them a repeat."""
    produce(wiring, ((command, command.account_id) for command in _commands(commands, accounts)))


def produce(wiring: Wiring, commands: Iterable[tuple[Command, str]]) -> None:
    """Put commands on the topic, each under its key."""
    producer = wiring.clients.producer(linger_ms=20, queue_buffering_max_messages=500_000)
    for command, key in commands:
        value = wiring.command_codec.encode(command)
        while True:
            try:
                producer.produce(wiring.topics.commands, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise RuntimeError("the topic could not be filled within a minute")


def _commands(count: int, accounts: int) -> Iterator[PostEntry]:
    for number in range(count):
        yield PostEntry(
            command_id=str(uuid.uuid4()),
            reply_key="bench",
            account_id=f"account-{number % accounts:07d}",
            entry_type=EntryType.DEBIT if number // accounts % 3 == 2 else EntryType.CREDIT,
            amount=(number % 100 + 1) * UNITS_PER_WHOLE // 100,
            asset="USD",
            reference=f"bench-{number}",
        )
