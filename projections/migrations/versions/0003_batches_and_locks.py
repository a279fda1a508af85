"""Batches with their steps; the batch of an entry, a change and a rejection. Locks and promises are changes.

The new constraints of `entries` and `changes` make PostgreSQL read them once, under a lock: on a large ledger,
migrate in a quiet hour.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Widen the tables there are, and make the new ones."""
    _widen_entries()
    _widen_changes()
    _widen_rejections()
    _create_batches()
    _create_steps()
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON batch_steps "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    for table, column, _, after in COMMENTS:
        _say(table, column, after)


def downgrade() -> None:
    """Drop what the upgrade made; the log still has it."""
    op.drop_table("batch_steps")
    op.drop_table("batches")
    for name in ("batch_id", "leg", "legs", "forced"):
        op.drop_column("entries", name)
    for name in ("batch_id", "leg"):
        op.drop_column("changes", name)
    for name in ("leg", "reversal_of"):
        op.drop_column("rejections", name)
    op.execute("ALTER TABLE rejections DISABLE TRIGGER append_only")
    op.execute("DELETE FROM rejections WHERE account_id IS NULL")
    op.execute("ALTER TABLE rejections ENABLE TRIGGER append_only")
    op.alter_column("rejections", "account_id", nullable=False)
    for table, column, before, _ in COMMENTS:
        _say(table, column, before)


_ONCE = "The requester''s id of the command; once per account"
_ONCE_OR_BATCH = "Id of the command, once per account, or of the batch"

COMMENTS = (
    (
        "entries",
        "sequence",
        "Position in the partition; rejections and changes take one too",
        "Position in the partition; rejections, changes and steps of batches take one too",
    ),
    ("entries", "command_id", _ONCE, _ONCE_OR_BATCH),
    (
        "balances",
        "held",
        "What open holds reserve of the balance, never below 0",
        "What open holds and batches in flight reserve of the balance, never below 0",
    ),
    (
        "balances",
        "partition",
        "Partition of that change: an entry, or a hold''s",
        "Partition of that change: an entry, a hold''s or a batch''s",
    ),
    (
        "changes",
        "sequence",
        "Position in the partition; entries and rejections take one too",
        "Position in the partition; entries, rejections and steps of batches take one too",
    ),
    ("changes", "command_id", _ONCE, _ONCE_OR_BATCH),
    ("changes", "asset", "Of what a hold was placed or released", "Of what a hold or a promise is"),
    (
        "changes",
        "amount",
        "What the hold reserved or set free, in whole units of the asset",
        "What was reserved or set free, or what a batch will credit, in whole units",
    ),
    (
        "changes",
        "held",
        "What all holds of account and asset reserve after it",
        "What is held of account and asset after it; null where it stays",
    ),
    (
        "rejections",
        "sequence",
        "Position in the partition; entries and changes take one too",
        "Position in the partition; entries, changes and steps of batches take one too",
    ),
    (
        "rejections",
        "account_id",
        "The account that the command was for",
        "The account that the command was for; null for a batch",
    ),
    ("rejections", "command_type", "PostEntry, ...", "PostEntry, PostBatch, ..."),
)
"""Table, column, what its comment was and what it becomes."""


def _say(table: str, column: str, comment: str) -> None:
    op.execute(f"COMMENT ON COLUMN {table}.{column} IS '{comment}'")


def _column(name: str, kind: Any, comment: str, *, nullable: bool = True) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=nullable, comment=comment)


def _index_of_batch(table: str, *, unique: bool) -> None:
    named = sa.text("batch_id IS NOT NULL")
    op.create_index(f"{table}_batch_idx", table, ["batch_id", "leg"], unique=unique, postgresql_where=named)


def _widen_entries() -> None:
    for column in (
        _column("batch_id", ID, "The batch that the entry is of; null when it is of none"),
        _column("leg", sa.Integer(), "Which entry of the batch, from 0"),
        _column("legs", sa.Integer(), "How many entries the batch has; they are all here, or none"),
        _column("forced", sa.Boolean(), "Whether it might go below the floor: a reversal that was forced"),
    ):
        op.add_column("entries", column)
    all_or_none = "num_nulls(batch_id, leg, legs, forced) IN (0, 4)"
    op.create_check_constraint(op.f("entries_batch_check"), "entries", all_or_none)
    op.create_check_constraint(op.f("entries_leg_check"), "entries", "leg BETWEEN 0 AND legs - 1")
    _index_of_batch("entries", unique=True)


