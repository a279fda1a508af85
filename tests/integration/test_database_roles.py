"""Services that log in as users of their own, with passwords, each a member of one role and no more."""

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx2 as httpx
import pytest
from pydantic import SecretStr

from partita import NotConfigured, Settings
from partita.verify.run import verify
from projections.database import Database
from projections.errors import ReadModelUnavailable
from projections.migrate import downgrade
from projections.roles import Access, Roles, grants
from tests.support.services import Ledger, ledger_on
from tests.support.stack import Stack
from tests.web.conftest import await_ready, free_port


@dataclass
class Guarded:
    """A ledger whose database has users with passwords, and none that may do everything."""

    ledger: Ledger
    owner: Database
    users: Mapping[Access, str]

    def partita(self, *arguments: str, **changed: str) -> tuple[int, str]:
        """Run the command, and return its exit status and what it said; `changed` are other settings."""
        command = [sys.executable, "-m", "partita", *arguments]
        environment = self.ledger.environment() | changed
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def refused(self, name: str) -> str:
        """Start a service that must not come up, and return what it said."""
        service = self.ledger.service(name).start()
        assert service.ended() == 1, service.log_text()[-3000:]
        return service.log_text()

    async def connected(self, application: str) -> set[str]:
        """Return who is logged in under an application's name."""
        connection = await self.owner.connect()
        rows = await connection.fetch(
            "SELECT usename FROM pg_stat_activity WHERE application_name LIKE $1 AND usename = ANY($2)",
            f"{application}%",
            [*self.users.values()],
        )
        await connection.close()
        return {row["usename"] for row in rows}


@pytest.fixture
async def guarded(stack: Stack, tmp_path: Path) -> AsyncIterator[Guarded]:
    url = stack.addresses["postgres_url"]
    place = urlsplit(url)
    with ledger_on(stack.addresses, tmp_path, postgres_url=None) as ledger:
        owner, roles = Database(url=url, schema=ledger.name), Roles(ledger.name)
        connection = await owner.connect()
        for statement in grants(ledger.name):
            await connection.execute(statement)
        users = {access: f"{ledger.name}_user_{access}" for access in Access}
        for (access, user), role in zip(users.items(), roles, strict=True):
            password = secrets.token_urlsafe(12)
            await connection.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{password}' IN ROLE {role}")
            at = f"postgresql://{user}:{password}@{place.hostname}:{place.port}{place.path}"
            ledger.options = {**ledger.options, f"postgres_{access}_url": SecretStr(at)}
        yield Guarded(ledger, owner, users)
        ledger.drop()
        await connection.execute(f"DROP SCHEMA {ledger.name} CASCADE")
        for name in (*users.values(), *roles):
            await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
        await connection.close()


async def test_services_do_their_work_each_with_its_own_rights(guarded: Guarded) -> None:
    ledger = guarded.ledger
    handler = ledger.service("handler").start()
    ledger.await_handler(handler)
    assert "TablesOutdated" in (said := guarded.refused("balances"))
    assert "partita migrate" in said

    status, told = guarded.partita("migrate", "--json")
    assert status == 0, told
    done = json.loads(told)
    assert (done["before"], done["roles"]) == (None, [*Roles(ledger.name)])
    assert json.loads(guarded.partita("migrate", "--json")[1])["before"] == done["after"]

    for name in ("balances", "snapshots", "proofs"):
        ledger.service(name).start()
    port = free_port()
    web = ledger.service("web", web_port=port).start()
    async with ledger.engine() as engine:
        entry = await engine.create_entry("ann", 5, "credit")
        assert await engine.get_balance("ann") == 5
        assert (await engine.get_receipt(entry.entry_id)).leaf_index == entry.sequence
    await asyncio.to_thread(await_ready, f"http://127.0.0.1:{port}", web)
    answer = httpx.get(f"http://127.0.0.1:{port}/v1/accounts/ann/balances/USD")
    assert answer.json()["balance"] == "5"
    for name in ("balances", "snapshots", "proofs", "checkpoints"):
        assert await guarded.connected(f"partita {name}") == {guarded.users[Access.PROJECT]}
    with closing(ledger.wiring()) as wiring:
        assert (await verify(wiring)).ok

    for service in ledger.services[2:]:
        assert service.stop() == 0, service.log_text()[-3000:]
    await downgrade(guarded.owner, "0005")
    assert "of version 0005, and are to be of version" in guarded.refused("proofs")
    assert json.loads(guarded.partita("migrate", "--json")[1])["before"] == "0005"
    proofs, balances = ledger.service("proofs").start(), ledger.service("balances").start()
    async with ledger.engine() as engine:  # what the migration made again can be written and read
        entry = await engine.create_entry("ann", 2, "credit")
        assert await engine.get_balance("ann") == 7
        assert balances.alive()
        connection = await asyncpg.connect(ledger.settings().database_url(Access.READ))
        assert await connection.fetchval(f"SELECT count(*) FROM {ledger.name}.account_statement") == 2
        await connection.close()
    assert proofs.alive(), proofs.log_text()[-3000:]


async def test_passwords_and_rights_are_real(guarded: Guarded) -> None:
    settings = guarded.ledger.settings()
    wrong = settings.database_url(Access.READ).replace("_read:", "_read:x")
    with pytest.raises(ReadModelUnavailable, match="does not let us in"):
        await Database(url=wrong, schema=guarded.ledger.name).connect()
    status, told = guarded.partita("migrate")
    assert status == 0, told
    await downgrade(guarded.owner, "0006")
    for access in (Access.PROJECT, Access.READ):
        status, told = guarded.partita(
            "migrate", "--json", PARTITA_POSTGRES_MIGRATE_URL=settings.database_url(access)
        )
        assert status == 4
        assert "permission denied" in json.loads(told)["details"]["cause"]


async def test_tables_of_a_later_version_are_left_alone(guarded: Guarded) -> None:
    assert guarded.partita("migrate")[0] == 0
    connection = await guarded.owner.connect()
    await connection.execute(f"UPDATE {guarded.ledger.name}.migrations SET version_num = '9999'")
    await connection.close()
    status, told = guarded.partita("migrate")
    assert status == 1
    assert "made by a later Partita" in told
    assert "made by a later Partita" in guarded.refused("balances")


def test_the_database_of_one_role_is_not_taken_for_that_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTITA_POSTGRES_PROJECT_URL", "postgresql://p@h/d")
    settings = Settings()
    assert settings.database_url(Access.PROJECT) == "postgresql://p@h/d"
    with pytest.raises(NotConfigured, match="PARTITA_POSTGRES_READ_URL"):
        settings.database_url(Access.READ)
    monkeypatch.setenv("PARTITA_POSTGRES_URL", "postgresql://all@h/d")
    assert Settings().database_url(Access.READ) == "postgresql://all@h/d"
