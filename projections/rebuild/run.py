"""The order of a rebuild: fill, compare at one cut, go on to the end of the log, finish, exchange.

Whatever ends it, it can be run again: what was built is kept with its positions, and the exchange is one transaction.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import asyncpg

from events.clients import KafkaClients
from events.codec import EventCodec
from events.errors import LedgerError
from events.follow import end_sequences
from events.topics import Topics, check_partition_count
from projections import statements
from projections.database import KEEPALIVE, LOST, Database
from projections.errors import (
    EndNotReached,
    PartitionsHalted,
    RebuildBlocked,
    RebuildDiffers,
    RebuildRefused,
    RebuildRunning,
)
from projections.migrate import upgrade
from projections.rebuild import building, exchange
from projections.rebuild.building import TIMEOUT
from projections.rebuild.comparing import Difference, compare
from projections.rebuild.places import Places, cut, is_behind, missing
from projections.rebuild.results import Rebuilt, Step
from projections.service import Progress, run_projection
from projections.store import Projection

log = logging.getLogger(__name__)

BATCH: Final = 20_000
ANSWER: Final = 30.0
"""Seconds for one answer of Kafka, and without an event before filling is given up."""
EXCHANGE_WITHIN: Final = 60.0
"""Seconds in which the live tables must be free for a moment."""
_SESSION: Final = {**KEEPALIVE, "timezone": "UTC", "application_name": "partita rebuild"}
_LONGEST_PAUSE: Final = 2.0
_HELD_BY: Final = """
SELECT DISTINCT format('%s (process %s)', coalesce(nullif(a.application_name, ''), a.usename::text), l.pid)
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.relation = ANY($1::oid[]) AND l.granted AND l.pid <> pg_backend_pid() ORDER BY 1
"""


async def rebuild(
    clients: KafkaClients,
    topics: Topics,
    codec: EventCodec,
    database: Database,
    projection: Projection[Any],
    *,
    ledger: str,
    accept_differences: bool = False,
    on_step: Callable[[Step], None] = lambda _: None,
) -> Rebuilt:
    """Make the tables of `projection` anew beside the live ones, which stay in use, and put them in their place.

    Raises:
        RebuildRunning: it is being rebuilt already.
        RebuildRefused: old tables are still kept, or something is bound to the live ones that can't be carried over.
        RebuildDiffers: the new ones differ, and `accept_differences` is not given. What was built is kept.
        RebuildBlocked: the live tables were never free.
        PartitionsHalted: an event can't be taken that the live tables have.
        ReadModelUnavailable, TopicMissing, BrokerUnavailable: a part of the ledger is not there.
    """
    count = await asyncio.to_thread(check_partition_count, clients, topics)
    began = time.monotonic()
    async with _alone(database, projection) as (connection, places):
        run = _Run(clients, topics, codec, database, projection, ledger, count, connection, places, on_step)
        await upgrade(database)
        await exchange.refuse_what_is_in_the_way(connection, places, projection.tables)
        await building.prepare(connection, database, places, projection.tables)
        differences = await run.compared()
        if differences and not accept_differences:
            raise RebuildDiffers(
                f"the new tables of {projection.name} are not what the live ones are: {differences[0]}",
                differences=[each.to_dict() for each in differences],
            )
        await run.fill_to_the_end()
        on_step(Step("indexing"))
        await building.finish(database, places, projection.tables)
        await run.exchange(differences)
        rows = await connection.fetch(statements.READ.format(schema=f'"{places.live}"'), projection.name)
        return Rebuilt(
            projection=projection.name,
            events=run.events,
            seconds=time.monotonic() - began,
            positions={row["partition"]: row["next_sequence"] for row in rows},
            differences=differences,
            halted={row["partition"]: row["halted"] for row in rows if row["halted"]},
            not_carried_over=run.not_carried_over,
            old_schema=places.old,
        )


async def drop_old(database: Database, projection: Projection[Any]) -> list[str]:
    """Drop the tables that were live before the last rebuild, and return their names.

    Raises:
        RebuildRunning: it is being rebuilt.
        RebuildRefused: something is still bound to them.
        ReadModelUnavailable: PostgreSQL does not answer.
    """
    async with _alone(database, projection) as (connection, places):
        return await exchange.drop_old(connection, places)


async def drop_new(database: Database, projection: Projection[Any]) -> list[str]:
    """Drop what a rebuild that was not finished has built, and return its tables' names; raises as `drop_old`."""
    async with _alone(database, projection) as (connection, places):
        return await building.drop(connection, places)


@asynccontextmanager
async def _alone(database: Database, projection: Projection[Any]) -> AsyncIterator[tuple[asyncpg.Connection, Places]]:
    """Give a connection that nobody else has who rebuilds this projection."""
    if not projection.tables:
        raise RebuildRefused(f"{projection.name} has no tables of its own in PostgreSQL", projection=projection.name)
    places = Places(database.schema, projection.name)
    connection = await database.connect(command_timeout=TIMEOUT, server_settings=_SESSION)
    try:
        if not await connection.fetchval(statements.TAKE_OVER, places.lock):
            raise RebuildRunning(f"{projection.name} is being rebuilt already", projection=projection.name)
        yield connection, places
    except LedgerError:
        raise
    except (*LOST, asyncpg.PostgresError) as error:
        raise database.unavailable(error) from error
    finally:
        with suppress(*LOST, asyncpg.PostgresError):  # the next need not wait until PostgreSQL has missed this one
            await connection.execute("SELECT pg_advisory_unlock_all()", timeout=ANSWER)
        connection.terminate()


