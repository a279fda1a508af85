"""Writing on a real PostgreSQL, without a log: what does not go on from what is there is refused, all of it."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from events.follow import StoredEvent
from events.types import AccountFrozen, Event
from projections.balances import Balances
from projections.database import Database
from projections.migrate import upgrade
from projections.queries import ReadModel
from projections.rows import Rows
from projections.store import Store
from tests.projections.log import Writer
from tests.support.stack import Stack


class Untold(Balances):
    """Appends the first stretch only: the keys of entries and changes would refuse what is to be refused here."""

    async def prepare(self, events: Sequence[StoredEvent]) -> Rows:
        rows = await super().prepare(events)
        if events[0].offset > 0:
            rows.entries.clear()
            rows.changes.clear()
        return rows


@pytest.fixture
async def store(stack: Stack) -> AsyncIterator[Store[Rows]]:
    made = Store(Database(url=stack.addresses["postgres_url"], schema=f"t{uuid.uuid4().hex[:12]}"), Untold())
    await upgrade(made.database)
    await made.open()
    await made.positions(1)
    yield made
    await made.close()
    connection = await made.database.connect()
    await connection.execute(f"DROP SCHEMA {made.database.schema} CASCADE")
    await connection.close()


def stored(*events: tuple[int, Event]) -> list[StoredEvent]:
    return [StoredEvent(partition, event.sequence, b"", event) for partition, event in events]


Makes = Callable[[Writer], tuple[int, Event]]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda writer: writer.settle("a", "other", 1), "1 rows of holds are not there"),
        (
            lambda writer: writer.settle("a", "h", 1, version=3, asset="EUR", held=0),
            "1 rows of holds are not there, or at a later version",
        ),
        (lambda writer: writer.make(AccountFrozen, "b"), "1 rows of accounts are not there"),
        (lambda writer: writer.make(AccountFrozen, "a", version=1), "rows of accounts are not there, or at a later"),
        (lambda writer: writer.post("a", version=3), "1 rows of balances are not there, or at a later version"),
    ],
)
async def test_what_does_not_go_on_from_what_is_there_is_refused(store: Store[Rows], make: Makes, why: str) -> None:
    writer = Writer(partitions=1)
    await store.write(stored(writer.post("a", 9), writer.post("a", 9), writer.place("a", "h", 5)), {0: 0})
    with pytest.raises(ValueError, match=why):
        await store.write(stored(make(writer)), {0: 3})
    async with ReadModel(store.database) as reader:
        assert (await reader.positions())[0].next_offset == 3
        assert (await reader.account("a")).version == 3
