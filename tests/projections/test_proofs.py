"""The proofs projection on the real stack: the trees are the log's, and a checkpoint that is not is found."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import TypeVar

import asyncpg
import pytest

from events.checkpoint import Checkpoint, Signer, Verifier, origin_of, sign
from events.checks import CheckResult
from events.follow import StoredEvent, find_event, read_all
from events.merkle import leaf_hash, root_of, verify_consistency, verify_inclusion
from projections.comparison import Comparison
from projections.errors import PartitionsHalted, TreeDamaged
from projections.proofs.audit import TileAudit
from projections.proofs.following import CHECKPOINTS, follow_checkpoints
from projections.proofs.projection import PROOFS, Proofs
from projections.proofs.queries import ProofReader
from projections.queries import ReadModel
from tests.projections.conftest import projecting
from tests.projections.log import TestLedger, account_in
from tests.support.receipts import grown

T = TypeVar("T")

SIGNER = Signer.generate("ledger.example/t")


@pytest.fixture
def alice(ledger: TestLedger) -> str:
    return account_in(1, ledger.writer.partitions)


class Log:
    """What a test has appended to partition 1, and the checkpoints that go with it."""

    def __init__(self, ledger: TestLedger, alice: str) -> None:
        self.ledger = ledger
        self.alice = alice
        self.leaves = [ledger.codec.encode(ledger.writer.open(1)._replace(sequence=0))]
        ledger.writer.sequences[1] = 1

    def post(self, count: int) -> None:
        events = [self.ledger.writer.post(self.alice) for _ in range(count)]
        self.leaves += [self.ledger.codec.encode(event) for _, event in events]
        self.ledger.append_in_transaction(events, commit=True)

    def root(self, size: int) -> bytes:
        return root_of(grown(self.leaves[:size]))

    def publish(self, size: int, root: bytes | None = None, signer: Signer = SIGNER) -> str:
        note = sign(Checkpoint(origin_of("ledger.example/t", 1), size, root or self.root(size)), [signer])
        self.produce(note.encode())
        return note

    def publish_of_another(self, partition: int) -> None:
        """Publish the tree of the only event of another partition."""
        opened = self.ledger.codec.encode(self.ledger.writer.open(partition)._replace(sequence=0))
        head = Checkpoint(origin_of("ledger.example/t", partition), 1, leaf_hash(opened))
        self.produce(sign(head, [SIGNER]).encode())

    def produce(self, value: bytes) -> None:
        producer = self.ledger.clients.producer()
        producer.produce(self.ledger.topics.checkpoints, value)
        assert producer.flush(30) == 0


@pytest.fixture
def log(ledger: TestLedger, alice: str) -> Log:
    return Log(ledger, alice)


@asynccontextmanager
async def following(
    ledger: TestLedger, verifiers: Sequence[Verifier] = (SIGNER.verifier,), *, growing: bool = True
) -> AsyncIterator[None]:
    """Run what follows the checkpoints, and the projection if trees grow; at the end, raises what that raises."""
    stop = asyncio.Event()
    async with projecting(ledger, Proofs()) if growing else nullcontext():
        task = asyncio.create_task(
            follow_checkpoints(
                ledger.clients,
                ledger.topics,
                ledger.database,
                lambda: verifiers,
                origin="ledger.example/t",
                partition_count=ledger.writer.partitions,
                stop=stop,
            )
        )
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(30):
                await task


async def until(question: Callable[[], Awaitable[T | None]]) -> T:
    """Return the answer to a question once it has one."""
    async with asyncio.timeout(30):
        while not (answer := await question()):  # noqa: ASYNC110  # nothing in this process says when
            await asyncio.sleep(0.02)
        return answer


async def until_checkpoint(proofs: ProofReader, size: int, partition: int = 1) -> None:
    async def is_there() -> bool:
        newest = await proofs.newest_of(partition)
        return newest is not None and newest.tree_size >= size

    await until(is_there)


async def until_halted(reader: ReadModel) -> str:
    async def reason() -> str | None:
        return next((row.halted for row in (await reader.positions(CHECKPOINTS)).values() if row.halted), None)

    return await until(reason)


async def test_proofs_of_every_kind_come_from_the_tables(ledger: TestLedger, log: Log, reader: ReadModel) -> None:
    proofs = ProofReader(reader, ledger.database.schema)
    log.post(299)
    first = log.publish(300)
    async with following(ledger):
        await until_checkpoint(proofs, 300)
        log.post(400)
        second = log.publish(700)
        await until_checkpoint(proofs, 700)
    (newest,) = await proofs.newest()
    assert (newest.note, newest.root, newest.public_key) == (second, log.root(700), str(SIGNER.verifier))
    rows = await ledger.fetch("SELECT note FROM checkpoints ORDER BY tree_size")
    assert [row["note"] for row in rows] == [first, second]
    for index in (0, 1, 255, 256, 511, 512, 698, 699):
        shown = await proofs.inclusion(1, index, 700)
        assert shown.leaf == leaf_hash(log.leaves[index])
        verify_inclusion(shown.leaf, index, 700, shown.proof, log.root(700))
        found = await asyncio.to_thread(
            find_event,
            ledger.clients,
            ledger.topics.events,
            ledger.codec,
            (1, shown.first_offset),
            index,
            timeout=20,
        )
        assert (found.data, found.event.sequence) == (log.leaves[index], index)
    for old in (0, 1, 255, 256, 300, 699, 700):
        proof = await proofs.consistency(1, old, 700)
        verify_consistency(old, 700, log.root(old), log.root(700), proof)
    with pytest.raises(TreeDamaged):
        await proofs.consistency(1, 300, 800)


async def test_a_checkpoint_waits_for_its_events(ledger: TestLedger, log: Log, reader: ReadModel) -> None:
    proofs = ProofReader(reader, ledger.database.schema)
    early = log.ledger.writer.post(log.alice)
    log.leaves.append(ledger.codec.encode(early[1]))
    log.publish(2)
    async with following(ledger):
        await until(lambda: reader.positions(CHECKPOINTS))
        assert await proofs.newest_of(1) is None
        ledger.append([early])
        await until_checkpoint(proofs, 2)


@pytest.mark.parametrize("bad", ["shorter", "other root", "other key"])
async def test_a_checkpoint_that_is_not_of_the_log_halts_for_good(
    ledger: TestLedger, log: Log, reader: ReadModel, bad: str
) -> None:
    proofs = ProofReader(reader, ledger.database.schema)
    log.post(9)
    log.publish(10)
    log.post(5)
    why = publish_bad(log, bad)
    log.publish(15)
    with pytest.raises(PartitionsHalted, match=why):
        await halts(ledger, reader)
    (newest,) = await proofs.newest()
    assert newest.tree_size == 10


async def test_a_bad_record_halts_the_checkpoints_of_its_partition_and_no_others(
    ledger: TestLedger, log: Log, reader: ReadModel
) -> None:
    proofs, other = ProofReader(reader, ledger.database.schema), Signer.generate("ledger.example/t")
    log.post(9)
    log.publish(10)
    log.produce(b"no checkpoint")
    log.produce(sign(Checkpoint("ledger.example/t/99", 1, b"\0" * 32), [SIGNER]).encode())
    log.produce(sign(Checkpoint("ledger.example/other/1", 1, b"\0" * 32), [SIGNER]).encode())
    log.post(5)
    log.publish(12, signer=other)
    log.publish(13)
    log.publish_of_another(2)
    with pytest.raises(PartitionsHalted, match="none of the keys has signed it") as halted:  # noqa: PT012
        async with following(ledger):
            await until_checkpoint(proofs, 1, 2)
            await until_halted(reader)
            log.publish(14)
            log.publish_of_another(3)
            await until_checkpoint(proofs, 1, 3)
    assert halted.value.reasons.keys() == {1}
    assert {row.partition for row in (await reader.positions(CHECKPOINTS)).values() if row.halted} == {1}
    assert [row.tree_size for row in await proofs.newest()] == [10, 1, 1]

    async with following(ledger, (SIGNER.verifier, other.verifier)):  # whose key it was has become known
        await until_checkpoint(proofs, 14)
    assert not any(row.halted for row in (await reader.positions(CHECKPOINTS)).values())
    page = await proofs.history(1)
    assert [row.tree_size for row in page.checkpoints] == [10, 12, 13, 14]


async def test_a_partition_whose_tree_is_late_or_has_stopped_does_not_hold_up_the_others(
    ledger: TestLedger, log: Log, reader: ReadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.proofs.following.BATCH", 3)
    monkeypatch.setattr("projections.proofs.following.MOST_READ_AGAIN", 0)
    proofs = ProofReader(reader, ledger.database.schema)
    log.post(2)
    log.publish(3)
    async with following(ledger):
        await until_checkpoint(proofs, 3)
    log.post(6)
    log.publish(4)
    log.publish_of_another(2)
    async with following(ledger, growing=False):
        await until_checkpoint(proofs, 1, 2)
        await ledger.execute("UPDATE positions SET halted = 'x' WHERE (projection, partition) = ('proofs', 1)")
        for size in range(5, 10):
            log.publish(size)
        log.publish_of_another(3)
        await until_checkpoint(proofs, 1, 3)
        assert (await proofs.newest_of(1)).tree_size == 3  # type: ignore[union-attr]  # it has one
        async with projecting(ledger, Proofs()):  # the tree goes on, and its checkpoints are read again
            await until_checkpoint(proofs, 9)
    page = await proofs.history(1)
    assert [row.tree_size for row in page.checkpoints] == [3, 4, 5, 6, 7, 8, 9]


async def halts(ledger: TestLedger, reader: ReadModel) -> None:
    async with following(ledger):
        await until_halted(reader)


def publish_bad(log: Log, bad: str) -> str:
    match bad:
        case "shorter":
            log.publish(8)
            return "a tree of 8 after one of 10 events was signed"
        case "other root":
            log.publish(12, root=b"\x07" * 32)
            return f"{'07' * 32} was signed"
        case _:
            log.publish(12, signer=Signer.generate("ledger.example/t"))
            return "none of the keys has signed it"


async def test_a_tree_goes_on_where_the_service_before_has_left_it(
    ledger: TestLedger, log: Log, reader: ReadModel
) -> None:
    proofs = ProofReader(reader, ledger.database.schema)
    for _ in range(3):
        log.post(130)
        async with following(ledger):
            log.publish(len(log.leaves))
            await until_checkpoint(proofs, len(log.leaves))
    rows = await ledger.fetch("SELECT level, number, hashes FROM tiles WHERE partition = 1 ORDER BY 1, 2")
    assert [(row["level"], row["number"], len(row["hashes"]) // 32) for row in rows] == [
        (0, 0, 256),
        (0, 1, 135),
        (1, 0, 1),
    ]
    assert b"".join(row["hashes"] for row in rows[:2]) == b"".join(map(leaf_hash, log.leaves))


async def test_a_tile_that_was_changed_is_found(ledger: TestLedger, log: Log, reader: ReadModel) -> None:
    proofs = ProofReader(reader, ledger.database.schema)
    log.post(9)
    async with following(ledger):
        log.publish(10)
        await until_checkpoint(proofs, 10)
    await ledger.execute(
        "UPDATE tiles SET hashes = set_byte(hashes, 40, 1 - get_byte(hashes, 40) % 2) WHERE partition = 1"
    )
    log.post(1)
    log.publish(11)
    with pytest.raises(PartitionsHalted, match="the tree of the first 11 events has the root"):
        await halts(ledger, reader)


async def test_checkpoints_are_append_only(ledger: TestLedger, log: Log, reader: ReadModel) -> None:
    log.publish(1)
    async with following(ledger):
        await until_checkpoint(ProofReader(reader, ledger.database.schema), 1)
    for statement in ("UPDATE checkpoints SET note = ''", "DELETE FROM checkpoints", "TRUNCATE checkpoints"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await ledger.execute(statement)


WRONG = {
    "a hash of a full tile": (
        "UPDATE tiles SET hashes = set_byte(hashes, 33, 255 - get_byte(hashes, 33)) WHERE (level, number) = (0, 1)",
        "partition 1, tile 1 of level 0: the hash of event 257 is not that of the log",
    ),
    "a hash of the last tile": (
        "UPDATE tiles SET hashes = set_byte(hashes, 0, 255 - get_byte(hashes, 0)) WHERE (level, number) = (0, 2)",
        "partition 1, tile 2 of level 0: the hash of event 512 is not that of the log",
    ),
    "a hash above": (
        "UPDATE tiles SET hashes = set_byte(hashes, 40, 255 - get_byte(hashes, 40)) WHERE level = 1",
        "partition 1, tile 0 of level 1: the hash of events 256 to 511 is not that of the log",
    ),
    "a tile cut short": (
        "UPDATE tiles SET hashes = substr(hashes, 1, 32 * 100) WHERE (level, number) = (0, 0)",
        "partition 1, tile 0 of level 0: the hash of event 100 is not that of the log",
    ),
    "a tile with more": (
        "UPDATE tiles SET hashes = hashes || substr(hashes, 1, 32) WHERE (level, number) = (0, 2)",
        "partition 1, tile 2 of level 0: the hash of event 700 is not that of the log",
    ),
    "a tile gone": (
        "DELETE FROM tiles WHERE (level, number) = (0, 1)",
        "partition 1, tile 1 of level 0 is not there",
    ),
    "one too many": (
        "INSERT INTO tiles SELECT 1, 2, 0, hashes, NULL FROM tiles WHERE level = 1",
        "partition 1, tile 0 of level 2: the log's tree has no such tile",
    ),
    "of another partition": (
        "INSERT INTO tiles SELECT 99, level, number, hashes, first_offset FROM tiles WHERE level = 1",
        "partition 99, tile 0 of level 1: the log's tree has no such tile",
    ),
    "where a tile begins": (
        "UPDATE tiles SET first_offset = 3 WHERE (level, number) = (0, 2)",
        "partition 1, tile 2 of level 0 begins at offset 51",
    ),
    "how far the tiles are": (
        "UPDATE positions SET next_sequence = 701 WHERE (projection, partition) = ('proofs', 1)",
        "partition 1: the tables have a tree of 701 events, and the log has 700 of them",
    ),
}


async def audited(ledger: TestLedger, events: Sequence[StoredEvent], size: int) -> CheckResult:
    """Hold the log against the tiles, in stretches of `size` events."""
    async with Comparison(ledger.database) as moment:
        audit = TileAudit(moment.fetch, await moment.next_sequences(PROOFS))
        for at in range(0, len(events), size):
            await audit.take(events[at : at + size])
        return await audit.result()


async def test_every_tile_that_is_not_of_the_log_is_named(ledger: TestLedger, log: Log, reader: ReadModel) -> None:
    proofs = ProofReader(reader, ledger.database.schema)
    async with following(ledger):
        for count in (299, 400):  # from one transaction to the next offsets leave a gap
            log.post(count)
            log.publish(len(log.leaves))
            await until_checkpoint(proofs, len(log.leaves))
    partitions = range(ledger.writer.partitions)
    stretches = read_all(ledger.clients, ledger.topics.events, ledger.codec, partitions)
    events = [stored for stretch in stretches for stored in stretch]
    for size in (1, 100, 256, 1000):
        found = await audited(ledger, events, size)
        assert (found.ok, found.checked) == (True, 4 + 3), found.detail
    for change, told in WRONG.values():
        await ledger.execute("CREATE TABLE saved AS TABLE tiles; CREATE TABLE at AS TABLE positions")
        await ledger.execute(change)
        for size in (100, 1000):
            found = await audited(ledger, events, size)
            assert not found.ok
            assert (found.detail or "").startswith(told)
        await ledger.execute(
            "DELETE FROM tiles; INSERT INTO tiles TABLE saved; DROP TABLE saved;"
            "DELETE FROM positions; INSERT INTO positions TABLE at; DROP TABLE at"
        )
    assert (await audited(ledger, events, 700)).ok
