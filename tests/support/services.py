"""A ledger of a test's own on a stack that others use too, and its services as processes that can be killed."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from pydantic import SecretStr

from events.errors import LedgerError
from events.follow import Ends
from partita import LedgerEngine, Settings
from partita.keys import SigningKeys
from partita.wiring import Wiring
from projections.roles import Access
from tests.support.forked import Forked

PARTITIONS = 4
_UP = 60.0
_DOWN = 20.0


def eventually(condition: Callable[[], object], *, within: float = 30.0, every: float = 0.02) -> None:
    """Return when `condition()` is true; fail when it does not become so in time."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:.0f} s"
        time.sleep(every)


@dataclass
class Service:
    """`partita run NAME` as a process. Its log is kept, and shown when it ends as it must not."""

    arguments: list[str]
    environment: dict[str, str]
    log_file: Path
    interpreter: Path | None = None
    """If it is not to be forked from one that has its modules already."""
    process: "Forked | subprocess.Popen[bytes] | None" = None
    starts: int = 0

    def start(self) -> "Service":
        """Start it."""
        assert self.process is None
        if self.interpreter is None:
            self.process = Forked(self.arguments, self.environment, self.log_file)
        else:
            argv = [str(self.interpreter), "-m", "partita", *self.arguments]
            with self.log_file.open("ab") as log:
                self.process = subprocess.Popen(argv, env=self.environment, stdout=log, stderr=log)
        self.starts += 1
        return self

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(signal.SIGKILL)

    def abort(self) -> None:
        """End it with SIGABRT, so that its log says where each of its threads was."""
        self._end(signal.SIGABRT)

    def stop(self) -> int:
        """End it with SIGTERM, and return its exit status."""
        return self._end(signal.SIGTERM)

    def ended(self) -> int:
        """Wait until it ends by itself, and return its exit status."""
        assert self.process is not None
        status = self.process.wait(_UP)
        self.process = None
        return status

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def restart(self) -> None:
        """Kill it and start it again."""
        assert self.alive(), self.log_text()[-3000:]
        self.kill()
        self.start()

    def log_text(self) -> str:
        """Return what it has logged."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def _end(self, number: int) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            status = self.process.wait(_DOWN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process = None
        return status


@dataclass
class Ledger:
    """One ledger: its name, where it is, and its services."""

    addresses: Mapping[str, str]
    directory: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:12]}")
    services: list[Service] = field(default_factory=list)

    def settings(self, **options: Any) -> Settings:
        """Return the settings of its engines and services."""
        given: dict[str, Any] = {
            "kafka_bootstrap": self.addresses["kafka_bootstrap"],
            "schema_registry_url": self.addresses["schema_registry_url"],
            "postgres_url": SecretStr(self.addresses["postgres_url"]),
            "ledger": self.name,
            "partitions": PARTITIONS,
            "state_dir": self.directory / "state",
            "signing_key_file": self.signing_key_file,
        }
        return Settings(**{**given, **self.options, **options})

    @property
    def signing_key_file(self) -> Path:
        """A key of its own, made when it is first asked for."""
        path = self.directory / "signing.key"
        if not path.exists():
            SigningKeys(path=path, name=f"partita.local/{self.name}").make()
        return path

    def wiring(self, **options: Any) -> Wiring:
        """Return what makes clients for it."""
        return Wiring(self.settings(**options))

    def engine(self, **options: Any) -> LedgerEngine:
        """Return an engine for it."""
        return LedgerEngine(settings=self.settings(**options))

    def environment(self, **options: Any) -> dict[str, str]:
        """Return the settings as the environment of a process."""
        given = self.settings(**options)
        databases = ("postgres_url", *(f"postgres_{access}_url" for access in Access))
        urls = {name.upper(): url.get_secret_value() for name in databases if (url := getattr(given, name))}
        values = {
            **urls,
            "KAFKA_BOOTSTRAP": given.kafka_bootstrap,
            "SCHEMA_REGISTRY_URL": given.schema_registry_url,
            "LEDGER": given.ledger,
            "PARTITIONS": given.partitions,
            "STATE_DIR": given.state_dir,
            "SIGNING_KEY_FILE": given.signing_key_file,
            "CONNECT_TIMEOUT": given.connect_timeout,
            "IMPLICIT_OPENING": given.implicit_opening,
            "GROUP_PROTOCOL": given.group_protocol,
            "OUTCOME_TIMEOUT": given.outcome_timeout,
            "WEB_PORT": given.web_port,
            "ASSET_SCALES": ",".join(f"{asset}={scale}" for asset, scale in given.asset_scales.items()),
        }
        if given.immudb_host:
            values |= {
                "IMMUDB_HOST": given.immudb_host,
                "IMMUDB_PORT": given.immudb_port,
                "IMMUDB_DATABASE": given.immudb_database,
            }
        if given.evm_rpc_url is not None:
            values |= {
                "EVM_RPC_URL": given.evm_rpc_url.get_secret_value(),
                "CHAIN": given.chain,
                "CHAIN_ADDRESSES": ",".join(given.chain_addresses),
                "CHAIN_TOKENS": ",".join(given.chain_tokens),
                "ANCHOR_KEY": given.anchor_key.get_secret_value() if given.anchor_key else "0x1",
                "CHAIN_FINALITY": given.chain_finality or 0,
                "CHAIN_START_BLOCK": given.chain_start_block or 0,
                "CHAIN_DEPOSIT_ACCOUNTS": ",".join("=".join(p) for p in given.chain_deposit_accounts.items()),
            }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PARTITA_")}
        return inherited | {f"PARTITA_{name}": str(value) for name, value in values.items()}

    def service(self, name: str, *arguments: str, **options: Any) -> Service:
        """Return `partita run NAME`, not started."""
        log_file = self.directory / f"{name}-{len(self.services)}.log"
        self.services.append(Service(["run", name, *arguments], self.environment(**options), log_file))
        return self.services[-1]

    def await_handler(self, handler: Service) -> None:
        """Wait until every partition of a new ledger is opened."""
        wiring = self.wiring()
        ends: dict[int, int] = {}

        def opened() -> bool:
            assert handler.alive(), handler.log_text()[-3000:]
            try:
                count = wiring.partition_count()
                ends.update(Ends(wiring.clients).stable(wiring.topics.events, range(count), timeout=5))
            except LedgerError:
                return False
            return all(ends.values())

        eventually(opened, within=_UP)

    def drop(self) -> None:
        """End its services and delete its topics."""
        for service in self.services:
            service.kill()
        wiring = self.wiring()
        admin = wiring.clients.admin()
        for deleted in admin.delete_topics(list(wiring.topics.settings())).values():
            with suppress(KafkaException):  # a test may never have created them, or have stopped the broker
                deleted.result(20)


@contextmanager
def ledger_on(addresses: Mapping[str, str], directory: Path, **options: Any) -> Iterator[Ledger]:
    """Give a ledger of one's own, and leave nothing of it running."""
    ledger = Ledger(addresses, directory, options)
    try:
        yield ledger
    finally:
        ledger.drop()
