"""The mirror on the real stack: every event is in immudb once, verified, whoever is killed."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from events.errors import LedgerError
from events.merkle import ProofInvalid
from projections.immudb.client import ImmudbClient
from projections.immudb.errors import ImmudbTampered
from projections.immudb.mirror import Mirror
from projections.immudb.mirrored import key_of, value_of, verify_receipt_part
from projections.immudb.trust import TrustFile
from projections.immudb.verified import VerifiedDatabase
from projections.mirror import ImmudbMirror
from projections.service import Progress, run_projection
from tests.projections.log import TestLedger, account_in
from tests.support.immudb import address, messages, new_database
from tests.support.stack import NativeStack, Stack

EVENTS = 12_000


@pytest.fixture
def immudb(full_stack: Stack, tmp_path: Path) -> Iterator[VerifiedDatabase]:
    with new_database(full_stack, tmp_path / "state.json") as made:
        yield made


@asynccontextmanager
async def mirroring(
    ledger: TestLedger, immudb: VerifiedDatabase, **settings: Any
) -> AsyncIterator[Callable[..., Any]]:
    """Run the mirror in this process; gives what waits until its progress is as wanted."""
    stop, changed, seen = asyncio.Event(), asyncio.Event(), [Progress(0, {})]

    def note(progress: Progress) -> None:
        seen[0] = progress
        changed.set()

    task = asyncio.create_task(
        run_projection(
            ledger.clients,
            ledger.topics,
            ledger.codec,
            ledger.database,
            ImmudbMirror(immudb, ledger.topics.events),
            **{"ledger": ledger.name, "stop": stop, "on_progress": note, **settings},
        )
    )

    async def until(condition: Callable[[Progress], bool]) -> Progress:
        async with asyncio.timeout(60):
            while not condition(seen[0]):
                changed.clear()
                noted = asyncio.create_task(changed.wait())
                await asyncio.wait([noted, task], return_when=asyncio.FIRST_COMPLETED)
                noted.cancel()
                if task.done() and not condition(seen[0]):
                    await task
                    raise AssertionError("the mirror ended")
        return seen[0]

    try:
        yield until
    finally:
        stop.set()
        with suppress(LedgerError):
            await task


def fill(ledger: TestLedger, count: int = EVENTS) -> None:
    ledger.append(ledger.writer.post(f"a-{number % 300}") for number in range(count))


def mirrored(ledger: TestLedger, immudb: VerifiedDatabase) -> dict[str, bytes]:
    """Return all that immudb has of the ledger, by key, in the order of a scan."""
    found: dict[str, bytes] = {}
    client, after = immudb._client, b""
    while page := client.scan(ledger.topics.events.encode(), after=after, limit=1000):
        found |= {entry.key.decode(): entry.value for entry in page}
        after = page[-1].key
    return found


def all_keys(ledger: TestLedger) -> list[str]:
    sequences = sorted(ledger.writer.sequences.items())
    return [key_of(ledger.topics.events, p, n).decode() for p, count in sequences for n in range(count)]


async def everything_is_there_once(ledger: TestLedger, immudb: VerifiedDatabase) -> None:
    found = await asyncio.to_thread(mirrored, ledger, immudb)
    assert list(found) == all_keys(ledger)
    for partition, event in ledger.writer.posted[:: len(ledger.writer.posted) // 50 or 1]:
        data = ledger.codec.encode(event)
        assert found[key_of(ledger.topics.events, partition, event.sequence).decode()] == value_of(data)
    written = {entry.tx for key in (all_keys(ledger)[0], all_keys(ledger)[-1]) for entry in find(immudb, key)}
    assert all(written)
    rows = await ledger.fetch("SELECT partition, next_sequence FROM positions WHERE projection = 'mirror'")
    assert dict(map(tuple, rows)) == ledger.writer.sequences


def find(immudb: VerifiedDatabase, key: str) -> list[Any]:
    return immudb._client.find([key.encode()])


async def test_every_event_is_mirrored_and_can_be_proven_offline(
    ledger: TestLedger, immudb: VerifiedDatabase
) -> None:
    await asyncio.to_thread(fill, ledger, 3000)
    async with mirroring(ledger, immudb) as until:
        await until(lambda progress: progress.events == 3004)
        ledger.append([ledger.writer.post("late")])
        await until(lambda progress: progress.events == 3005)
    await everything_is_there_once(ledger, immudb)
    mirror, (partition, event) = Mirror(immudb, ledger.topics.events), ledger.writer.posted[7]
    part = json.loads(json.dumps(await asyncio.to_thread(mirror.receipt_part, partition, event.sequence)))
    place: dict[str, Any] = {"topic": ledger.topics.events, "partition": partition, "sequence": event.sequence}
    data = ledger.codec.encode(event)
    shown = verify_receipt_part(part, **place, event=data)
    assert shown.target.alh.hex() == json.loads(immudb._trust.path.read_text())["alh"]
    assert verify_receipt_part(part, **{**place, "topic": None}, event=data) == shown
    for wrong in ({"sequence": event.sequence + 1}, {"partition": partition + 1}, {"topic": "t"}, {"event": b""}):
        with pytest.raises(ProofInvalid):
            verify_receipt_part(part, **{**place, "event": data, **wrong})
    assert await asyncio.to_thread(mirror.find, partition, 10**6) is None


async def test_what_was_mirrored_before_the_position_moved_is_found_to_be_there(
    ledger: TestLedger, immudb: VerifiedDatabase
) -> None:
    await asyncio.to_thread(fill, ledger, 2500)
    async with mirroring(ledger, immudb) as until:
        await until(lambda progress: progress.events == 2504)
    before = await asyncio.to_thread(immudb.catch_up)
    await ledger.execute(
        "UPDATE positions SET next_offset = 0, next_sequence = 0, writer_epoch = 0 WHERE projection = 'mirror'"
    )
    async with mirroring(ledger, immudb) as until:
        await until(lambda progress: progress.events == 2504)
    assert (await asyncio.to_thread(immudb.catch_up)).tx == before.tx
    await everything_is_there_once(ledger, immudb)


async def test_another_value_halts_its_partition_and_no_other(ledger: TestLedger, immudb: VerifiedDatabase) -> None:
    victim, other = account_in(0, 4), account_in(1, 4)
    await asyncio.to_thread(immudb.keep, [(key_of(ledger.topics.events, 0, 3), b"forged")])
    ledger.append([ledger.writer.post(account) for account in (victim, other) for _ in range(5)])
    async with mirroring(ledger, immudb) as until:
        progress = await until(lambda progress: bool(progress.halted))
        assert "holds another value" in progress.halted[0]
        ledger.append([ledger.writer.post(other)])
        await until(lambda progress: progress.events == 3 + 7 + 2)
    rows = await ledger.fetch(
        "SELECT next_sequence, halted FROM positions WHERE projection = 'mirror' ORDER BY partition"
    )
    assert [row["next_sequence"] for row in rows] == [3, 7, 1, 1]
    assert "sequence 3" in rows[0]["halted"]


async def test_what_is_written_over_in_immudb_is_told(ledger: TestLedger, immudb: VerifiedDatabase) -> None:
    ledger.append([ledger.writer.post("alice")])
    async with mirroring(ledger, immudb) as until:
        await until(lambda progress: progress.events == 5)
    (partition, event) = ledger.writer.posted[0]
    other = messages().KeyValue(key=key_of(ledger.topics.events, partition, 1), value=value_of(b"other"))
    await asyncio.to_thread(immudb._client._call, "Set", messages().SetRequest(KVs=[other]))
    with pytest.raises(ImmudbTampered, match="more than once"):
        await asyncio.to_thread(Mirror(immudb, ledger.topics.events).find, partition, event.sequence)


@contextmanager
def process(ledger: TestLedger, immudb: NativeStack, directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `partita run mirror`; it is killed at the end if it still runs."""
    settings = {
        "KAFKA_BOOTSTRAP": ledger.addresses["kafka_bootstrap"],
        "SCHEMA_REGISTRY_URL": ledger.addresses["schema_registry_url"],
        "POSTGRES_URL": ledger.addresses["postgres_url"],
        "LEDGER": ledger.name,
        "PARTITIONS": 4,
        "STATE_DIR": directory,
        "IMMUDB_HOST": immudb.addresses["immudb_host"],
        "IMMUDB_PORT": immudb.addresses["immudb_port"],
        "IMMUDB_DATABASE": "mirrored",
    }
    environment = {**os.environ, **{f"PARTITA_{name}": str(value) for name, value in settings.items()}}
    command = [sys.executable, "-m", "partita", "run", "mirror"]
    with (directory / "log").open("ab") as log, subprocess.Popen(command, env=environment, stderr=log) as service:
        try:
            yield service
        finally:
            service.kill()


