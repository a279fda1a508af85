"""Replaying the log for one's own consumers: every event of the stretch, in order, with exact amounts."""

import json
import subprocess
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # exported, if not by name

from partita import LedgerEngine
from tests.support.services import Ledger

Account = Callable[[], str]


def replayed(ledger: Ledger, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "partita", "replay", *arguments]
    return subprocess.run(command, env=ledger.environment(), capture_output=True, text=True, timeout=60)


async def test_the_events_of_a_stretch_come_in_order_with_exact_amounts(
    running: Ledger, engine: LedgerEngine, account: Account, tmp_path: Path
) -> None:
    alice = account()
    posted = [await engine.create_entry(alice, "0.000000000000000001", "credit", metadata={"n": n}) for n in range(5)]
    file = tmp_path / "events.jsonl"
    done = replayed(running, "--to-json", str(file), "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in file.read_text().split("\n")[:-1]]  # texts may have other ends of lines
    assert json.loads(done.stdout)["events"] == len(events)
    sequences: defaultdict[int, list[int]] = defaultdict(list)
    for event in events:
        sequences[event["partition"]].append(event["sequence"])
    assert all(found == list(range(len(found))) for found in sequences.values())
    mine: list[dict[str, Any]] = [event for event in events if event.get("account_id") == alice]
    assert [event["running_balance"] for event in mine] == [f"0.{n:018}" for n in range(1, 6)]
    assert [event["metadata"] for event in mine] == [{"n": n} for n in range(5)]
    assert [event["recorded_at"] for event in mine] == [entry.recorded_at.isoformat() for entry in posted]
    stretch = f"{mine[1]['partition']}:{mine[1]['offset']}", f"{mine[3]['partition']}:{mine[3]['offset']}"
    part = replayed(running, "--from", stretch[0], "--to", stretch[1], "--to-json", "-")
    assert [json.loads(line)["sequence"] for line in part.stdout.split("\n")[:-1]] == [
        event["sequence"] for event in mine[1:3]
    ]
    later = replayed(running, "--from", "2999-01-01T00:00:00Z", "--to-json", "-")
    assert (later.returncode, later.stdout) == (0, "")


async def test_a_topic_of_ones_own_gets_the_keys_and_the_ledgers_topics_nothing(
    running: Ledger, engine: LedgerEngine, account: Account
) -> None:
    alice = account()
    entry = await engine.create_entry(alice, 3, "credit")
    wiring = running.wiring()
    topic = f"mine-{uuid.uuid4().hex[:8]}"
    admin = wiring.clients.admin()
    for made in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        made.result(30)
    done = replayed(running, "--from", f"{entry.partition}:0", "--to-topic", topic, "--json")
    assert done.returncode == 0, done.stderr
    from events.follow import Ends, read_between  # noqa: PLC0415

    end = Ends(wiring.clients).stable(topic, [0], timeout=10)
    records = [record for records in read_between(wiring.clients, topic, {0: 0}, end) for record in records]
    assert len(records) == json.loads(done.stdout)["events"] > 0
    mine = [record for record in records if record.key == alice.encode()]
    assert [json.loads(record.value or b"")["amount"] for record in mine] == ["3"]
    for removed in admin.delete_topics([topic]).values():
        removed.result(30)
    refused = replayed(running, "--to-topic", wiring.topics.events)
    assert refused.returncode == 2
    assert replayed(running, "--to-json", "-", "--from", "yesterday").returncode == 1
