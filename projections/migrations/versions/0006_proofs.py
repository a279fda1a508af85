"""Tiles of the log's trees, and the checkpoints that were held against them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "tiles",
        sa.Column(
            "partition", sa.Integer, primary_key=True, autoincrement=False, comment="Partition of the events topic"
        ),
        sa.Column(
            "level",
            sa.Integer,
            primary_key=True,
            autoincrement=False,
            comment="Each hash is of a perfect subtree of 256^level events",
        ),
        sa.Column(
            "number",
            sa.BigInteger,
            primary_key=True,
            autoincrement=False,
            comment="Which tile of the level: its first hash is number * 256 of the level",
        ),
        sa.Column(
            "hashes",
            sa.LargeBinary,
            nullable=False,
            comment="Hashes of 32 bytes side by side: 256, or fewer in the last tile of the level",
        ),
        sa.Column(
            "first_offset",
            sa.BigInteger,
            comment="Offset on the events topic of the tile's first event; null above level 0",
        ),
        sa.PrimaryKeyConstraint("partition", "level", "number", name="tiles_pkey"),
        sa.CheckConstraint("octet_length(hashes) BETWEEN 32 AND 8192", name="hashes"),
        sa.CheckConstraint("(level = 0) = (first_offset IS NOT NULL)", name="first_offset"),
        comment="The trees of the log, a partition each, in tiles of 256 hashes",
    )
    op.execute("ALTER TABLE tiles ALTER COLUMN hashes SET STORAGE EXTERNAL")  # hashes can't be compressed
    op.create_table(
        "checkpoints",
        sa.Column(
            "partition", sa.Integer, primary_key=True, autoincrement=False, comment="The partition whose tree it is"
        ),
        sa.Column(
            "tree_size", sa.BigInteger, primary_key=True, autoincrement=False, comment="How many events the tree has"
        ),
        sa.Column(
            "root", sa.LargeBinary, nullable=False, comment="The tree's root, 32 bytes, which is that of the tiles"
        ),
        sa.Column("note", sa.Text, nullable=False, comment="The signed note as it was published"),
        sa.Column(
            "public_key", sa.Text, comment="The verifier key whose signature was seen; null when no key was known"
        ),
        sa.Column("published_at", TIME, nullable=False, comment="When it was published"),
        sa.PrimaryKeyConstraint("partition", "tree_size", name="checkpoints_pkey"),
        sa.CheckConstraint("octet_length(root) = 32", name="root"),
        comment="Every signed head of a tree, held against the tiles; append-only",
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    """Drop the tables; the log still has it all."""
    op.drop_table("checkpoints")
    op.drop_table("tiles")
