"""Indexes for whatever entries, changes, rejections and batches are looked for by.

A reference may be longer than what a B-tree holds, so its index is one of hashes. Building them reads the tables once
and lets nothing be written meanwhile: on a large ledger, migrate in a quiet hour.
"""

from typing import Any

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
    op.create_index("entries_asset_idx", "entries", ["asset", *_RECORDED])
    op.create_index("entries_effective_idx", "entries", ["effective_at"])
    _create_hashes("entries", "command", "command_id")
    _create_hashes("entries", "reference", "reference", postgresql_where=_is_there("reference"))
    op.create_index(
        "entries_metadata_idx",
        "entries",
        ["metadata"],
        postgresql_using="gin",
        postgresql_ops={"metadata": "jsonb_path_ops"},
        postgresql_where=_is_there("metadata"),
    )
    _create_hashes("changes", "command", "command_id")
    _create_hashes("rejections", "command", "command_id")
    op.create_index("rejections_recorded_idx", "rejections", _RECORDED)
    op.create_index(
        "rejections_account_idx",
        "rejections",
        ["account_id", *_RECORDED],
        postgresql_where=_is_there("account_id"),
    )
    op.create_index("batches_started_idx", "batches", ["started_at", "batch_id"])


def downgrade() -> None:
    """Drop the indexes."""
    for name in ("recorded", "asset", "effective", "command", "reference", "metadata"):
        op.drop_index(f"entries_{name}_idx", "entries")
    op.drop_index("changes_command_idx", "changes")
    for name in ("command", "recorded", "account"):
        op.drop_index(f"rejections_{name}_idx", "rejections")
    op.drop_index("batches_started_idx", "batches")


def _create_hashes(table: str, name: str, column: str, **options: Any) -> None:
    """Make an index for one value only: it costs half of a B-tree where values come in no order."""
    op.create_index(f"{table}_{name}_idx", table, [column], postgresql_using="hash", **options)


def _is_there(column: str) -> sa.TextClause:
    return sa.text(f"{column} IS NOT NULL")
