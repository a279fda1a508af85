"""Open entries in a table of their own, so that those which are settled cost nothing with each new block."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")


def upgrade() -> None:
    """Number the expectations, and make the tables; what is open comes into them when it is next looked at."""
    op.drop_index("expectations_chain_idx", "expectations")
    op.add_column(
        "expectations",
        sa.Column(
            "number",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="Counts them in the order in which they came to be there",
        ),
    )
    op.create_index("expectations_chain_idx", "expectations", ["chain", "number"])
    op.create_table(
        "taken_up",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="EIP-155"),
        sa.Column("chain", ID, nullable=False, comment="A name that entries call it"),
        sa.Column(
            "up_to", sa.BigInteger(), nullable=False, comment="The last one of that name that has been taken up"
        ),
        sa.PrimaryKeyConstraint("chain_id", "chain", name=op.f("taken_up_pkey")),
        comment="Up to which expectation those that are open are among the open entries",
    )
    op.create_table(
        "open_entries",
        sa.Column("chain_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="EIP-155"),
        sa.Column("entry_id", ID, nullable=False, comment="The entry"),
        sa.Column(
            "missing_id",
            ID,
            nullable=True,
            comment="Its discrepancy, when that is that it is missing; people may let it be",
        ),
        sa.PrimaryKeyConstraint("chain_id", "entry_id", name=op.f("open_entries_pkey")),
        comment="Entries of which it is not known for good what became of their transaction: each new block is asked",
    )


def downgrade() -> None:
    """Drop the tables, and the numbers."""
    op.drop_table("open_entries")
    op.drop_table("taken_up")
    op.drop_index("expectations_chain_idx", "expectations")
    op.drop_column("expectations", "number")
    op.create_index("expectations_chain_idx", "expectations", ["chain", "entry_id"])
