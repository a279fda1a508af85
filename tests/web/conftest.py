"""The API in this process, with no ledger behind it; and as a process of its own, with a real one."""

import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx
import pytest
from pydantic import SecretStr

from partita import LedgerEngine, Settings
from partita.web.app import make_app
from partita.web.backend import Backend
from partita.web.tokens import Tokens
from partita.wiring import Wiring
from tests.support.services import Ledger, Service, eventually, ledger_on
from tests.support.stack import Stack

NOWHERE = "127.0.0.1:1"


def nowhere() -> Settings:
    """Return settings of a ledger that nobody answers for."""
    url = SecretStr(f"postgresql://u:hidden@{NOWHERE}/d")
    addresses: dict[str, Any] = {"kafka_bootstrap": NOWHERE, "schema_registry_url": f"http://{NOWHERE}"}
    return Settings(**addresses, postgres_url=url, connect_timeout=0.3, outcome_timeout=0.5)


@dataclass
class Alone:
    """The API with nothing behind it."""

    backend: Backend
    tokens: Tokens = field(default_factory=Tokens)
    most_requests: int = 8

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return a client of it; as it is in production, nothing that it raises comes through."""
        app = make_app(
            self.backend, tokens=self.tokens, most_requests=self.most_requests, loopback_only=not self.tokens
        )
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", **options)


@pytest.fixture
async def alone() -> AsyncIterator[Alone]:
    wiring = Wiring(nowhere())
    async with LedgerEngine(settings=wiring.settings) as engine, wiring.read_model() as reader:
        yield Alone(Backend(engine=engine, read_model=reader, wiring=wiring))


@pytest.fixture
async def client(alone: Alone) -> AsyncIterator[httpx.AsyncClient]:
    async with alone.client() as client:
        yield client


@dataclass
class Served:
    """A ledger with all its services, and where its API is."""

    ledger: Ledger
    url: str
    handler: Service
    balances: Service
    web: Service

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Return a client of its API."""
        return httpx.AsyncClient(base_url=self.url, timeout=60, **options)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_ready(url: str, service: Service) -> None:
    """Wait until the API says that all is there."""

    def ready() -> bool:
        assert service.alive(), service.log_text()[-3000:]
        try:
            return httpx.get(f"{url}/readyz", timeout=20).status_code == 200
        except httpx.TransportError:
            return False

    eventually(ready, within=60)


@pytest.fixture(scope="session")
def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A ledger of the session's own, with its API: name your own accounts."""
    with ledger_on(stack.addresses, tmp_path_factory.mktemp("web")) as ledger:
        handler, balances = ledger.service("handler").start(), ledger.service("balances").start()
        snapshots, proofs = ledger.service("snapshots").start(), ledger.service("proofs").start()
        ledger.await_handler(handler)
        port = free_port()
        web = ledger.service("web", web_port=port).start()
        url = f"http://127.0.0.1:{port}"
        await_ready(url, web)
        yield Served(ledger, url, handler, balances, web)
        for service in (handler, balances, snapshots, proofs, web):
            assert service.alive(), service.log_text()[-3000:]
        assert "Traceback" not in web.log_text()