@dataclass(slots=True)
class _Run:
    clients: KafkaClients
    topics: Topics
    codec: EventCodec
    database: Database
    projection: Projection[Any]
    ledger: str
    partition_count: int
    connection: asyncpg.Connection
    places: Places
    on_step: Callable[[Step], None]
    events: int = 0
    not_carried_over: list[str] = field(default_factory=list)

    async def positions(self, schema: str) -> dict[int, int]:
        return await _positions(self.connection, schema, self.projection.name)

    async def log_end(self) -> dict[int, int]:
        partitions = range(self.partition_count)
        return await asyncio.to_thread(
            end_sequences, self.clients, self.topics.events, self.codec, partitions, timeout=ANSWER
        )

    async def compared(self) -> list[Difference]:
        """Fill the tables up to where the live ones are at one moment, and return how they differ."""
        await self._fill(cut(await self.positions(self.places.live), await self.log_end()))
        moment = await self.database.connect(command_timeout=TIMEOUT, server_settings=_SESSION)
        try:
            async with moment.transaction(isolation="repeatable_read", readonly=True):
                found = await self._compared_at(moment)
        finally:
            moment.terminate()
        await self._note(found)
        return found

    async def _compared_at(self, moment: asyncpg.Connection) -> list[Difference]:
        live = await _positions(moment, self.places.live, self.projection.name)
        end = await self.log_end()
        wanted = cut(live, end)
        if is_behind(wanted, await self.positions(self.places.new)):
            return await self._noted()
        beyond = [_elsewhere(p, live[p], f"the log has {end[p]} events") for p in live if live[p] > end.get(p, 0)]
        try:
            await self._fill(wanted)
        except EndNotReached as error:
            return [_elsewhere(p, wanted, f"no batch in part: {at}") for p, (at, wanted) in error.missing.items()]
        self.on_step(Step("comparing"))
        return beyond + await compare(moment, self.connection, self.places, self.projection.tables)

    async def _note(self, found: list[Difference]) -> None:
        """Write down how the new tables differed: they may soon be beyond the place where that can be seen."""
        text = json.dumps({"differences": [each.to_dict() for each in found]})
        literal = await self.connection.fetchval("SELECT quote_literal($1::text)", text)
        await self.connection.execute(f'COMMENT ON SCHEMA "{self.places.new}" IS {literal}')

    async def _noted(self) -> list[Difference]:
        text = await self.connection.fetchval(
            "SELECT obj_description(to_regnamespace($1), 'pg_namespace')", self.places.new
        )
        if text is None:
            return [Difference("positions", {}, "the live table has gone back behind what was built")]
        return [Difference(**each) for each in json.loads(text)["differences"]]

    async def fill_to_the_end(self) -> None:
        """Fill the tables to the end of the log, as far as it can be shown: live ones that are halted are behind."""
        try:
            await self._fill(await self.log_end())
        except (PartitionsHalted, EndNotReached) as error:  # or a batch is in flight: the service goes on from there
            log.info("%s", error.message)

    async def _fill(self, until: Mapping[int, int], doing: str = "filling") -> None:
        """Fill the tables up to sequences, by partition, which they don't pass."""
        at = await self.positions(self.places.new)
        if not is_behind(at, until):
            return
        total, before = missing(at, until), self.events
        self.on_step(Step(doing, 0, total))

        def note(progress: Progress) -> None:
            self.events = before + progress.events
            self.on_step(Step(doing, progress.events, total))

        await run_projection(
            self.clients,
            self.topics,
            self.codec,
            replace(self.database, schema=self.places.new, session={"synchronous_commit": "off"}),
            self.projection,
            ledger=f"{self.ledger}.rebuild",
            stop=asyncio.Event(),
            instance="rebuild",
            batch_size=BATCH,
            give_up_after=ANSWER,
            until=until,
            on_progress=note,
        )

    async def exchange(self, differences: list[Difference]) -> None:
        """Put the new tables in the place of the live ones, as soon as those are free."""
        deadline, pause = time.monotonic() + EXCHANGE_WITHIN, 0.1
        while True:
            await self.fill_to_the_end()  # so that little is left while the service waits
            self.on_step(Step("exchanging"))
            try:
                async with self.connection.transaction():
                    await self._exchange(differences)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                if time.monotonic() > deadline:
                    raise await self._blocked() from error
            else:
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    async def _exchange(self, differences: list[Difference]) -> None:
        tables = self.projection.tables
        live = await exchange.hold_still(self.connection, self.places, tables)
        wanted = cut(live, await self.log_end()) if differences else live
        await self._fill(wanted, "exchanging")
        self.not_carried_over = await exchange.not_carried_over(self.connection, self.places, tables)
        await exchange.put_in_place(self.connection, self.places, tables)

    async def _blocked(self) -> RebuildBlocked:
        oids = await self.connection.fetchval(
            "SELECT array_agg(oid) FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relname = ANY($2)",
            self.places.live,
            list(self.projection.tables),
        )
        holders = [row[0] for row in await self.connection.fetch(_HELD_BY, oids)]
        return RebuildBlocked(
            f"the live tables were in use for {EXCHANGE_WITHIN:.0f} s, now by: {', '.join(holders) or 'nobody'}; "
            "what was built is kept, so run the rebuild again",
            holders=holders,
        )


async def _positions(connection: asyncpg.Connection, schema: str, projection: str) -> dict[int, int]:
    rows = await connection.fetch(statements.READ.format(schema=f'"{schema}"'), projection)
    return {row["partition"]: row["next_sequence"] for row in rows}


def _elsewhere(partition: int, live: int, where: str) -> Difference:
    return Difference(
        "positions", {"partition": str(partition)}, f"next_sequence is {live} in the live table; {where}"
    )
