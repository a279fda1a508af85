"""Every setting of Partita, and the only place that reads the environment.

Each is an environment variable `PARTITA_<NAME>` or an argument. What is not set comes from the local stack, when
one is up (`partita stack up`).
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from commands.deadletter import MOST_DEAD_LETTERS
from events.checkpoint import is_name
from events.errors import LedgerError
from events.membership import GroupProtocol
from events.money import SCALE
from events.topics import Topics
from partita.keys import SigningKeys
from projections.roles import Access

IMMUDB_PORT: Final = 3322


class NotConfigured(LedgerError):
    """An address is neither set nor known from a local stack that is up."""


def _home(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback)


def _node(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("http://", "https://")):
        raise ValueError("must begin with http:// or https://")
    return url


def one_database(url: SecretStr | str) -> dict[str, Any]:
    """Return the settings of one who has named a database: it is for every role, whatever the environment says."""
    return {"postgres_url": url} | {f"postgres_{access}_url": None for access in Access}


class Settings(BaseSettings):
    """The settings of one process."""

    model_config = SettingsConfigDict(
        env_prefix="PARTITA_",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # it may be a password
    )

    kafka_bootstrap: str | None = Field(default=None, description="Kafka's bootstrap servers, host:port,host:port.")
    kafka_options: dict[str, Any] = Field(
        default={}, repr=False, description="librdkafka settings for every client (JSON): security, ..."
    )
    schema_registry_url: str | None = Field(
        default=None, repr=False, description="Root of the registry's Confluent API; may hold user and password."
    )
    schema_registry_options: dict[str, Any] = Field(
        default={}, repr=False, description="Settings of the registry's client (JSON)."
    )
    postgres_url: SecretStr | None = Field(default=None, description="postgresql://user:password@host:port/database")
    postgres_migrate_url: SecretStr | None = Field(default=None, description="The same, for `partita migrate`.")
    postgres_project_url: SecretStr | None = Field(default=None, description="The same, for projections.")
    postgres_read_url: SecretStr | None = Field(default=None, description="The same, for questions.")

    ledger: str = Field(
        default="ledger",
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description="The ledger's name: prefix of its topics, consumer groups and PostgreSQL schema.",
    )
    partitions: int = Field(
        default=6, ge=1, le=1000, description="Partitions of a new ledger; never changes afterwards."
    )
    replication: int = Field(default=1, ge=1, le=9, description="Replicas of each topic.")
    asset_scales: Annotated[dict[str, int], NoDecode] = Field(
        default={}, description="Decimals of assets that have fewer than 18: USD=2,JPY=0,USDC=6."
    )
    implicit_opening: bool = Field(default=True, description="Whether a first credit opens its account.")
    default_asset: str = Field(default="USD", description="The asset of a call that names none.")

    outcome_timeout: float = Field(default=30.0, gt=0, description="Seconds that a call waits for its outcome.")
    connect_timeout: float = Field(
        default=8.0, gt=0, description="Seconds after which a service counts as not there."
    )
    group_size: int = Field(default=5000, ge=1, le=20_000, description="Most commands in one Kafka transaction.")
    group_protocol: GroupProtocol = Field(
        default=GroupProtocol.CLASSIC,
        description="How Kafka shares partitions among handlers: classic, or consumer (KIP-848).",
    )
    max_dead_letters: int = Field(
        default=MOST_DEAD_LETTERS,
        ge=0,
        le=10_000,
        description="A handler stops when more of its last commands, twice as many, can't be read; 0: no bound.",
    )

    immudb_host: str | None = Field(default=None, description="immudb's host.")
    immudb_port: int | None = Field(default=None, ge=1, le=65535, description="immudb's port for gRPC.")
    immudb_database: str = Field(
        default="defaultdb", pattern=r"^[a-z0-9_]{1,128}$", description="The database; it is made if there is none."
    )
    immudb_username: str = Field(default="immudb", description="The user.")
    immudb_password: SecretStr = Field(default=SecretStr("immudb"), description="The user's password.")
    immudb_timeout: float = Field(default=10.0, gt=0, le=600, description="Seconds that a call to immudb may take.")
    immudb_state_file: Path | None = Field(default=None, description="The file of the trusted state.")
    immudb_public_key_file: Path | None = Field(
        default=None, description="PEM of immudb's signing key: then every state that it shows must be signed."
    )
    immudb_ca_file: Path | None = Field(
        default=None, description="PEM of the authorities for TLS; without, the connection is not encrypted."
    )
    web_host: str = Field(default="127.0.0.1", description="Where the HTTP API listens.")
    web_port: int = Field(default=8080, ge=0, le=65_535, description="Its port; 0 is any that is free.")
    web_tokens_file: Path | None = Field(
        default=None, description="Who may use the HTTP API, a line each: NAME read|write TOKEN."
    )
    web_most_requests: int = Field(
        default=256,
        ge=1,
        le=10_000,
        description="Requests that it serves at a time; more are told to wait.",
    )
    log_origin: str | None = Field(
        default=None,
        description="The ledger's name in checkpoints and receipts, for everyone: ledger.example.com/main.",
    )
    signing_key_file: Path | None = Field(default=None, description="The file of the keys that sign checkpoints.")

    chain: str = Field(default="anvil", description="The chain that is reconciled: a known one's name or id.")
    evm_rpc_url: SecretStr | None = Field(
        default=None, description="A node of the chain; http or https. May hold a key, and is not shown."
    )
    chain_other_rpc_urls: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        default=(), description="More nodes, comma-separated: nothing is taken for true that not all of them say."
    )
    chain_addresses: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Our addresses, comma-separated; those that entries name as ours when none is given."
    )
    chain_tokens: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Tokens that are reconciled: USDC,native,DAI:0x...:18; the chain's USDC if not given.",
    )
    chain_finality: str | None = Field(
        default=None, description="finalized, safe, or a number of confirmations; the chain's rule when not given."
    )
    chain_tolerances: Annotated[dict[str, str], NoDecode] = Field(
        default={}, description="How much an amount may be off, by asset: USDC=0.01; nothing when not given."
    )
    chain_start_block: int | None = Field(
        default=None, ge=0, description="Where a reconciler that has never run begins; the newest block if not given."
    )
    chain_deposit_accounts: Annotated[dict[str, str], NoDecode] = Field(
        default={}, description="Accounts by address: deposits there that the ledger lacks are posted. 0x...=alice"
    )
    chain_proofs: bool = Field(
        default=False,
        description="Hold what a node tells of tokens against its blocks' receipts: up to two requests for a block.",
    )
    chain_requests_per_second: float = Field(
        default=50.0, gt=0, description="Most requests to each node in a second."
    )
    chain_blocks_per_request: int = Field(
        default=2000, ge=1, le=1_000_000, description="Most blocks in one request for logs."
    )

    anchor_key: SecretStr | None = Field(
        default=None, description="Secret key of the address that sends anchors: 0x and 64 digits."
    )
    anchor_key_file: Path | None = Field(default=None, description="A file that has that key, instead.")
    anchor_every: float = Field(default=3600.0, gt=0, description="Seconds between two anchors.")
    anchor_stuck_after: float = Field(
        default=90.0, gt=0, description="Seconds in no block after which an anchor offers more."
    )

    stack_dir: Path = Field(
        default_factory=lambda: _home("XDG_DATA_HOME", ".local/share") / "partita" / "stack",
        description="Where the local stack keeps its data.",
    )
    cache_dir: Path = Field(
        default_factory=lambda: _home("XDG_CACHE_HOME", ".cache") / "partita", description="Where downloads are kept."
    )
    state_dir: Path = Field(
        default_factory=lambda: _home("XDG_STATE_HOME", ".local/state") / "partita",
        description="Where a service keeps what it can rebuild.",
    )

    @field_validator("schema_registry_url")
    @classmethod
    def _check_registry(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @field_validator("postgres_url", "postgres_migrate_url", "postgres_project_url", "postgres_read_url")
    @classmethod
    def _check_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql:// or postgres://")
        return value

    @field_validator("evm_rpc_url")
    @classmethod
    def _check_node(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is None else _node(value)

    @field_validator("chain_other_rpc_urls")
    @classmethod
    def _check_nodes(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        return tuple(map(_node, value))

    @field_validator("chain_other_rpc_urls", "chain_addresses", "chain_tokens", mode="before")
    @classmethod
    def _parse_list(cls, value: object) -> object:
        return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value

    @field_validator("asset_scales", "chain_tolerances", "chain_deposit_accounts", mode="before")
    @classmethod
    def _parse_scales(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = (item.partition("=") for item in value.split(",") if item.strip())
        return {asset.strip(): scale.strip() for asset, _, scale in pairs}

    @field_validator("asset_scales")
    @classmethod
    def _check_scales(cls, value: dict[str, int]) -> dict[str, int]:
        for asset, scale in value.items():
            if not 0 <= scale <= SCALE:
                raise ValueError(f"{asset}: 0 to {SCALE} decimals")
        return value

    @field_validator("log_origin")
    @classmethod
    def _check_origin(cls, value: str | None) -> str | None:
        if value is not None and not is_name(value):
            raise ValueError("must be text without white space and plus signs")
        return value

    @property
    def origin(self) -> str:
        """The ledger's name in checkpoints; a partition's is this, "/" and its number."""
        return self.log_origin or f"partita.local/{self.ledger}"

    @property
    def signing_keys(self) -> SigningKeys:
        """The keys that sign checkpoints; a file that no setting names is made when it is first needed."""
        default = _home("XDG_CONFIG_HOME", ".config") / "partita" / "keys" / f"{self.ledger}.key"
        return SigningKeys(
            path=self.signing_key_file or default, name=self.origin, may_make=self.signing_key_file is None
        )

    @property
    def topics(self) -> Topics:
        """The names of the ledger's topics."""
        return Topics(prefix=self.ledger)

    @property
    def postgres_schema(self) -> str:
        """The PostgreSQL schema of the ledger's read-model tables."""
        return self.ledger

    def stores_dir(self, instance: str) -> Path:
        """Return where the handler of this name keeps its stores."""
        return self.state_dir / "stores" / f"{self.ledger}-{instance}"

    @cached_property
    def _local(self) -> dict[str, str]:
        from partita.stack.addresses import read_addresses  # noqa: PLC0415  # not needed when all is configured

        return read_addresses(self.stack_dir) or {}

    def bootstrap(self) -> str:
        """Return Kafka's address; raises `NotConfigured`."""
        return self.kafka_bootstrap or self._found("kafka_bootstrap")

    def registry_url(self) -> str:
        """Return the Schema Registry's address; raises `NotConfigured`."""
        return self.schema_registry_url or self._found("schema_registry_url")

    @property
    def has_database_roles(self) -> bool:
        """Whether those who migrate, project and read have addresses of their own."""
        return any(self._url_of(access) for access in Access)

    def database_url(self, access: Access | None = None) -> str:
        """Return PostgreSQL's address for one of the roles, password included; raises `NotConfigured`."""
        if url := (access and self._url_of(access)) or self.postgres_url:
            return url.get_secret_value()
        if access and self.has_database_roles:  # another database than that of the other roles is never guessed
            name = f"PARTITA_POSTGRES_{access.upper()}_URL"
            raise NotConfigured(f"neither {name} nor PARTITA_POSTGRES_URL is set", setting=name)
        return self._found("postgres_url")

    def _url_of(self, access: Access) -> SecretStr | None:
        url: SecretStr | None = getattr(self, f"postgres_{access}_url")
        return url

    def immudb_address(self) -> tuple[str, int]:
        """Return immudb's host and port; raises `NotConfigured`."""
        if self.immudb_host:
            return self.immudb_host, self.immudb_port or IMMUDB_PORT
        return self._found("immudb_host"), self.immudb_port or int(self._found("immudb_port"))

    def trusted_state_file(self) -> Path:
        """Return where the trusted state of immudb's database is; the local stack's goes with its data."""
        if self.immudb_state_file is not None:
            return self.immudb_state_file
        home = self.state_dir if self.immudb_host else self.stack_dir / "data"
        return home / "immudb-trusted" / f"{self.immudb_database}.json"

    def rpc_url(self) -> str:
        """Return the address of the chain's node, key included; raises `NotConfigured`."""
        return self.evm_rpc_url.get_secret_value() if self.evm_rpc_url else self._found("evm_rpc_url")

    def anchoring_key(self) -> str:
        """Return the key of the address that sends anchors; raises `NotConfigured`."""
        if self.anchor_key is not None:
            return self.anchor_key.get_secret_value()
        if self.anchor_key_file is None:
            raise NotConfigured(
                "no key sends anchors: set PARTITA_ANCHOR_KEY_FILE or PARTITA_ANCHOR_KEY",
                setting="PARTITA_ANCHOR_KEY_FILE",
            )
        try:
            return self.anchor_key_file.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise NotConfigured(
                f"{self.anchor_key_file} can't be read: {type(error).__name__}", setting="PARTITA_ANCHOR_KEY_FILE"
            ) from None

    @property
    def chain_schema(self) -> str:
        """The PostgreSQL schema of the reconciler's tables."""
        return f"{self.ledger}_chain"

    def environment(self) -> dict[str, str]:
        """Return the environment for a child process that is to work on the same ledger."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("PARTITA_POSTGRES_")}
        roles = {f"PARTITA_POSTGRES_{access.upper()}_URL": self._url_of(access) for access in Access}
        return {
            **others,
            **{name: url.get_secret_value() for name, url in roles.items() if url},
            "PARTITA_KAFKA_BOOTSTRAP": self.bootstrap(),
            "PARTITA_SCHEMA_REGISTRY_URL": self.registry_url(),
            "PARTITA_POSTGRES_URL": self.database_url(),
            "PARTITA_LEDGER": self.ledger,
            "PARTITA_STATE_DIR": str(self.state_dir),
            "PARTITA_LOG_ORIGIN": self.origin,
            **({"PARTITA_SIGNING_KEY_FILE": str(self.signing_key_file)} if self.signing_key_file else {}),
        }

    def _found(self, name: str) -> str:
        if name not in self._local:
            raise NotConfigured(
                f"PARTITA_{name.upper()} is not set and no local stack is up: set it, or run `partita stack up`",
                setting=f"PARTITA_{name.upper()}",
            )
        return self._local[name]
