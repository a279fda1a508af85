"""Views for analysts: statements of accounts, volume by day, open holds."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

VIEWS = {
    "account_statement": (
        "Every entry with credit and debit apart, for statements: order by account_id, asset, version",
        """
        SELECT account_id, asset, version, recorded_at, effective_at, entry_id,
            CASE entry_type WHEN 'CREDIT' THEN amount END AS credit,
            CASE entry_type WHEN 'DEBIT' THEN amount END AS debit,
            running_balance, reference, metadata, batch_id, hold_id
        FROM entries
        """,
        {
            "account_id": "The account",
            "asset": "What is counted",
            "version": "The account's version with the entry: its order",
            "recorded_at": "When the entry was recorded",
            "effective_at": "When it counts from",
            "entry_id": "Where it is in the log",
            "credit": "What it adds; null for a debit",
            "debit": "What it takes; null for a credit",
            "running_balance": "Balance of account and asset after it",
            "reference": "The requester's own reference",
            "metadata": "The requester's JSON object",
            "batch_id": "The batch that it is of",
            "hold_id": "The hold that it settles",
        },
    ),
    "daily_volume": (
        "Entries, credits and debits of each asset by day of recorded time, in UTC",
        """
        SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day, asset, count(*) AS entries,
            coalesce(sum(amount) FILTER (WHERE entry_type = 'CREDIT'), 0) AS credits,
            coalesce(sum(amount) FILTER (WHERE entry_type = 'DEBIT'), 0) AS debits,
            count(DISTINCT account_id) AS accounts
        FROM entries GROUP BY 1, 2
        """,
        {
            "day": "The day, in UTC",
            "asset": "What is counted",
            "entries": "How many entries",
            "credits": "Sum of the credits",
            "debits": "Sum of the debits",
            "accounts": "How many accounts had one",
        },
    ),
    "open_holds": (
        "Every hold that still reserves something",
        """
        SELECT account_id, hold_id, asset, amount, remaining, placed_at, expires_at, reference, metadata
        FROM holds WHERE status = 'PLACED'
        """,
        {
            "account_id": "The account",
            "hold_id": "The hold",
            "asset": "What is counted",
            "amount": "What it reserved at first",
            "remaining": "What it still reserves",
            "placed_at": "When it was placed",
            "expires_at": "From when it may be expired; null is never",
            "reference": "The requester's own reference",
            "metadata": "The requester's JSON object",
        },
    ),
}
"""By name: what a view is, its query, and what its columns are."""


def upgrade() -> None:
    """Make the views, with their comments."""
    for name, (comment, query, columns) in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS '{comment}'")
        for column, meaning in columns.items():
            quoted = meaning.replace("'", "''")
            op.execute(f"COMMENT ON COLUMN {name}.{column} IS '{quoted}'")


def downgrade() -> None:
    """Drop the views."""
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
