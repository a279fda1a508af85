"""The first tables: expectations, findings, resolutions, and how far chain and log have been read."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")
MONEY = sa.Numeric(38, 18)
VALUE = sa.Numeric(78, 0)
TIME = sa.DateTime(timezone=True)

APPEND_ONLY = ("expectations", "findings", "resolutions")


def upgrade() -> None:
    """Make the tables, and refuse changes of what is append-only."""
    _create_expectations()
    _create_findings()
    _create_resolutions()
    _create_positions()
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only: what is found anew is another row', TG_TABLE_NAME "
        "USING ERRCODE = 'insufficient_privilege'; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    op.execute(f"CREATE VIEW discrepancies AS {DISCREPANCIES}")
    op.execute("COMMENT ON VIEW discrepancies IS 'Discrepancies that hold now, with what was last said of each'")


def downgrade() -> None:
    """Drop the tables and all that is in them."""
    op.execute("DROP VIEW discrepancies")
    for table in ("offsets", "marks", "cursors", "resolutions", "findings", "expectations"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")


def _create_expectations() -> None:
    op.create_table(
        "expectations",
        sa.Column("entry_id", ID, nullable=False, comment="The entry that names a transaction"),
        sa.Column("account_id", ID, nullable=False, comment="The account that the entry moves"),
        sa.Column(
            "entry_type", sa.Text(), nullable=False, comment="CREDIT expects a transfer to us, DEBIT one from us"
        ),
        sa.Column("amount", MONEY, nullable=False, comment="In whole units of the asset"),
        sa.Column("asset", ID, nullable=False, comment="As the ledger calls it"),
        sa.Column(
            "chain", ID, nullable=False, comment="As the entry calls it, in lower case; empty when it does not say"
        ),
        sa.Column("tx_hash", ID, nullable=False, comment="As the entry gives it, in lower case"),
        sa.Column("token", ID, nullable=True, comment="As the entry calls it; null when it does not say"),
        sa.Column("sender", ID, nullable=True, comment="From where, if the entry says"),
        sa.Column("recipient", ID, nullable=True, comment="To where, if the entry says"),
        sa.Column("log_index", sa.BigInteger(), nullable=True, comment="Which log of the block, if the entry says"),
        sa.Column("problem", sa.Text(), nullable=True, comment="Why what the entry names can't be; null when it can"),
        sa.Column("recorded_at", TIME, nullable=False, comment="When the entry was recorded"),
        sa.CheckConstraint("entry_type IN ('CREDIT', 'DEBIT')", name=op.f("expectations_entry_type_check")),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("expectations_pkey")),
        comment="Every entry that names a transaction of a chain. Append-only",
    )
    op.create_index("expectations_chain_idx", "expectations", ["chain", "entry_id"], unique=False)
    op.create_index("expectations_tx_idx", "expectations", ["tx_hash"], unique=False)


def _create_findings() -> None:
    op.create_table(
        "findings",
        sa.Column(
            "finding_id", ID, nullable=False, comment="The chain's id and the entry, or the transaction and log"
        ),
        sa.Column(
            "version",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="Counts what was found of it",
        ),
        sa.Column("chain_id", sa.BigInteger(), nullable=False, comment="EIP-155"),
        sa.Column("kind", sa.Text(), nullable=False, comment="matched, the type of a discrepancy, or withdrawn"),
        sa.Column(
            "discrepancy_id",
            ID,
            nullable=True,
            comment="The same for the same discrepancy however often it is found; null: none",
        ),
        sa.Column("entry_id", ID, nullable=True, comment="The entry; null when it is of a transfer alone"),
        sa.Column("tx_hash", ID, nullable=False, comment="The transaction"),
        sa.Column(
            "log_index",
            sa.BigInteger(),
            nullable=True,
            comment="Which log of the block; -1: a native transfer; null: no transfer",
        ),
        sa.Column(
            "block_number", sa.BigInteger(), nullable=True, comment="The transaction's block; null when it is in none"
        ),
        sa.Column("block_hash", ID, nullable=True, comment="That block's hash when it was read"),
        sa.Column("token", ID, nullable=True, comment="The transfer's token: a contract's address, or native"),
        sa.Column("sender", ID, nullable=True, comment="From where the transfer was"),
        sa.Column("recipient", ID, nullable=True, comment="To where the transfer was"),
        sa.Column("value", VALUE, nullable=True, comment="The transfer's value in base units of its token"),
        sa.Column("description", sa.Text(), nullable=False, comment="What was found, for people; empty when matched"),
        sa.Column(
            "found_at", TIME, server_default=sa.text("now()"), nullable=False, comment="When this version was found"
        ),
        sa.CheckConstraint(
            "(discrepancy_id IS NULL) = (kind IN ('matched', 'withdrawn'))", name=op.f("findings_discrepancy_check")
        ),
        sa.CheckConstraint(
            "num_nulls(log_index, token, sender, recipient, value) IN (0, 5)", name=op.f("findings_transfer_check")
        ),
        sa.CheckConstraint("version > 0", name=op.f("findings_version_check")),
        sa.PrimaryKeyConstraint("finding_id", "version", name=op.f("findings_pkey")),
        comment="What was found, each time that it changed. Append-only: the last version of a finding holds",
    )
    op.create_index("findings_block_idx", "findings", ["chain_id", "block_number"], unique=False)
    op.create_index(
        "findings_discrepancy_idx",
        "findings",
        ["discrepancy_id"],
        unique=False,
        postgresql_where=sa.text("discrepancy_id IS NOT NULL"),
    )
    op.create_index(
        "findings_entry_idx", "findings", ["entry_id"], unique=False, postgresql_where=sa.text("entry_id IS NOT NULL")
    )
    op.create_index("findings_tx_idx", "findings", ["tx_hash"], unique=False)


def _create_resolutions() -> None:
    op.create_table(
        "resolutions",
        sa.Column("event_id", ID, nullable=False, comment="The event on the reconciliation topic"),
        sa.Column("discrepancy_id", ID, nullable=False, comment="The discrepancy"),
        sa.Column("action", sa.Text(), nullable=False, comment="explained, ignored, resolved or reopened"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why, in words"),
        sa.Column("batch_id", ID, nullable=True, comment="The batch that corrects it; of resolved"),
        sa.Column("actor", sa.Text(), nullable=True, comment="Who said so"),
        sa.Column("recorded_at", TIME, nullable=False, comment="When it was said"),
        sa.Column(
            "position",
            sa.BigInteger(),
            nullable=False,
            comment="Offset on the reconciliation topic: the last one holds",
        ),
        sa.CheckConstraint("(action = 'resolved') = (batch_id IS NOT NULL)", name=op.f("resolutions_batch_check")),
        sa.CheckConstraint(
            "action IN ('explained', 'ignored', 'resolved', 'reopened')", name=op.f("resolutions_action_check")
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("resolutions_pkey")),
        comment="What people said of discrepancies, each time. Append-only: the last of a discrepancy holds",
    )
    op.create_index("resolutions_discrepancy_idx", "resolutions", ["discrepancy_id", "position"], unique=False)


def _create_positions() -> None:
    op.create_table(
        "cursors",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="EIP-155"),
        sa.Column("block_number", sa.BigInteger(), nullable=False, comment="All blocks up to it have been compared"),
        sa.Column("block_hash", ID, nullable=False, comment="Its hash: another one there means a reorganisation"),
        sa.Column("updated_at", TIME, server_default=sa.text("now()"), nullable=False, comment="When it moved"),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("cursors_pkey")),
        comment="How far the reconciler has read each chain; moves in the same transaction as the findings",
    )
    op.create_table(
        "marks",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="EIP-155"),
        sa.Column(
            "block_number", sa.BigInteger(), autoincrement=False, nullable=False, comment="A block that was a cursor"
        ),
        sa.Column("block_hash", ID, nullable=False, comment="Its hash then"),
        sa.PrimaryKeyConstraint("chain_id", "block_number", name=op.f("marks_pkey")),
        comment="Where the cursor was before: to go back to after a reorganisation. The last 1,000 are kept",
    )
    op.create_table(
        "offsets",
        sa.Column("topic", ID, nullable=False, comment="events or reconciliation"),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False, comment="Partition of the topic"),
        sa.Column("next_offset", sa.BigInteger(), nullable=False, comment="Kafka offset to read from"),
        sa.Column(
            "next_sequence", sa.BigInteger(), nullable=False, comment="Sequence that comes next, of the events"
        ),
        sa.Column("writer_epoch", sa.BigInteger(), nullable=False, comment="Epoch of the last event's writer"),
        sa.PrimaryKeyConstraint("topic", "partition", name=op.f("offsets_pkey")),
        comment="How far the topics have been read; moves in the same transaction as the rows",
    )


DISCREPANCIES = """
SELECT f.discrepancy_id, f.kind AS type, f.description, f.chain_id, f.entry_id, e.account_id, e.entry_type, e.amount,
    e.asset, f.tx_hash, f.log_index, f.block_number, f.block_hash, f.token, f.sender, f.recipient, f.value, f.version,
    f.found_at, coalesce(r.action, 'open') AS state, r.reason, r.batch_id, r.actor
FROM findings AS f
LEFT JOIN expectations AS e USING (entry_id)
LEFT JOIN LATERAL (
    SELECT * FROM resolutions AS r WHERE r.discrepancy_id = f.discrepancy_id ORDER BY position DESC LIMIT 1
) AS r ON true
WHERE f.discrepancy_id IS NOT NULL
AND NOT EXISTS (SELECT FROM findings AS n WHERE n.finding_id = f.finding_id AND n.version = f.version + 1)
"""
