"""The stack under test, behind one interface: containers when an engine answers, the native stack otherwise.

Owns choosing, starting and ending it. The containers are made from docker-compose.yml, so there is one description.
"""

import gc
import re
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import yaml

import partita.stack
from partita.stack import CORE_PARTS
from partita.stack.addresses import read_addresses
from partita.stack.errors import UnhealthyError
from partita.stack.parts import PARTS
from partita.stack.ports import choose
from partita.stack.processes import Process, alive, this_process
from partita.stack.site import STATE_FILE, Site, log_file

COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"
_OWNER_FILE = "owner"
_WORKER = "popen-"
"""How the directory of a worker begins (pytest-xdist), within that of its session."""
_CONTAINER_LIMIT_S = 180.0
_ENGINE_LIMIT_S = 3


class Stack(Protocol):
    """A stack that tests may use, and break."""

    @property
    def addresses(self) -> Mapping[str, str]:
        """The addresses, by the keys of `partita.stack.StackStatus.addresses`."""

    def ensure(self, parts: Collection[str]) -> None:
        """Start these parts unless they are up."""

    def stop(self, part: str, *, kill: bool = False) -> None:
        """End one part, with `kill` without warning. Its port and data stay."""

    def start(self, part: str) -> None:
        """Start a part that was stopped, on the same port and data, and wait until it answers."""

    def log_text(self, part: str) -> str:
        """Return what a part has logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeStack:
    """The stack of `partita stack up`."""

    directory: Path
    cache: Path

    @property
    def addresses(self) -> Mapping[str, str]:
        """The addresses of the parts that were asked for."""
        return read_addresses(self.directory) or {}

    def ensure(self, parts: Collection[str]) -> None:
        """Start these parts unless they are up."""
        partita.stack.up(self.directory, parts=parts, cache=self.cache)

    def stop(self, part: str, *, kill: bool = False) -> None:
        """End one part."""
        partita.stack.stop_part(self.directory, part, kill=kill)

    def start(self, part: str) -> None:
        """Start one part again."""
        partita.stack.start_part(self.directory, part)

    def log_text(self, part: str) -> str:
        """Return what a part has logged since its log was begun anew."""
        return log_file(self.directory, part).read_text(errors="replace")


@contextmanager
def native_stack(directory: Path, *, cache: Path) -> Iterator[NativeStack]:
    """Run a native stack of the core parts of one's own and take it down, whatever happens."""
    sessions = directory.parent.parent
    end_leftovers(sessions.parent if directory.parent.name.startswith(_WORKER) else sessions)
    directory.mkdir(parents=True, exist_ok=True)
    me, owner = this_process(), directory / _OWNER_FILE
    draft = owner.with_suffix(".new")
    draft.write_text(f"{me.pid} {me.started}")
    draft.rename(owner)  # whole, for another worker that looks for leftovers
    stack = NativeStack(directory=directory, cache=cache)
    try:
        stack.ensure(CORE_PARTS)
        yield stack
    finally:
        partita.stack.down(directory, purge=True)


