"""Tables made anew on the real stack: the same as the live ones, exchanged while everything goes on."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import asyncpg
import pytest

from events.follow import StoredEvent
from projections.balances import Balances
from projections.checks import check_all
from projections.comparison import Comparison
from projections.errors import (
    PositionConflict,
    ReadModelUnavailable,
    RebuildBlocked,
    RebuildDiffers,
    RebuildRefused,
    RebuildRunning,
)
from projections.proofs.projection import Proofs
from projections.queries import ReadModel
from projections.rebuild import building
from projections.rebuild import run as rebuild_run
from projections.rebuild.places import Places
from projections.rebuild.results import Rebuilt
from projections.rebuild.run import drop_new, drop_old, rebuild
from projections.roles import Roles, grants
from projections.snapshots.projection import Snapshots
from projections.store import Projection, Store
from tests.projections.batches import of_batches
from tests.projections.conftest import projecting
from tests.projections.log import UNIT, TestLedger, account_in

PROJECTIONS: tuple[Projection[Any], ...] = (Balances(), Snapshots(), Proofs())


async def rebuilt(ledger: TestLedger, projection: Projection[Any] | None = None, **options: Any) -> Rebuilt:
    return await rebuild(
        ledger.clients,
        ledger.topics,
        ledger.codec,
        ledger.database,
        projection or Balances(),
        **{"ledger": ledger.name, **options},
    )


async def live(ledger: TestLedger, count: int, projection: Projection[Any] | None = None, **settings: Any) -> None:
    """Let the projection have all that is in the log."""
    async with projecting(ledger, projection, **settings) as service:
        await service.until(lambda progress: progress.events >= count)


async def clean(ledger: TestLedger) -> None:
    for projection in PROJECTIONS:
        await drop_old(ledger.database, projection)
        await drop_new(ledger.database, projection)


@pytest.fixture(autouse=True)
async def nothing_is_left(ledger: TestLedger) -> AsyncIterator[None]:
    yield
    await clean(ledger)


async def everything_holds(ledger: TestLedger) -> None:
    assert [str(check) for check in await check_all(ledger.database) if not check.ok] == []


async def test_new_tables_are_the_live_ones_and_the_old_are_kept(ledger: TestLedger) -> None:
    """Of a ledger with batches, holds, locks and late entries; the stretches in which the log was read differ."""
    story = [(s.partition, s.event) for s in of_batches(3).events() if s.event.sequence]
    ledger.append(story)
    for partition, event in story:
        ledger.writer.sequences[partition] = event.sequence + 1
    ledger.append([ledger.writer.post("late", 5 * UNIT, effective_at=7), ledger.writer.reject("late")])
    count = len(story) + 6
    for projection in PROJECTIONS:
        await live(ledger, count, projection, batch_size=9)
        done = await rebuilt(ledger, projection)
        assert (done.differences, done.not_carried_over, done.halted) == ([], [], {})
        assert done.positions == ledger.writer.sequences
        for table in projection.tables:
            pair = f"(SELECT * FROM {table} {{}} SELECT * FROM {done.old_schema}.{table})"
            if table in ("snapshot_corrections", "snapshot_totals"):
                continue  # some have rows of zeros
            assert await ledger.fetch(f"{pair.format('EXCEPT')} UNION ALL {pair.format('EXCEPT')}") == [], table
            assert await ledger.fetch(f"SELECT FROM {done.old_schema}.{table} LIMIT 1") or table == "holds", table
        assert len(await ledger.fetch(f"SELECT * FROM {done.old_schema}.positions")) == 4
        assert sorted(await drop_old(ledger.database, projection)) == sorted((*projection.tables, "positions"))
        assert await ledger.fetch("SELECT to_regnamespace($1)", done.old_schema) == [(None,)]
    await everything_holds(ledger)


async def test_damage_is_named_and_mended(ledger: TestLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a rebuild has ended beyond the place where the damage can be seen."""
    ledger.append(ledger.writer.post(f"a-{n % 7}") for n in range(200))
    await live(ledger, 204)
    entry = "entry_id = '0-3'"
    await ledger.execute(
        "ALTER TABLE entries DISABLE TRIGGER append_only; "
        f"UPDATE entries SET amount = amount + 1 WHERE {entry}; DELETE FROM balances WHERE account_id = 'a-2'; "
        "UPDATE balances SET balance = 0.5 WHERE account_id = 'a-1'; ALTER TABLE entries ENABLE TRIGGER append_only; "
        "UPDATE positions SET next_sequence = 999 WHERE partition = 3; "
        "INSERT INTO accounts SELECT 'ghost', status, permanent, floor, assets, account_type, reference, metadata, "
        "version, partition, sequence, opened_at, updated_at FROM accounts LIMIT 1"
    )
    with pytest.raises(RebuildDiffers) as refused:
        await rebuilt(ledger)
    named = refused.value.details["differences"]
    found = {(each["table"], *each["key"].values()): each["what"] for each in named}
    assert "next_sequence is 999 in the live table" in found["positions", "3"]
    assert found["entries", "0-3"] == "amount is 2 in the live table, 1 in the log"
    assert found["balances", "a-2", "USD"] == "the row is not in the live table"
    assert "balance is 0.5 in the live table" in found["balances", "a-1", "USD"]
    assert found["accounts", "ghost"] == "the row is in the live table only"
    assert len(found) == 5
    assert (await ledger.fetch(f"SELECT amount FROM entries WHERE {entry}"))[0][0] == 2
    ledger.append([ledger.writer.post(account_in(0, 4))])
    with monkeypatch.context() as patch:
        patch.setattr(building, "finish", Mock(side_effect=RuntimeError("ended")))
        with pytest.raises(RuntimeError, match="ended"):
            await rebuilt(ledger, accept_differences=True)
    with pytest.raises(RebuildDiffers) as refused:
        await rebuilt(ledger)
    assert refused.value.details["differences"] == named
    done = await rebuilt(ledger, accept_differences=True)
    assert [each.to_dict() for each in done.differences] == named
    assert done.events == 0  # it was built before
    await ledger.rows_are_the_log()
    await everything_holds(ledger)