async def test_the_mirror_and_immudb_are_killed_in_mid_stream(
    ledger: TestLedger, own_immudb: NativeStack, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    await asyncio.to_thread(fill, ledger)
    with process(ledger, own_immudb, tmp_path / "state"):
        await past(ledger, 1000)
    with process(ledger, own_immudb, tmp_path / "state") as service:
        await past(ledger, 6000)
        own_immudb.stop("immudb", kill=True)
        ledger.append([ledger.writer.post("late")])
        own_immudb.start("immudb")
        await past(ledger, EVENTS + 5)
        service.terminate()
        assert await asyncio.to_thread(service.wait, 30) == 0, (tmp_path / "state" / "log").read_text()[-3000:]
    file = TrustFile(tmp_path / "state" / "immudb-trusted" / "mirrored.json")
    immudb = VerifiedDatabase(ImmudbClient(address(own_immudb, "mirrored")), file)
    await everything_is_there_once(ledger, immudb)
    immudb.close()


async def past(ledger: TestLedger, count: int) -> int:
    """Wait until the mirror has got past so many events, and return how many they are."""
    async with asyncio.timeout(60):
        while True:
            rows = await ledger.fetch("SELECT sum(next_sequence) FROM positions WHERE projection = 'mirror'")
            reached = int(rows[0][0] or 0)
            if reached >= count:
                return reached
            await asyncio.sleep(0.01)


def test_keys_are_in_the_order_of_the_log() -> None:
    places = [(0, 0), (0, 9), (0, 10), (1, 0), (9, 2**40), (10, 0), (999, 1)]
    assert [key_of("ledger.events", *place) for place in places] == sorted(
        key_of("ledger.events", *place) for place in places
    )
    assert key_of("ledger.events", 3, 42) == b"ledger.events/0003/00000000000000000042"
