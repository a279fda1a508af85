"""Anchors: those that are recorded, the heads that they have, and those on their way."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")
VALUE = sa.Numeric(78, 0)
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables, and refuse changes of what is append-only."""
    _create_anchors()
    _create_heads()
    _create_on_their_way()
    for table in ("anchors", "anchored_heads"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    """Drop the tables; the topic still has what is recorded."""
    for table in ("anchors_on_their_way", "anchored_heads", "anchors"):
        op.drop_table(table)


def _create_anchors() -> None:
    op.create_table(
        "anchors",
        sa.Column("anchor_id", ID, primary_key=True, comment="The chain's id and the root"),
        sa.Column("chain_id", sa.BigInteger, nullable=False, comment="EIP-155"),
        sa.Column("root", ID, nullable=False, comment="Merkle root over the checkpoints, in hexadecimal"),
        sa.Column("block_number", sa.BigInteger, nullable=False, comment="The block that has the transaction"),
        sa.Column("block_hash", ID, nullable=False, comment="That block's hash"),
        sa.Column("tx_hash", ID, nullable=False, comment="The transaction"),
        sa.Column("sender", ID, nullable=False, comment="The address that sent it"),
        sa.Column(
            "notes", sa.ARRAY(sa.Text), nullable=False, comment="The checkpoints, in the order of the tree's leaves"
        ),
        sa.Column("recorded_at", TIME, nullable=False, comment="When it was recorded, its block being settled"),
        sa.Column("position", sa.BigInteger, nullable=False, comment="Offset on the reconciliation topic"),
        comment="Roots over checkpoints that are on a chain for good. Append-only",
    )


def _create_heads() -> None:
    op.create_table(
        "anchored_heads",
        sa.Column("anchor_id", ID, primary_key=True, comment="The anchor"),
        sa.Column("leaf", sa.Integer, primary_key=True, autoincrement=False, comment="Which of its checkpoints"),
        sa.Column("origin", ID, nullable=False, comment="The log whose head it is"),
        sa.Column("size", sa.BigInteger, nullable=False, comment="How many events that log had"),
        comment="The heads that anchors have: which anchor covers an event. Append-only",
    )
    op.create_index("anchored_heads_origin_idx", "anchored_heads", ["origin", "size"])


def _create_on_their_way() -> None:
    op.create_table(
        "anchors_on_their_way",
        sa.Column("chain_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="EIP-155"),
        sa.Column("sender", ID, primary_key=True, comment="The address that sends it: one anchor at a time"),
        sa.Column("root", ID, nullable=False, comment="Merkle root over the checkpoints, in hexadecimal"),
        sa.Column(
            "notes", sa.ARRAY(sa.Text), nullable=False, comment="The checkpoints, in the order of the tree's leaves"
        ),
        sa.Column(
            "nonce", sa.BigInteger, nullable=False, comment="The sender's number that the last transaction uses"
        ),
        sa.Column("tx_hashes", sa.ARRAY(sa.Text), nullable=False, comment="What was sent, the last one last"),
        sa.Column("fee", VALUE, nullable=False, comment="What the last one offers at most, wei a gas"),
        sa.Column("tip", VALUE, nullable=False, comment="What of that is for whoever takes it into a block"),
        comment="Anchors that were sent and are not settled yet",
    )