@asynccontextmanager
async def meanwhile(*calls: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Make each call again and again as long as this lasts, and fail if one failed."""
    stop = asyncio.Event()

    async def repeat(call: Callable[[], Awaitable[None]]) -> None:
        while not stop.is_set():
            await call()

    tasks = [asyncio.create_task(repeat(call)) for call in calls]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def test_readers_see_no_gap_and_the_service_goes_on(ledger: TestLedger) -> None:
    accounts = [f"a-{n}" for n in range(40)]
    ledger.append(ledger.writer.post(name) for name in accounts for _ in range(50))
    seen: dict[str, int] = dict.fromkeys(accounts, 0)
    slowest = 0.0
    answers = 0

    async def post() -> None:
        count = len(ledger.writer.posted)
        events = [ledger.writer.post(accounts[n % 40]) for n in range(count, count + 20)]
        await asyncio.to_thread(ledger.append, events)

    async with ReadModel(ledger.database, connections=4) as reader, projecting(ledger) as service:
        await service.until(lambda progress: progress.events >= 2004)
        loop = asyncio.get_running_loop()

        def asking(offset: int) -> Callable[[], Awaitable[None]]:
            async def ask() -> None:
                nonlocal slowest, answers
                name = accounts[(answers + offset) % 40]
                before, begun = seen[name], loop.time()
                account = await reader.account(name)
                page = await reader.entries(name, limit=3, newest_first=True)
                balance = await reader.balance(name, "USD")
                slowest = max(slowest, loop.time() - begun)
                (told,) = account.balances
                assert before <= account.version <= page.entries[0].version <= balance.version
                assert told.balance == account.version
                assert page.entries[0].running_balance == page.entries[0].version
                seen[name] = max(seen[name], balance.version)
                answers += 1

            return ask

        async with meanwhile(post, asking(0), asking(13), asking(26)):
            for _ in range(2):
                done = await rebuilt(ledger)
                assert done.differences == []
                assert sum(done.positions.values()) > 2004
                await drop_old(ledger.database, Balances())
        await reader.wait_for(ledger.wanted(), 20)
        assert service.progress.halted == {}
    assert answers > 100
    assert slowest < 5
    await ledger.rows_are_the_log()
    await everything_holds(ledger)


async def test_a_service_with_a_stale_position_writes_nothing(ledger: TestLedger) -> None:
    ledger.append(ledger.writer.post("alice") for _ in range(10))
    store: Store[Any] = Store(ledger.database, Balances())
    await store.open()
    before = await store.positions(4)
    done = await rebuilt(ledger)  # beyond the live ones, which are empty
    assert done.positions == ledger.writer.sequences
    partition, event = ledger.writer.posted[0]
    with pytest.raises(PositionConflict):
        await store.write(
            [StoredEvent(partition, event.sequence, b"", event)], {partition: before[partition].next_offset}
        )
    await store.close()
    await ledger.rows_are_the_log()


async def test_what_was_halted_goes_on_without_a_restart(ledger: TestLedger) -> None:
    await ledger.execute("ALTER TABLE entries ADD CONSTRAINT somebodys CHECK (amount < 5)")
    victim, other = account_in(0, 4), account_in(1, 4)
    ledger.append([ledger.writer.post(victim, 9 * UNIT), ledger.writer.post(other), ledger.writer.post(victim)])
    async with projecting(ledger) as service:
        await service.until(lambda progress: bool(progress.halted) and progress.events == 5)
        done = await rebuilt(ledger)
        assert (done.differences, done.not_carried_over) == ([], ["constraint somebodys of entries"])
        ledger.append([ledger.writer.post(victim)])
        async with asyncio.timeout(20):
            while (await ledger.fetch("SELECT max(version) FROM balances"))[0][0] != 3:
                pass
        assert service.progress.halted == {}
    await ledger.rows_are_the_log()


async def test_who_holds_the_tables_is_named_and_does_not_hold_up_readers(
    ledger: TestLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuild_run, "EXCHANGE_WITHIN", 1.0)
    ledger.append([ledger.writer.post("alice")])
    await live(ledger, 5)
    analyst = await ledger.database.connect(server_settings={"application_name": "quarterly report"})
    slowest = 0.0
    async with ReadModel(ledger.database) as reader:

        async def ask() -> None:
            nonlocal slowest
            begun = asyncio.get_running_loop().time()
            assert (await reader.balance("alice", "USD")).version == 1
            slowest = max(slowest, asyncio.get_running_loop().time() - begun)

        async with meanwhile(ask):
            async with analyst.transaction():
                await analyst.fetch(f"SELECT FROM {ledger.name}.entries")
                with pytest.raises(RebuildBlocked, match="quarterly report"):
                    await rebuilt(ledger)
            await rebuilt(ledger)
    await analyst.close()
    assert slowest < 3


async def test_who_sees_one_moment_holds_the_tables_before_it_looks(ledger: TestLedger) -> None:
    """Or it would see new tables as they were before they were whole."""
    holds = (
        "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE mode = 'AccessShareLock' "
        "AND relnamespace = to_regnamespace($1) AND relname IN ('entries', 'snapshot_balances', 'tiles')"
    )
    async with Comparison(ledger.database):
        assert await ledger.fetch(holds, ledger.name) == [(3,)]


async def test_what_is_bound_to_the_tables_comes_along_or_is_named(ledger: TestLedger) -> None:
    """Views of anybody's, rights on tables and columns, triggers, comments; a materialized view can't."""
    ledger.append([ledger.writer.post("alice"), ledger.writer.place("alice", "h", UNIT // 2)])
    await live(ledger, 6)
    role, schema = f"{ledger.name}_analyst", f"{ledger.name}_own"
    await ledger.execute(
        f"CREATE ROLE {role}; GRANT SELECT ON balances, account_statement TO {role}; "
        f"GRANT SELECT (entry_id, amount) ON entries TO {role}; CREATE SCHEMA {schema}; "
        f"CREATE VIEW {schema}.mine WITH (security_barrier = true) AS SELECT balance FROM balances; "
        f"CREATE VIEW {schema}.over AS SELECT * FROM {schema}.mine; CREATE INDEX slow_idx ON entries (amount);"
        f"CREATE MATERIALIZED VIEW {schema}.stored AS SELECT count(*) FROM entries"
    )
    rights = (
        "SELECT relname, relacl, relowner, array(SELECT attacl::text FROM pg_attribute WHERE attrelid = c.oid "
        "AND attacl IS NOT NULL ORDER BY 1), array(SELECT tgname FROM pg_trigger WHERE tgrelid = c.oid ORDER BY 1), "
        "array(SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = c.oid "
        "AND indexrelid::regclass::text <> 'slow_idx' ORDER BY 1), obj_description(c.oid) FROM pg_class AS c "
        "WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'v') ORDER BY relname"
    )
    before = await ledger.fetch(rights, ledger.name)
    try:
        with pytest.raises(RebuildRefused, match=f"{schema}.stored"):
            await rebuilt(ledger)
        await ledger.execute(f"DROP MATERIALIZED VIEW {schema}.stored")
        done = await rebuilt(ledger)
        assert done.not_carried_over == ["index slow_idx of entries"]
        assert await ledger.fetch(rights, ledger.name) == before
        await ledger.execute("UPDATE balances SET balance = 7")
        assert await ledger.fetch(f"SELECT balance FROM {schema}.over") == [(7,)]
        await ledger.execute("TRUNCATE holds")
        assert await ledger.fetch("SELECT FROM open_holds") == []
        options = await ledger.fetch(
            "SELECT reloptions FROM pg_class WHERE oid = $1::text::regclass", f"{schema}.mine"
        )
        assert options == [(["security_barrier=true"],)]
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await ledger.execute("DELETE FROM entries")
    finally:
        await clean(ledger)
        await ledger.execute(f"DROP SCHEMA {schema} CASCADE; DROP OWNED BY {role}; DROP ROLE {role}")


async def test_old_tables_are_in_the_way_and_what_is_bound_to_them_is_not_dropped_along(ledger: TestLedger) -> None:
    ledger.append([ledger.writer.post("alice")])
    done = await rebuilt(ledger)  # beyond the live ones, which are empty
    assert done.positions == ledger.writer.sequences
    with pytest.raises(RebuildRefused, match="--drop-old"):
        await rebuilt(ledger)
    await ledger.execute(f"CREATE VIEW of_old AS SELECT * FROM {done.old_schema}.entries")
    with pytest.raises(RebuildRefused, match="of_old"):
        await drop_old(ledger.database, Balances())
    await ledger.execute("DROP VIEW of_old")


@contextmanager
def command(ledger: TestLedger, directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `partita rebuild balances`; it is killed at the end if it still runs."""
    settings = {
        "KAFKA_BOOTSTRAP": ledger.addresses["kafka_bootstrap"],
        "SCHEMA_REGISTRY_URL": ledger.addresses["schema_registry_url"],
        "POSTGRES_URL": ledger.addresses["postgres_url"],
        "LEDGER": ledger.name,
        "PARTITIONS": 4,
        "STATE_DIR": directory,
    }
    environment = {**os.environ, **{f"PARTITA_{name}": str(value) for name, value in settings.items()}}
    argv = [sys.executable, "-m", "partita", "rebuild", "balances"]
    with subprocess.Popen(argv, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_it_is_killed_and_goes_on_where_it_was_and_a_second_is_refused(
    ledger: TestLedger, tmp_path: Path
) -> None:
    ledger.append(ledger.writer.post(f"a-{n % 50}") for n in range(45_000))
    reached = f"SELECT coalesce(sum(next_sequence), 0)::int AS n FROM {Places(ledger.name, 'balances').new}.positions"
    with command(ledger, tmp_path) as first:
        async with asyncio.timeout(60):
            while not await is_there(ledger, reached):
                assert first.poll() is None
        first.send_signal(signal.SIGSTOP)
        with pytest.raises(RebuildRunning):
            await rebuilt(ledger)
        first.kill()
    ((before,),) = await ledger.fetch(reached)
    assert 0 < before < 45_004
    async with asyncio.timeout(20):
        while True:
            with suppress(RebuildRunning):  # until PostgreSQL has missed the first one
                done = await rebuilt(ledger)
                break
    assert (done.events, done.differences) == (45_004 - before, [])
    await ledger.rows_are_the_log()


async def is_there(ledger: TestLedger, query: str) -> bool:
    with suppress(asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return bool((await ledger.fetch(query))[0][0])
    return False


async def test_roles_have_the_rights_on_the_new_tables_that_they_had(ledger: TestLedger) -> None:
    names = Roles(ledger.name)
    for statement in grants(ledger.name):
        await ledger.execute(statement)

    def acting_as(role: str) -> TestLedger:
        return replace(ledger, database=replace(ledger.database, url=f"{ledger.database.url}?role={role}"))

    try:
        ledger.append([ledger.writer.post("alice")])
        await live(acting_as(names.project), 5)
        with pytest.raises(ReadModelUnavailable) as refused:
            await rebuilt(acting_as(names.project))
        assert "permission denied" in refused.value.details["cause"]
        assert (await rebuilt(acting_as(names.migrate))).differences == []
        ledger.append([ledger.writer.post("alice")])
        await live(acting_as(names.project), 1)
        async with ReadModel(acting_as(names.read).database) as reader:
            assert (await reader.balance("alice", "USD")).version == 2
        for role, error in ((names.project, "permission denied"), (names.migrate, "append-only")):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match=error):
                await acting_as(role).execute("DELETE FROM entries")
        assert len(await drop_old(acting_as(names.migrate).database, Balances())) == 9
        await everything_holds(acting_as(names.read))
    finally:
        await clean(ledger)
        await ledger.execute(f"DROP SCHEMA {ledger.name} CASCADE")
        for name in (names.migrate, names.project, names.read):
            await ledger.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