def _widen_changes() -> None:
    op.add_column(
        "changes",
        _column("batch_id", ID, "The batch for which an entry was promised, or the promise taken back"),
    )
    op.add_column("changes", _column("leg", sa.Integer(), "Which entry of the batch, from 0"))
    op.create_check_constraint(op.f("changes_batch_check"), "changes", "num_nulls(batch_id, leg) IN (0, 2)")
    _index_of_batch("changes", unique=False)


def _widen_rejections() -> None:
    op.alter_column("rejections", "account_id", nullable=True)
    leg = "Which entry of the batch broke the rule, from 0; null: none of them alone"
    op.add_column("rejections", _column("leg", sa.Integer(), leg))
    op.add_column("rejections", _column("reversal_of", ID, "The batch that was to be undone"))


def _create_batches() -> None:
    op.create_table(
        "batches",
        _column("batch_id", ID, "The requester's id of the command", nullable=False),
        _column("status", sa.Text(), "PENDING, COMMITTED; or how it ended: POSTED or REJECTED", nullable=False),
        _column("command_type", sa.Text(), "PostBatch, or ReverseBatch for one that undoes another", nullable=False),
        _column("reversal_of", ID, "The batch that it undoes, or was to undo"),
        _column("entries", sa.Integer(), "How many entries it has; null when it was refused at once"),
        _column("reference", sa.Text(), "The requester's own reference; of a reversal the reason"),
        _column("metadata", JSONB(), "The requester's JSON object"),
        _column("code", sa.Text(), "The rule that it broke: InsufficientFunds, ...; null when it broke none"),
        _column("message", sa.Text(), "The same for people"),
        _column("details", JSONB(), "What the rule saw, by name; amounts as plain decimals"),
        _column("leg", sa.Integer(), "Which entry broke the rule, from 0; null: none of them alone"),
        _column("partition", sa.Integer(), "Partition that decides the batch", nullable=False),
        _column("sequence", sa.BigInteger(), "Sequence of the last change of status, there", nullable=False),
        _column("started_at", TIME, "When the first that is known of it was recorded", nullable=False),
        _column("ended_at", TIME, "When its end was recorded; null while it is in flight"),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("batches_pkey")),
        sa.CheckConstraint(
            "status IN ('PENDING', 'COMMITTED', 'POSTED', 'REJECTED')", name=op.f("batches_status_check")
        ),
        sa.CheckConstraint(
            "(status IN ('POSTED', 'REJECTED')) = (ended_at IS NOT NULL)", name=op.f("batches_ended_check")
        ),
        sa.CheckConstraint("(status = 'REJECTED') = (code IS NOT NULL)", name=op.f("batches_rejected_check")),
        comment="Every batch, as it is now; its entries are in entries, all of them once it is POSTED",
        postgresql_with={"fillfactor": "90"},
    )
    op.create_index(
        "batches_reversed_idx",
        "batches",
        ["reversal_of"],
        unique=True,
        postgresql_where=sa.text("status = 'POSTED' AND reversal_of IS NOT NULL"),
    )
    op.create_index("batches_in_flight_idx", "batches", ["started_at"], postgresql_where=sa.text("ended_at IS NULL"))


def _create_steps() -> None:
    named = "of BatchStarted and BatchPosted"
    op.create_table(
        "batch_steps",
        _column("partition", sa.Integer(), "Partition of the events topic: the batch's own", nullable=False),
        _column(
            "sequence",
            sa.BigInteger(),
            "Position in the partition; entries, changes and rejections take one too",
            nullable=False,
        ),
        _column("batch_id", ID, "The batch", nullable=False),
        _column(
            "step", sa.Text(), "The event's type: BatchStarted, BatchCommitted, BatchPosted, ...", nullable=False
        ),
        _column("entries", sa.Integer(), f"How many entries the batch has; {named}"),
        _column("reversal_of", ID, f"The batch that it undoes; {named}"),
        _column("reference", sa.Text(), f"The requester's own reference; {named}"),
        _column("metadata", JSONB(), f"The requester's JSON object; {named}"),
        _column("details", JSONB(), "What only this type has, by name; amounts as plain decimals", nullable=False),
        _column("recorded_at", TIME, "When it was appended; never falls within a partition", nullable=False),
        _column("writer_epoch", sa.BigInteger(), "Which of the partition's writers appended it", nullable=False),
        sa.PrimaryKeyConstraint("partition", "sequence", name=op.f("batch_steps_pkey")),
        comment="Every step of a batch in its own partition but its rejection. Append-only, like entries",
    )
    op.create_index("batch_steps_batch_idx", "batch_steps", ["batch_id", "sequence"])
