"""The first tables: entries, balances, rejections, positions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")
MONEY = sa.Numeric(38, 18)
TIME = sa.DateTime(timezone=True)

APPEND_ONLY = ("entries", "rejections")


def upgrade() -> None:
    """Make the tables, and refuse changes of what is append-only."""
    _create_entries()
    _create_balances()
    _create_rejections()
    _create_positions()
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only: a correction is another entry', TG_TABLE_NAME "
        "USING ERRCODE = 'insufficient_privilege'; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    """Drop the tables and all that is in them; the log still has it."""
    for table in ("positions", "rejections", "balances", "entries"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")


def _create_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("entry_id", ID, nullable=False, comment='"<partition>-<sequence>": where the entry is in the log'),
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition of the events topic"),
        sa.Column(
            "sequence", sa.BigInteger(), nullable=False, comment="Position in the partition; rejections take one too"
        ),
        sa.Column("account_id", ID, nullable=False, comment="The account that the entry moves"),
        sa.Column(
            "version", sa.BigInteger(), nullable=False, comment="Counts the entries of the account: 1, 2, 3, ..."
        ),
        sa.Column("entry_type", sa.Text(), nullable=False, comment="CREDIT adds to the balance, DEBIT takes from it"),
        sa.Column("amount", MONEY, nullable=False, comment="Greater than zero, exact, in whole units of the asset"),
        sa.Column("asset", ID, nullable=False, comment="What is counted: USD, USDC, ..."),
        sa.Column("running_balance", MONEY, nullable=False, comment="Balance of account and asset after this entry"),
        sa.Column("command_id", ID, nullable=False, comment="The requester's id of the command; once per account"),
        sa.Column("reference", sa.Text(), nullable=True, comment="The requester's own reference"),
        sa.Column("metadata", JSONB(), nullable=True, comment="The requester's JSON object"),
        sa.Column(
            "effective_at", TIME, nullable=False, comment="When the entry counts from: as given, or recorded_at"
        ),
        sa.Column(
            "recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"
        ),
        sa.Column(
            "writer_epoch", sa.BigInteger(), nullable=False, comment="Which of the partition's writers appended it"
        ),
        sa.PrimaryKeyConstraint("entry_id", name="entries_pkey"),
        sa.UniqueConstraint("account_id", "version", name="entries_account_id_version_key"),
        sa.CheckConstraint("amount > 0", name="amount"),
        sa.CheckConstraint("entry_type IN ('CREDIT', 'DEBIT')", name="entry_type"),
        comment="Every entry ever posted, one row each. Append-only: a correction is another entry",
    )


def _create_balances() -> None:
    op.create_table(
        "balances",
        sa.Column("account_id", ID, nullable=False, comment="The account"),
        sa.Column("asset", ID, nullable=False, comment="What is counted"),
        sa.Column(
            "balance", MONEY, nullable=False, comment="Credits less debits, exact, in whole units of the asset"
        ),
        sa.Column(
            "version",
            sa.BigInteger(),
            nullable=False,
            comment="Version of the account at its last entry of this asset",
        ),
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition of that entry"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="Sequence of that entry"),
        sa.Column("updated_at", TIME, nullable=False, comment="When that entry was recorded"),
        sa.PrimaryKeyConstraint("account_id", "asset", name="balances_pkey"),
        comment="The balance of every account and asset that has an entry: its last running_balance",
        postgresql_with={"fillfactor": "70"},
    )


def _create_rejections() -> None:
    op.create_table(
        "rejections",
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition of the events topic"),
        sa.Column(
            "sequence", sa.BigInteger(), nullable=False, comment="Position in the partition; entries take one too"
        ),
        sa.Column("command_id", ID, nullable=False, comment="The requester's id of the command"),
        sa.Column("account_id", ID, nullable=False, comment="The account that the command was for"),
        sa.Column("command_type", sa.Text(), nullable=False, comment="PostEntry, ..."),
        sa.Column(
            "code", sa.Text(), nullable=False, comment="The rule that the command broke: InsufficientFunds, ..."
        ),
        sa.Column("message", sa.Text(), nullable=False, comment="The same for people"),
        sa.Column(
            "details", JSONB(), nullable=False, comment="What the rule saw, by name; amounts as plain decimals"
        ),
        sa.Column(
            "recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"
        ),
        sa.PrimaryKeyConstraint("partition", "sequence", name="rejections_pkey"),
        comment="Every command that broke a rule, one row each. Append-only; no balance changed",
    )


def _create_positions() -> None:
    op.create_table(
        "positions",
        sa.Column("projection", sa.Text(), nullable=False, comment="Which projection: balances"),
        sa.Column(
            "partition", sa.Integer(), nullable=False, autoincrement=False, comment="Partition of the events topic"
        ),
        sa.Column("next_offset", sa.BigInteger(), nullable=False, comment="Kafka offset to read from"),
        sa.Column(
            "next_sequence",
            sa.BigInteger(),
            nullable=False,
            comment="Sequence that comes next: all below are in the tables",
        ),
        sa.Column("writer_epoch", sa.BigInteger(), nullable=False, comment="Epoch of the last event's writer"),
        sa.Column(
            "recorded_at", TIME, nullable=True, comment="When the last event was recorded; null before the first"
        ),
        sa.Column(
            "halted",
            sa.Text(),
            nullable=True,
            comment="Why the projection stopped before next_offset; null when it goes on",
        ),
        sa.Column("partition_count", sa.Integer(), nullable=False, comment="Partitions of the ledger; never changes"),
        sa.PrimaryKeyConstraint("projection", "partition", name="positions_pkey"),
        comment="How far each projection has got; moves in the same transaction as the rows",
    )
