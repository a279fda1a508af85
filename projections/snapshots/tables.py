"""The tables of the snapshots projection, beside those of `projections.tables`.

`level` and `bucket` are those of `projections.snapshots.periods`. Sums have no bound on their digits.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Numeric, SmallInteger, Table

from projections.tables import ID, MONEY, TIME, metadata

SUM: Final = Numeric()
ALL_TABLES: Final = metadata
"""With the tables below, those of all projections."""
_LEVEL: Final = "Length of the period: 2^(10 * level) microseconds, level 0 to 5"
_BUCKET: Final = "Number of the period: those of a level go up with time, and 1970 begins with 0"

snapshot_balances: Final = Table(
    "snapshot_balances",
    metadata,
    Column("account_id", ID, primary_key=True, comment="The account"),
    Column("asset", ID, primary_key=True, comment="What is counted"),
    Column("recorded_at", TIME, primary_key=True, comment="When the entry was recorded"),
    Column(
        "version", BigInteger, primary_key=True, autoincrement=False, comment="The account's version with the entry"
    ),
    Column("balance", MONEY, nullable=False, comment="Balance of account and asset after the entry"),
    comment="The balance after every entry, by recorded time. Append-only",
)

snapshot_corrections: Final = Table(
    "snapshot_corrections",
    metadata,
    Column("account_id", ID, primary_key=True, comment="The account"),
    Column("asset", ID, primary_key=True, comment="What is counted"),
    Column("level", SmallInteger, primary_key=True, autoincrement=False, comment=_LEVEL),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False, comment=_BUCKET),
    Column("recorded", SUM, nullable=False, comment="To add to balances of recorded time from the period on"),
    Column("effective", SUM, nullable=False, comment="To add to balances of effective time from the period on"),
    comment="What entries that do not count from when they were recorded change of balances at a time, by period",
    postgresql_with={"fillfactor": "80"},
)

snapshot_totals: Final = Table(
    "snapshot_totals",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False, comment=_LEVEL),
    Column("asset", ID, primary_key=True, comment="What is counted"),
    Column("floorless", Boolean, primary_key=True, comment="Whether it is of the accounts without a floor"),
    Column("bucket", BigInteger, primary_key=True, autoincrement=False, comment=_BUCKET),
    Column("credits", SUM, nullable=False, comment="Credits of the period by recorded time"),
    Column("debits", SUM, nullable=False, comment="Debits of the period by recorded time"),
    Column("effective_credits", SUM, nullable=False, comment="Credits of the period by effective time"),
    Column("effective_debits", SUM, nullable=False, comment="Debits of the period by effective time"),
    Column("held", SUM, nullable=False, comment="What holds came to reserve in the period, less what they set free"),
    Column("in_flight", SUM, nullable=False, comment="The same of debits that were promised to batches"),
    comment="Sums over all accounts, by period: a trial balance at any time adds up few of them",
    postgresql_with={"fillfactor": "80"},
)

snapshot_accounts: Final = Table(
    "snapshot_accounts",
    metadata,
    Column("account_id", ID, primary_key=True, comment="The account"),
    Column("asset", ID, primary_key=True, comment="An asset of which it had an entry"),
    comment="Every account and asset that ever had an entry",
)

snapshot_floorless: Final = Table(
    "snapshot_floorless",
    metadata,
    Column("account_id", ID, primary_key=True, comment="The account"),
    comment="Accounts that were opened without a floor: through them money comes in",
)