def end_leftovers(sessions: Path) -> None:
    """End the stacks of earlier test sessions that were killed before they could do it."""
    for owner in (*sessions.glob(f"*/*/{_OWNER_FILE}"), *sessions.glob(f"*/{_WORKER}*/*/{_OWNER_FILE}")):
        pid, started = (int(word) for word in owner.read_text().split())
        if (owner.parent / STATE_FILE).exists() and not alive(Process(pid=pid, started=started)):
            partita.stack.down(owner.parent, purge=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerPlan:
    """One container. `ports` maps a port of the container to one of this machine."""

    image: str
    environment: Mapping[str, str]
    command: tuple[str, ...]
    extra: Mapping[str, Any]
    ports: Mapping[int, int]


# The variable of docker-compose.yml for each part's port, and the container's ports by the keys of `Site.ports`.
_PORT_VARIABLES = {
    "kafka": "PARTITA_KAFKA_PORT",
    "registry": "PARTITA_REGISTRY_PORT",
    "postgres": "PARTITA_POSTGRES_PORT",
    "immudb": "PARTITA_IMMUDB_PORT",
    "anvil": "PARTITA_EVM_PORT",
}
_INNER_PORTS = {
    "kafka": {"kafka": 9092},
    "registry": {"registry": 8080},
    "postgres": {"postgres": 5432},
    "immudb": {"immudb": 3322, "immudb_metrics": 9497},
    "anvil": {"anvil": 8545},
}


def container_plan(part: str, site: Site) -> ContainerPlan:
    """Read a part's container from docker-compose.yml, on the site's ports and with its password."""
    variables = {_PORT_VARIABLES[part]: str(site.ports[part]), "PARTITA_POSTGRES_PASSWORD": site.password}
    service = yaml.safe_load(substituted(COMPOSE_FILE.read_text(), variables))["services"][part]
    return ContainerPlan(
        image=service["image"],
        environment=service.get("environment", {}),
        command=tuple(service.get("command", ())),
        extra={key: service[key] for key in ("user", "entrypoint", "mem_limit") if key in service},
        ports={inner: site.ports[key] for key, inner in _INNER_PORTS[part].items()},
    )


def substituted(text: str, variables: Mapping[str, str]) -> str:
    """Replace `${NAME:-default}` as Compose does."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: variables.get(found[1]) or found[2], text)


class ContainerStack:
    """The stack in containers, one for each part, on fixed ports of this machine so that a restart keeps them."""

    def __init__(self) -> None:
        keys = [key for part in PARTS for key in _INNER_PORTS[part]]
        self._site = Site(directory=COMPOSE_FILE.parent, cache=COMPOSE_FILE.parent, password="partita")
        self._site = replace(self._site, ports=choose(keys, directory=COMPOSE_FILE.parent, taken=()))
        self._containers: dict[str, Any] = {}

    @property
    def addresses(self) -> Mapping[str, str]:
        """The addresses of the parts that were started."""
        return {key: value for part in self._containers for key, value in PARTS[part].addresses(self._site).items()}

    def ensure(self, parts: Collection[str]) -> None:
        """Start these parts side by side unless they are up."""
        fresh = [part for part in parts if part not in self._containers]
        for part in fresh:
            self._containers[part] = self._container(part).start()
        for part in fresh:
            self._await(part)

    def stop(self, part: str, *, kill: bool = False) -> None:
        """End one part."""
        container = self._containers[part].get_wrapped_container()
        container.kill() if kill else container.stop()

    def start(self, part: str) -> None:
        """Start one part again."""
        self._containers[part].get_wrapped_container().start()
        self._await(part)

    def log_text(self, part: str) -> str:
        """Return what a container has logged."""
        return str(self._containers[part].get_wrapped_container().logs().decode(errors="replace"))

    def close(self) -> None:
        """Remove the containers and their data."""
        for container in self._containers.values():
            container.stop()

    def _container(self, part: str) -> Any:
        from testcontainers.core.container import DockerContainer  # noqa: PLC0415  # asks for an engine

        plan = container_plan(part, self._site)
        container = DockerContainer(plan.image).with_envs(**plan.environment).with_kwargs(**plan.extra)
        if plan.command:
            container.with_command(list(plan.command))
        for inner, outer in plan.ports.items():
            container.ports[f"{inner}/tcp"] = ("127.0.0.1", outer)  # type: ignore[assignment]  # docker's own form
        return container

    def _await(self, part: str) -> None:
        deadline = time.monotonic() + _CONTAINER_LIMIT_S
        while True:
            try:
                PARTS[part].probe(self._site)
            except UnhealthyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return


@contextmanager
def container_stack() -> Iterator[ContainerStack]:
    """Run the core parts in containers and remove them, whatever happens."""
    stack = ContainerStack()
    try:
        stack.ensure(CORE_PARTS)
        yield stack
    finally:
        stack.close()


def engine_answers() -> bool:
    """Tell whether a container engine is there and answers."""
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415  # slow, and untyped
    from docker.errors import DockerException  # type: ignore[import-untyped]  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # a client that finds no engine leaves its socket open
        try:
            with closing(docker.from_env(timeout=_ENGINE_LIMIT_S)) as client:
                return bool(client.ping())
        except (DockerException, OSError):
            return False
        finally:
            gc.collect()
