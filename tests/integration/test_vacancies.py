"""A partition that is nobody's though every handler is well: the group shares it out again (docs/adr/0018)."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from events.membership import GroupProtocol, member_name, member_settings
from events.partitioner import partition_of
from partita.wiring import Wiring
from tests.support.services import PARTITIONS, Ledger, eventually

FIRST, SECOND = "h0", "h1"


def _give_up_and_die(bootstrap: str, group: str, topic: str) -> None:
    """Be the first handler; when partitions are to be given up, give them up and end before joining again."""
    member = member_settings(GroupProtocol.CLASSIC, member_name(group, FIRST))
    conf = {name.replace("_", "."): value for name, value in member.items()}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, **conf})

    def on_assign(consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        print("has", len(partitions), flush=True)

    def on_revoke(_: Consumer, partitions: list[TopicPartition]) -> None:
        print("gives up", len(partitions), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    consumer.subscribe([topic], on_assign=on_assign, on_revoke=on_revoke)
    while True:
        consumer.poll(0.1)


def _owned(wiring: Wiring) -> dict[str, int]:
    """Return how many partitions each handler has, as the broker tells it."""
    admin = wiring.clients.admin()
    group = wiring.handler_group
    described = admin.describe_consumer_groups([group], request_timeout=10)[group].result(20)
    return {m.group_instance_id or "": len(m.assignment.topic_partitions) for m in described.members}


def test_a_partition_that_is_nobodys_is_shared_out_again(ledger: Ledger) -> None:
    wiring = ledger.wiring()
    group, topic = wiring.handler_group, wiring.topics.commands
    first = ledger.service("handler", "--instance", FIRST).start()
    ledger.await_handler(first)
    first.kill()

    said = ledger.directory / "dying.log"
    argv = [sys.executable, "-m", "tests.integration.test_vacancies", wiring.clients.bootstrap, group, topic]
    with said.open("w") as log, subprocess.Popen(argv, cwd=Path(__file__).parents[2], stdout=log) as dying:
        try:
            eventually(lambda: said.read_text() == f"has {PARTITIONS}\n")
            second = ledger.service("handler", "--instance", SECOND).start()
            assert dying.wait(30) == -signal.SIGKILL
        finally:
            dying.kill()
    assert said.read_text().endswith(f"gives up {PARTITIONS // 2}\n")
    first.start()
    names = {member_name(group, FIRST), member_name(group, SECOND)}
    eventually(lambda: _owned(wiring).keys() == names)
    assert sum(_owned(wiring).values()) == PARTITIONS // 2  # a rule of Kafka's: else this test tests nothing

    eventually(lambda: sum(_owned(wiring).values()) == PARTITIONS, within=40)
    assert _owned(wiring) == dict.fromkeys(names, PARTITIONS // 2)
    assert "are nobody's" in first.log_text() + second.log_text()
    asyncio.run(_credit_an_account_of_each_partition(ledger))


async def _credit_an_account_of_each_partition(ledger: Ledger) -> None:
    accounts = {partition_of(name, PARTITIONS): name for name in map(str, range(50))}
    assert len(accounts) == PARTITIONS
    async with ledger.engine() as engine:
        for account in accounts.values():
            await engine.create_entry(account, 1, "credit")


if __name__ == "__main__":
    _give_up_and_die(*sys.argv[1:])
