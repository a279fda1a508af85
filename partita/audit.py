"""`create_audit_trail`: records in immudb, written once and verified, from asyncio code.

Also the configuration of immudb as callers give it. What is not given comes from the settings.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from partita.settings import Settings
from partita.wiring import Wiring
from projections.immudb.audit import AuditTrail

_PREFIX = "immudb_"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImmutableConfig:
    """Where immudb is, and what is trusted there. What is None comes from `PARTITA_IMMUDB_...`, or the local stack.

    `timeout` is in seconds, for each call. `state_file` has the trusted state; keep it, and keep a copy elsewhere.
    `public_key_file` is the PEM of the key with which immudb signs its states: then it must. `ca_file` is the PEM of
    the authorities for TLS.
    """

    host: str | None = None
    port: int | None = None
    database: str | None = None
    username: str | None = None
    password: SecretStr | str | None = None
    timeout: float | None = None
    state_file: Path | str | None = None
    public_key_file: Path | str | None = None
    ca_file: Path | str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "password", secret(self.password))

    def settings(self, **others: Any) -> Settings:
        """Return settings with these; raises pydantic's `ValidationError` for what can't be."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        named = {f"{_PREFIX}{name}": value for name, value in given.items() if value is not None}
        return Settings(**named, **others)


def secret(value: SecretStr | str | None) -> SecretStr | None:
    """Return a secret as one that is not shown."""
    return SecretStr(value) if isinstance(value, str) else value


async def create_audit_trail(config: ImmutableConfig | None = None) -> AuditTrail:
    """Return an audit trail in the database of `config`. It connects when it is first used. Use it by `async with`.

    Raises:
        NotConfigured: no address is given, set, or known from a local stack that is up.
    """
    return AuditTrail(Wiring((config or ImmutableConfig()).settings()).verified_database())
