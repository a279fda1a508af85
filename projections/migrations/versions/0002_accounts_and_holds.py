"""Accounts, holds and their changes; what is held and available of each balance.

A generated column makes PostgreSQL write `balances` anew, under a lock: on a large ledger, migrate in a quiet hour.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")
MONEY = sa.Numeric(38, 18)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Widen the tables there are, make the new ones, and fill in the accounts that entries have opened."""
    _widen()
    _comment()
    _create_accounts()
    _create_holds()
    _create_changes()
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON changes "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "INSERT INTO accounts (account_id, status, permanent, floor, assets, version, partition, sequence, "
        "opened_at, updated_at) SELECT account_id, 'OPEN', false, 0, '{}', version, partition, sequence, "
        "recorded_at, recorded_at FROM entries WHERE version = 1"
    )


def downgrade() -> None:
    """Drop what the upgrade made; the log still has it."""
    for table in ("changes", "holds", "accounts"):
        op.drop_table(table)
    op.drop_column("balances", "available")
    op.drop_column("balances", "held")
    op.drop_column("entries", "hold_id")
    for table, column, before, _ in COMMENTS:
        _say(table, column, before)
    op.create_table_comment(
        "balances", "The balance of every account and asset that has an entry: its last running_balance"
    )


COMMENTS = (
    (
        "entries",
        "sequence",
        "Position in the partition; rejections take one too",
        "Position in the partition; rejections and changes take one too",
    ),
    (
        "entries",
        "version",
        "Counts the entries of the account: 1, 2, 3, ...",
        "Counts the account''s entries and changes: 1, 2, 3, ...",
    ),
    (
        "rejections",
        "sequence",
        "Position in the partition; entries take one too",
        "Position in the partition; entries and changes take one too",
    ),
    (
        "balances",
        "version",
        "Version of the account at its last entry of this asset",
        "Version of the account at the last change of this asset",
    ),
    ("balances", "partition", "Partition of that entry", "Partition of that change: an entry, or a hold''s"),
    ("balances", "sequence", "Sequence of that entry", "Sequence of that change"),
    ("balances", "updated_at", "When that entry was recorded", "When that change was recorded"),
)
"""Table, column, what its comment was and what it becomes."""


def _comment() -> None:
    for table, column, _, after in COMMENTS:
        _say(table, column, after)
    op.create_table_comment("balances", "What every account has of every asset that an entry or a hold was ever of")


def _say(table: str, column: str, comment: str) -> None:
    op.execute(f"COMMENT ON COLUMN {table}.{column} IS '{comment}'")


def _widen() -> None:
    op.add_column(
        "entries",
        sa.Column(
            "hold_id",
            ID,
            nullable=True,
            comment="The hold that the entry settles, in whole or in part; null when it settles none",
        ),
    )
    op.add_column(
        "balances",
        sa.Column(
            "held",
            MONEY,
            sa.CheckConstraint("held >= 0", name=op.f("balances_held_check")),
            nullable=False,
            server_default="0",
            comment="What open holds reserve of the balance, never below 0",
        ),
    )
    op.add_column(
        "balances",
        sa.Column(
            "available",
            MONEY,
            sa.Computed("balance - held", persisted=True),
            nullable=True,
            comment="balance less held; the account's floor, which may be below 0, is not counted in",
        ),
    )


def _create_accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_id", ID, nullable=False, comment="The account"),
        sa.Column(
            "status", sa.Text(), nullable=False, comment="OPEN, FROZEN (takes no entries and no holds) or CLOSED"
        ),
        sa.Column("permanent", sa.Boolean(), nullable=False, comment="Whether it was closed for ever"),
        sa.Column(
            "floor",
            MONEY,
            nullable=True,
            comment="No balance less what is held falls below it: 0 or less; null is no floor",
        ),
        sa.Column("assets", sa.ARRAY(ID), nullable=False, comment="The only assets that it may hold; empty is any"),
        sa.Column("account_type", sa.Text(), nullable=True, comment="The requester's own kind of account"),
        sa.Column("reference", sa.Text(), nullable=True, comment="The requester's own reference"),
        sa.Column("metadata", JSONB(), nullable=True, comment="The requester's JSON object"),
        sa.Column(
            "version", sa.BigInteger(), nullable=False, comment="Version of the account at its last change of status"
        ),
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition of that change"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="Sequence of that change"),
        sa.Column(
            "opened_at",
            TIME,
            nullable=False,
            comment="When its opening was recorded: by a command of its own, or by its first entry",
        ),
        sa.Column("updated_at", TIME, nullable=False, comment="When its last change of status was recorded"),
        sa.PrimaryKeyConstraint("account_id", name=op.f("accounts_pkey")),
        sa.CheckConstraint("status IN ('OPEN', 'FROZEN', 'CLOSED')", name=op.f("accounts_status_check")),
        sa.CheckConstraint("floor <= 0", name=op.f("accounts_floor_check")),
        comment="Every account that was opened, by a command of its own or by its first entry",
        postgresql_with={"fillfactor": "90"},
    )


