"""Snapshots: balances by recorded time, and sums by period."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.Text(collation="C")
MONEY = sa.Numeric(38, 18)
SUM = sa.Numeric()
TIME = sa.DateTime(timezone=True)

ACCOUNT = ("account_id", ID, "The account")
ASSET = ("asset", ID, "What is counted")
LEVEL = ("level", sa.SmallInteger(), "Length of the period: 2^(10 * level) microseconds, level 0 to 5")
BUCKET = ("bucket", sa.BigInteger(), "Number of the period: those of a level go up with time, and 1970 begins with 0")


def upgrade() -> None:
    """Make the tables."""
    _create(
        "snapshot_balances",
        (
            ACCOUNT,
            ASSET,
            ("recorded_at", TIME, "When the entry was recorded"),
            ("version", sa.BigInteger(), "The account's version with the entry"),
        ),
        (("balance", MONEY, "Balance of account and asset after the entry"),),
        comment="The balance after every entry, by recorded time. Append-only",
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON snapshot_balances "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    _create(
        "snapshot_corrections",
        (ACCOUNT, ASSET, LEVEL, BUCKET),
        (
            ("recorded", SUM, "To add to balances of recorded time from the period on"),
            ("effective", SUM, "To add to balances of effective time from the period on"),
        ),
        comment="What entries that do not count from when they were recorded change of balances at a time, by period",
        postgresql_with={"fillfactor": "80"},
    )
    _create(
        "snapshot_totals",
        (
            LEVEL,
            ASSET,
            ("floorless", sa.Boolean(), "Whether it is of the accounts without a floor"),
            BUCKET,
        ),
        (
            ("credits", SUM, "Credits of the period by recorded time"),
            ("debits", SUM, "Debits of the period by recorded time"),
            ("effective_credits", SUM, "Credits of the period by effective time"),
            ("effective_debits", SUM, "Debits of the period by effective time"),
            ("held", SUM, "What holds came to reserve in the period, less what they set free"),
            ("in_flight", SUM, "The same of debits that were promised to batches"),
        ),
        comment="Sums over all accounts, by period: a trial balance at any time adds up few of them",
        postgresql_with={"fillfactor": "80"},
    )
    _create(
        "snapshot_accounts",
        (ACCOUNT, ("asset", ID, "An asset of which it had an entry")),
        (),
        comment="Every account and asset that ever had an entry",
    )
    _create(
        "snapshot_floorless",
        (ACCOUNT,),
        (),
        comment="Accounts that were opened without a floor: through them money comes in",
    )


def downgrade() -> None:
    """Drop the tables; the log still has what is in them."""
    for name in ("balances", "corrections", "totals", "accounts", "floorless"):
        op.drop_table(f"snapshot_{name}")
    op.execute("DELETE FROM positions WHERE projection = 'snapshots'")


def _create(
    table: str, key: tuple[tuple[str, Any, str], ...], columns: tuple[tuple[str, Any, str], ...], **options: Any
) -> None:
    op.create_table(
        table,
        *(
            sa.Column(name, kind, nullable=False, comment=comment, autoincrement=False)
            for name, kind, comment in (*key, *columns)
        ),
        sa.PrimaryKeyConstraint(*(name for name, _, _ in key), name=op.f(f"{table}_pkey")),
        **options,
    )
