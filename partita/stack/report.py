"""What is told about a stack: the state of each part and the addresses. Values only."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["up", "down", "unhealthy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """One part: `address` without any password, `memory_mb` in MiB, `detail` for people."""

    name: str
    state: State
    pid: int | None
    address: str | None
    memory_mb: float
    log: Path
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """A stack at one moment: its parts, and the addresses of the parts that were asked for.

    The keys of `addresses` are `kafka_bootstrap`, `schema_registry_url`, `postgres_url` (with its password),
    `immudb_host`, `immudb_port` and `evm_rpc_url`.
    """

    directory: Path
    parts: tuple[PartStatus, ...]
    addresses: Mapping[str, str]

    @property
    def healthy(self) -> bool:
        """Whether every part is up."""
        return all(part.state == "up" for part in self.parts)

    def part(self, name: str) -> PartStatus:
        """Return one part's status; `KeyError` if the stack has no such part."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON. They include the password that is part of `postgres_url`."""
        parts = [{**asdict(part), "log": str(part.log)} for part in self.parts]
        healthy = self.healthy
        return {
            "directory": str(self.directory), "healthy": healthy, "parts": parts, "addresses": dict(self.addresses)
        }  # fmt: skip