def _create_holds() -> None:
    op.create_table(
        "holds",
        sa.Column("account_id", ID, nullable=False, comment="The account whose funds are reserved"),
        sa.Column("hold_id", ID, nullable=False, comment="The id of the command that placed it"),
        sa.Column("asset", ID, nullable=False, comment="What is counted"),
        sa.Column("amount", MONEY, nullable=False, comment="What was reserved at first, in whole units of the asset"),
        sa.Column("remaining", MONEY, nullable=False, comment="What is still reserved; 0 when the hold has ended"),
        sa.Column(
            "status", sa.Text(), nullable=False, comment="PLACED; or how it ended: SETTLED, RELEASED or EXPIRED"
        ),
        sa.Column("expires_at", TIME, nullable=True, comment="From when it may be ended as expired; null is never"),
        sa.Column("reference", sa.Text(), nullable=True, comment="The requester's own reference"),
        sa.Column("metadata", JSONB(), nullable=True, comment="The requester's JSON object"),
        sa.Column("placed_at", TIME, nullable=False, comment="When it was recorded as placed"),
        sa.Column(
            "placed_version",
            sa.BigInteger(),
            nullable=False,
            comment="Version of the account then: orders its holds",
        ),
        sa.Column("ended_at", TIME, nullable=True, comment="When its end was recorded; null while it is open"),
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition of its last change"),
        sa.Column("sequence", sa.BigInteger(), nullable=False, comment="Sequence of its last change"),
        sa.Column("version", sa.BigInteger(), nullable=False, comment="Version of the account at its last change"),
        sa.PrimaryKeyConstraint("account_id", "hold_id", name=op.f("holds_pkey")),
        sa.UniqueConstraint("account_id", "placed_version", name=op.f("holds_account_id_placed_version_key")),
        sa.CheckConstraint("status IN ('PLACED', 'SETTLED', 'RELEASED', 'EXPIRED')", name=op.f("holds_status_check")),
        sa.CheckConstraint("remaining BETWEEN 0 AND amount", name=op.f("holds_remaining_check")),
        sa.CheckConstraint("(status = 'PLACED') = (remaining > 0)", name=op.f("holds_open_check")),
        sa.CheckConstraint("(status = 'PLACED') = (ended_at IS NULL)", name=op.f("holds_ended_check")),
        comment="Every hold ever placed, as it is now",
        postgresql_with={"fillfactor": "90"},
    )
    op.create_index(
        "holds_open_idx", "holds", ["account_id", "placed_version"], postgresql_where=sa.text("status = 'PLACED'")
    )
    op.create_index(
        "holds_due_idx",
        "holds",
        ["expires_at"],
        postgresql_where=sa.text("status = 'PLACED' AND expires_at IS NOT NULL"),
    )


def _create_changes() -> None:
    op.create_table(
        "changes",
        sa.Column("partition", sa.Integer(), nullable=False, comment="Partition of the events topic"),
        sa.Column(
            "sequence",
            sa.BigInteger(),
            nullable=False,
            comment="Position in the partition; entries and rejections take one too",
        ),
        sa.Column("account_id", ID, nullable=False, comment="The account that changed"),
        sa.Column(
            "version",
            sa.BigInteger(),
            nullable=False,
            comment="Counts the account's entries and changes: 1, 2, 3, ...",
        ),
        sa.Column("change", sa.Text(), nullable=False, comment="The event's type: AccountOpened, HoldPlaced, ..."),
        sa.Column("command_id", ID, nullable=False, comment="The requester's id of the command; once per account"),
        sa.Column(
            "hold_id",
            ID,
            nullable=True,
            comment="The hold that was placed or released; null when it is none of a hold's",
        ),
        sa.Column("asset", ID, nullable=True, comment="Of what a hold was placed or released"),
        sa.Column(
            "amount", MONEY, nullable=True, comment="What the hold reserved or set free, in whole units of the asset"
        ),
        sa.Column("held", MONEY, nullable=True, comment="What all holds of account and asset reserve after it"),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why, in the requester's words"),
        sa.Column("reference", sa.Text(), nullable=True, comment="The requester's own reference"),
        sa.Column("metadata", JSONB(), nullable=True, comment="The requester's JSON object"),
        sa.Column(
            "details", JSONB(), nullable=False, comment="What only this type has, by name; amounts as plain decimals"
        ),
        sa.Column(
            "recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"
        ),
        sa.Column(
            "writer_epoch", sa.BigInteger(), nullable=False, comment="Which of the partition's writers appended it"
        ),
        sa.PrimaryKeyConstraint("partition", "sequence", name=op.f("changes_pkey")),
        sa.UniqueConstraint("account_id", "version", name=op.f("changes_account_id_version_key")),
        sa.CheckConstraint("amount > 0", name=op.f("changes_amount_check")),
        comment="Every change of an account that is no entry, one row each. Append-only, like entries",
    )
