"""Databases of immudb of a test's own. What is held of each in immudb's memory is let go with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from projections.immudb.client import ImmudbClient
from projections.immudb.shown import Address
from projections.immudb.trust import TrustFile
from projections.immudb.verified import VerifiedDatabase
from tests.support.stack import Stack


def new_name() -> str:
    """Return a name that no database has."""
    return f"t{uuid4().hex[:16]}"


def address(stack: Stack, database: str, **changes: Any) -> Address:
    """Return the address of a database on a stack."""
    known = Address(
        host=stack.addresses["immudb_host"],
        port=int(stack.addresses["immudb_port"]),
        database=database,
        username="immudb",
        password=lambda: "immudb",
        timeout=20.0,
    )
    return replace(known, **changes)


def messages() -> Any:
    """Return the messages of immudb's protocol, for those who do what our client does not."""
    from immudb.grpc import schema_pb2  # noqa: PLC0415  # after our client, which knows what it warns of

    return schema_pb2


@contextmanager
def new_client(stack: Stack) -> Iterator[ImmudbClient]:
    """Give a client of a new database, and drop it."""
    client = ImmudbClient(address(stack, new_name()))
    try:
        yield client
    finally:
        drop(stack, client.address.database)
        client.close()


@contextmanager
def new_database(stack: Stack, trust: Path) -> Iterator[VerifiedDatabase]:
    """Give a new database, trusted as the file `trust` says, and drop it."""
    with new_client(stack) as client:
        yield VerifiedDatabase(client, TrustFile(trust))


def drop(stack: Stack, database: str) -> None:
    """Delete a database, which may never have been made."""
    client = ImmudbClient(address(stack, database))
    client._call("UnloadDatabase", messages().UnloadDatabaseRequest(database=database))
    client._call("DeleteDatabase", messages().DeleteDatabaseRequest(database=database))
    client.close()
