"""Indexes for whatever entries, changes, rejections and batches are looked for by.

A reference may be longer than what a B-tree holds, so its index is one of hashes. Building them reads the tables once
and lets nothing be written meanwhile: on a large ledger, migrate in a quiet hour.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_RECORDED = ["recorded_at", "partition", "sequence"]


def upgrade() -> None:
    """Make the indexes."""
    op.create_index("entries_recorded_idx", "entries", _RECORDED)
    _create_summary("asset", "text_bloom_ops")
    _create_summary("effective_at", "timestamptz_minmax_multi_ops")
    op.create_index("entries_command_idx", "entries", ["command_id"])
    op.create_index(
        "entries_reference_idx",
        "entries",
        ["reference"],
        postgresql_using="hash",
        postgresql_where=_is_there("reference"),
    )
    op.create_index(
        "entries_metadata_idx",
        "entries",
        ["metadata"],
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
        postgresql_where=_is_there("metadata"),
    )
    op.create_index("changes_command_idx", "changes", ["command_id"])
    op.create_index("rejections_command_idx", "rejections", ["command_id"])
    op.create_index("rejections_recorded_idx", "rejections", _RECORDED)
    op.create_index(
        "rejections_account_idx", "rejections", ["account_id", *_RECORDED], postgresql_where=_is_there("account_id")
    )
    op.create_index("batches_started_idx", "batches", ["started_at", "batch_id"])


def downgrade() -> None:
    """Drop the indexes."""
    for name in ("recorded", "asset", "effective_at", "command", "reference", "metadata"):
        op.drop_index(f"entries_{name}_idx", "entries")
    op.drop_index("changes_command_idx", "changes")
    for name in ("command", "recorded", "account"):
        op.drop_index(f"rejections_{name}_idx", "rejections")
    op.drop_index("batches_started_idx", "batches")


def _create_summary(column: str, operators: str) -> None:
    """Make an index that costs next to nothing: it only says in which parts of the table a value is not."""
    name, how = f"entries_{column}_idx", {column: operators}
    op.create_index(name, "entries", [column], postgresql_using="brin", postgresql_ops=how)


def _is_there(column: str) -> sa.TextClause:
    return sa.text(f"{column} IS NOT NULL")
