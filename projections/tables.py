"""The read model's tables: what analysts query, and what the migrations must add up to.

The tables name no schema: it is the ledger's name, given when a statement is compiled or a migration runs. Text
that identifies is compared byte by byte (collation "C"): faster, and the same on every machine.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

from events.money import PRECISION, SCALE

metadata: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

ID: Final = Text(collation="C")
MONEY: Final = Numeric(PRECISION, SCALE)
TIME: Final = DateTime(timezone=True)

entries: Final = Table(
    "entries",
    metadata,
    Column("entry_id", ID, primary_key=True, comment='"<partition>-<sequence>": where the entry is in the log'),
    Column("partition", Integer, nullable=False, comment="Partition of the events topic"),
    Column("sequence", BigInteger, nullable=False, comment="Position in the partition; rejections take one too"),
    Column("account_id", ID, nullable=False, comment="The account that the entry moves"),
    Column("version", BigInteger, nullable=False, comment="Counts the entries of the account: 1, 2, 3, ..."),
    Column("entry_type", Text, nullable=False, comment="CREDIT adds to the balance, DEBIT takes from it"),
    Column("amount", MONEY, nullable=False, comment="Greater than zero, exact, in whole units of the asset"),
    Column("asset", ID, nullable=False, comment="What is counted: USD, USDC, ..."),
    Column("running_balance", MONEY, nullable=False, comment="Balance of account and asset after this entry"),
    Column("command_id", ID, nullable=False, comment="The requester's id of the command; once per account"),
    Column("reference", Text, comment="The requester's own reference"),
    Column("metadata", JSONB, comment="The requester's JSON object"),
    Column("effective_at", TIME, nullable=False, comment="When the entry counts from: as given, or recorded_at"),
    Column("recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"),
    Column("writer_epoch", BigInteger, nullable=False, comment="Which of the partition's writers appended it"),
    UniqueConstraint("account_id", "version"),
    CheckConstraint("entry_type IN ('CREDIT', 'DEBIT')", name="entry_type"),
    CheckConstraint("amount > 0", name="amount"),
    comment="Every entry ever posted, one row each. Append-only: a correction is another entry",
)

balances: Final = Table(
    "balances",
    metadata,
    Column("account_id", ID, primary_key=True, comment="The account"),
    Column("asset", ID, primary_key=True, comment="What is counted"),
    Column("balance", MONEY, nullable=False, comment="Credits less debits, exact, in whole units of the asset"),
    Column("version", BigInteger, nullable=False, comment="Version of the account at its last entry of this asset"),
    Column("partition", Integer, nullable=False, comment="Partition of that entry"),
    Column("sequence", BigInteger, nullable=False, comment="Sequence of that entry"),
    Column("updated_at", TIME, nullable=False, comment="When that entry was recorded"),
    comment="The balance of every account and asset that has an entry: its last running_balance",
    postgresql_with={"fillfactor": "70"},  # room for updates in place
)

rejections: Final = Table(
    "rejections",
    metadata,
    Column("partition", Integer, primary_key=True, comment="Partition of the events topic"),
    Column("sequence", BigInteger, primary_key=True, comment="Position in the partition; entries take one too"),
    Column("command_id", ID, nullable=False, comment="The requester's id of the command"),
    Column("account_id", ID, nullable=False, comment="The account that the command was for"),
    Column("command_type", Text, nullable=False, comment="PostEntry, ..."),
    Column("code", Text, nullable=False, comment="The rule that the command broke: InsufficientFunds, ..."),
    Column("message", Text, nullable=False, comment="The same for people"),
    Column("details", JSONB, nullable=False, comment="What the rule saw, by name; amounts as plain decimals"),
    Column("recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"),
    comment="Every command that broke a rule, one row each. Append-only; no balance changed",
)

positions: Final = Table(
    "positions",
    metadata,
    Column("projection", Text, primary_key=True, comment="Which projection: balances"),
    Column("partition", Integer, primary_key=True, autoincrement=False, comment="Partition of the events topic"),
    Column("next_offset", BigInteger, nullable=False, comment="Kafka offset to read from"),
    Column(
        "next_sequence", BigInteger, nullable=False, comment="Sequence that comes next: all below are in the tables"
    ),
    Column("writer_epoch", BigInteger, nullable=False, comment="Epoch of the last event's writer"),
    Column("recorded_at", TIME, comment="When the last event was recorded; null before the first"),
    Column("halted", Text, comment="Why the projection stopped before next_offset; null when it goes on"),
    Column("partition_count", Integer, nullable=False, comment="Partitions of the ledger; never changes"),
    comment="How far each projection has got; moves in the same transaction as the rows",
)
