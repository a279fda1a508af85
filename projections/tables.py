"""The read model's tables: what analysts query, and what the migrations must add up to.

The tables name no schema: it is the ledger's name, given when a statement is compiled or a migration runs. Text
that identifies is compared byte by byte (collation "C"): faster, and the same on every machine.
"""

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from events.money import PRECISION, SCALE

metadata: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

ID: Final = Text(collation="C")
MONEY: Final = Numeric(PRECISION, SCALE)
TIME: Final = DateTime(timezone=True)
_OF_BATCH: Final = text("batch_id IS NOT NULL")

entries: Final = Table(
    "entries",
    metadata,
    Column("entry_id", ID, primary_key=True, comment='"<partition>-<sequence>": where the entry is in the log'),
    Column("partition", Integer, nullable=False, comment="Partition of the events topic"),
    Column(
        "sequence",
        BigInteger,
        nullable=False,
        comment="Position in the partition; rejections, changes and steps of batches take one too",
    ),
    Column("account_id", ID, nullable=False, comment="The account that the entry moves"),
    Column("version", BigInteger, nullable=False, comment="Counts the account's entries and changes: 1, 2, 3, ..."),
    Column("entry_type", Text, nullable=False, comment="CREDIT adds to the balance, DEBIT takes from it"),
    Column("amount", MONEY, nullable=False, comment="Greater than zero, exact, in whole units of the asset"),
    Column("asset", ID, nullable=False, comment="What is counted: USD, USDC, ..."),
    Column("running_balance", MONEY, nullable=False, comment="Balance of account and asset after this entry"),
    Column(
        "command_id",
        ID,
        nullable=False,
        comment="Id of the command, once per account, or of the batch",
    ),
    Column("hold_id", ID, comment="The hold that the entry settles, in whole or in part; null when it settles none"),
    Column("reference", Text, comment="The requester's own reference"),
    Column("metadata", JSONB, comment="The requester's JSON object"),
    Column("effective_at", TIME, nullable=False, comment="When the entry counts from: as given, or recorded_at"),
    Column("recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"),
    Column("writer_epoch", BigInteger, nullable=False, comment="Which of the partition's writers appended it"),
    Column("batch_id", ID, comment="The batch that the entry is of; null when it is of none"),
    Column("leg", Integer, comment="Which entry of the batch, from 0"),
    Column("legs", Integer, comment="How many entries the batch has; they are all here, or none"),
    Column("forced", Boolean, comment="Whether it might go below the floor: a reversal that was forced"),
    UniqueConstraint("account_id", "version"),
    CheckConstraint("num_nulls(batch_id, leg, legs, forced) IN (0, 4)", name="batch"),
    CheckConstraint("leg BETWEEN 0 AND legs - 1", name="leg"),
    CheckConstraint("entry_type IN ('CREDIT', 'DEBIT')", name="entry_type"),
    CheckConstraint("amount > 0", name="amount"),
    comment="Every entry ever posted, one row each. Append-only: a correction is another entry",
)
Index("entries_batch_idx", entries.c.batch_id, entries.c.leg, unique=True, postgresql_where=_OF_BATCH)
_RECORDED: Final = ("recorded_at", "partition", "sequence")
Index("entries_recorded_idx", *(entries.c[name] for name in _RECORDED))
Index("entries_asset_idx", entries.c.asset, *(entries.c[name] for name in _RECORDED))
Index("entries_effective_idx", entries.c.effective_at)
Index("entries_command_idx", entries.c.command_id, postgresql_using="hash")
Index(
    "entries_reference_idx",  # hashes, since a B-tree can't hold what is as long as a reference may be
    entries.c.reference,
    postgresql_using="hash",
    postgresql_where=text("reference IS NOT NULL"),
)
Index(
    "entries_metadata_idx",
    entries.c.metadata,
    postgresql_using="gin",
    postgresql_ops={"metadata": "jsonb_path_ops"},
    postgresql_where=text("metadata IS NOT NULL"),
)

balances: Final = Table(
    "balances",
    metadata,
    Column("account_id", ID, primary_key=True, comment="The account"),
    Column("asset", ID, primary_key=True, comment="What is counted"),
    Column("balance", MONEY, nullable=False, comment="Credits less debits, exact, in whole units of the asset"),
    Column(
        "held",
        MONEY,
        nullable=False,
        server_default="0",
        comment="What open holds and batches in flight reserve of the balance, never below 0",
    ),
    Column(
        "available",
        MONEY,
        Computed("balance - held", persisted=True),
        comment="balance less held; the account's floor, which may be below 0, is not counted in",
    ),
    Column("version", BigInteger, nullable=False, comment="Version of the account at the last change of this asset"),
    Column("partition", Integer, nullable=False, comment="Partition of that change: an entry, a hold's or a batch's"),
    Column("sequence", BigInteger, nullable=False, comment="Sequence of that change"),
    Column("updated_at", TIME, nullable=False, comment="When that change was recorded"),
    CheckConstraint("held >= 0", name="held"),
    comment="What every account has of every asset that an entry or a hold was ever of",
    postgresql_with={"fillfactor": "70"},  # room for updates in place
)

accounts: Final = Table(
    "accounts",
    metadata,
    Column("account_id", ID, primary_key=True, comment="The account"),
    Column("status", Text, nullable=False, comment="OPEN, FROZEN (takes no entries and no holds) or CLOSED"),
    Column("permanent", Boolean, nullable=False, comment="Whether it was closed for ever"),
    Column("floor", MONEY, comment="No balance less what is held falls below it: 0 or less; null is no floor"),
    Column("assets", ARRAY(ID), nullable=False, comment="The only assets that it may hold; empty is any"),
    Column("account_type", Text, comment="The requester's own kind of account"),
    Column("reference", Text, comment="The requester's own reference"),
    Column("metadata", JSONB, comment="The requester's JSON object"),
    Column("version", BigInteger, nullable=False, comment="Version of the account at its last change of status"),
    Column("partition", Integer, nullable=False, comment="Partition of that change"),
    Column("sequence", BigInteger, nullable=False, comment="Sequence of that change"),
    Column(
        "opened_at",
        TIME,
        nullable=False,
        comment="When its opening was recorded: by a command of its own, or by its first entry",
    ),
    Column("updated_at", TIME, nullable=False, comment="When its last change of status was recorded"),
    CheckConstraint("status IN ('OPEN', 'FROZEN', 'CLOSED')", name="status"),
    CheckConstraint("floor <= 0", name="floor"),
    comment="Every account that was opened, by a command of its own or by its first entry",
    postgresql_with={"fillfactor": "90"},
)

holds: Final = Table(
    "holds",
    metadata,
    Column("account_id", ID, primary_key=True, comment="The account whose funds are reserved"),
    Column("hold_id", ID, primary_key=True, comment="The id of the command that placed it"),
    Column("asset", ID, nullable=False, comment="What is counted"),
    Column("amount", MONEY, nullable=False, comment="What was reserved at first, in whole units of the asset"),
    Column("remaining", MONEY, nullable=False, comment="What is still reserved; 0 when the hold has ended"),
    Column("status", Text, nullable=False, comment="PLACED; or how it ended: SETTLED, RELEASED or EXPIRED"),
    Column("expires_at", TIME, comment="From when it may be ended as expired; null is never"),
    Column("reference", Text, comment="The requester's own reference"),
    Column("metadata", JSONB, comment="The requester's JSON object"),
    Column("placed_at", TIME, nullable=False, comment="When it was recorded as placed"),
    Column("placed_version", BigInteger, nullable=False, comment="Version of the account then: orders its holds"),
    Column("ended_at", TIME, comment="When its end was recorded; null while it is open"),
    Column("partition", Integer, nullable=False, comment="Partition of its last change"),
    Column("sequence", BigInteger, nullable=False, comment="Sequence of its last change"),
    Column("version", BigInteger, nullable=False, comment="Version of the account at its last change"),
    UniqueConstraint("account_id", "placed_version"),
    CheckConstraint("status IN ('PLACED', 'SETTLED', 'RELEASED', 'EXPIRED')", name="status"),
    CheckConstraint("remaining BETWEEN 0 AND amount", name="remaining"),
    CheckConstraint("(status = 'PLACED') = (remaining > 0)", name="open"),
    CheckConstraint("(status = 'PLACED') = (ended_at IS NULL)", name="ended"),
    comment="Every hold ever placed, as it is now",
    postgresql_with={"fillfactor": "90"},
)
Index("holds_open_idx", holds.c.account_id, holds.c.placed_version, postgresql_where=text("status = 'PLACED'"))
Index("holds_due_idx", holds.c.expires_at, postgresql_where=text("status = 'PLACED' AND expires_at IS NOT NULL"))

changes: Final = Table(
    "changes",
    metadata,
    Column("partition", Integer, primary_key=True, comment="Partition of the events topic"),
    Column(
        "sequence",
        BigInteger,
        primary_key=True,
        comment="Position in the partition; entries, rejections and steps of batches take one too",
    ),
    Column("account_id", ID, nullable=False, comment="The account that changed"),
    Column("version", BigInteger, nullable=False, comment="Counts the account's entries and changes: 1, 2, 3, ..."),
    Column("change", Text, nullable=False, comment="The event's type: AccountOpened, HoldPlaced, ..."),
    Column(
        "command_id",
        ID,
        nullable=False,
        comment="Id of the command, once per account, or of the batch",
    ),
    Column("hold_id", ID, comment="The hold that was placed or released; null when it is none of a hold's"),
    Column("asset", ID, comment="Of what a hold or a promise is"),
    Column("amount", MONEY, comment="What was reserved or set free, or what a batch will credit, in whole units"),
    Column("held", MONEY, comment="What is held of account and asset after it; null where it stays"),
    Column("reason", Text, comment="Why, in the requester's words"),
    Column("reference", Text, comment="The requester's own reference"),
    Column("metadata", JSONB, comment="The requester's JSON object"),
    Column("details", JSONB, nullable=False, comment="What only this type has, by name; amounts as plain decimals"),
    Column("recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"),
    Column("writer_epoch", BigInteger, nullable=False, comment="Which of the partition's writers appended it"),
    Column("batch_id", ID, comment="The batch for which an entry was promised, or the promise taken back"),
    Column("leg", Integer, comment="Which entry of the batch, from 0"),
    UniqueConstraint("account_id", "version"),
    CheckConstraint("amount > 0", name="amount"),
    CheckConstraint("num_nulls(batch_id, leg) IN (0, 2)", name="batch"),
    comment="Every change of an account that is no entry, one row each. Append-only, like entries",
)
Index("changes_command_idx", changes.c.command_id, postgresql_using="hash")
Index("changes_batch_idx", changes.c.batch_id, changes.c.leg, postgresql_where=_OF_BATCH)

batches: Final = Table(
    "batches",
    metadata,
    Column("batch_id", ID, primary_key=True, comment="The requester's id of the command"),
    Column("status", Text, nullable=False, comment="PENDING, COMMITTED; or how it ended: POSTED or REJECTED"),
    Column("command_type", Text, nullable=False, comment="PostBatch, or ReverseBatch for one that undoes another"),
    Column("reversal_of", ID, comment="The batch that it undoes, or was to undo"),
    Column("entries", Integer, comment="How many entries it has; null when it was refused at once"),
    Column("reference", Text, comment="The requester's own reference; of a reversal the reason"),
    Column("metadata", JSONB, comment="The requester's JSON object"),
    Column("code", Text, comment="The rule that it broke: InsufficientFunds, ...; null when it broke none"),
    Column("message", Text, comment="The same for people"),
    Column("details", JSONB, comment="What the rule saw, by name; amounts as plain decimals"),
    Column("leg", Integer, comment="Which entry broke the rule, from 0; null: none of them alone"),
    Column("partition", Integer, nullable=False, comment="Partition that decides the batch"),
    Column("sequence", BigInteger, nullable=False, comment="Sequence of the last change of status, there"),
    Column("started_at", TIME, nullable=False, comment="When the first that is known of it was recorded"),
    Column("ended_at", TIME, comment="When its end was recorded; null while it is in flight"),
    CheckConstraint("status IN ('PENDING', 'COMMITTED', 'POSTED', 'REJECTED')", name="status"),
    CheckConstraint("(status IN ('POSTED', 'REJECTED')) = (ended_at IS NOT NULL)", name="ended"),
    CheckConstraint("(status = 'REJECTED') = (code IS NOT NULL)", name="rejected"),
    comment="Every batch, as it is now; its entries are in entries, all of them once it is POSTED",
    postgresql_with={"fillfactor": "90"},
)
Index(
    "batches_reversed_idx",
    batches.c.reversal_of,
    unique=True,
    postgresql_where=text("status = 'POSTED' AND reversal_of IS NOT NULL"),
)
Index("batches_started_idx", batches.c.started_at, batches.c.batch_id)
Index("batches_in_flight_idx", batches.c.started_at, postgresql_where=text("ended_at IS NULL"))

batch_steps: Final = Table(
    "batch_steps",
    metadata,
    Column("partition", Integer, primary_key=True, comment="Partition of the events topic: the batch's own"),
    Column(
        "sequence",
        BigInteger,
        primary_key=True,
        comment="Position in the partition; entries, changes and rejections take one too",
    ),
    Column("batch_id", ID, nullable=False, comment="The batch"),
    Column("step", Text, nullable=False, comment="The event's type: BatchStarted, BatchCommitted, BatchPosted, ..."),
    Column("entries", Integer, comment="How many entries the batch has; of BatchStarted and BatchPosted"),
    Column("reversal_of", ID, comment="The batch that it undoes; of BatchStarted and BatchPosted"),
    Column("reference", Text, comment="The requester's own reference; of BatchStarted and BatchPosted"),
    Column("metadata", JSONB, comment="The requester's JSON object; of BatchStarted and BatchPosted"),
    Column("details", JSONB, nullable=False, comment="What only this type has, by name; amounts as plain decimals"),
    Column("recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"),
    Column("writer_epoch", BigInteger, nullable=False, comment="Which of the partition's writers appended it"),
    comment="Every step of a batch in its own partition but its rejection. Append-only, like entries",
)
Index("batch_steps_batch_idx", batch_steps.c.batch_id, batch_steps.c.sequence)

rejections: Final = Table(
    "rejections",
    metadata,
    Column("partition", Integer, primary_key=True, comment="Partition of the events topic"),
    Column(
        "sequence",
        BigInteger,
        primary_key=True,
        comment="Position in the partition; entries, changes and steps of batches take one too",
    ),
    Column("command_id", ID, nullable=False, comment="The requester's id of the command"),
    Column("account_id", ID, comment="The account that the command was for; null for a batch"),
    Column("command_type", Text, nullable=False, comment="PostEntry, PostBatch, ..."),
    Column("code", Text, nullable=False, comment="The rule that the command broke: InsufficientFunds, ..."),
    Column("message", Text, nullable=False, comment="The same for people"),
    Column("details", JSONB, nullable=False, comment="What the rule saw, by name; amounts as plain decimals"),
    Column("recorded_at", TIME, nullable=False, comment="When it was appended; never falls within a partition"),
    Column("leg", Integer, comment="Which entry of the batch broke the rule, from 0; null: none of them alone"),
    Column("reversal_of", ID, comment="The batch that was to be undone"),
    comment="Every command that broke a rule, one row each. Append-only; no balance changed",
)
Index("rejections_command_idx", rejections.c.command_id, postgresql_using="hash")
Index("rejections_recorded_idx", *(rejections.c[name] for name in _RECORDED))
Index(
    "rejections_account_idx",
    rejections.c.account_id,
    *(rejections.c[name] for name in _RECORDED),
    postgresql_where=text("account_id IS NOT NULL"),
)

tiles: Final = Table(
    "tiles",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False, comment="Partition of the events topic"),
    Column(
        "level",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Each hash is of a perfect subtree of 256^level events",
    ),
    Column(
        "number",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="Which tile of the level: its first hash is number * 256 of the level",
    ),
    Column(
        "hashes",
        LargeBinary,
        nullable=False,
        comment="Hashes of 32 bytes side by side: 256, or fewer in the last tile of the level",
    ),
    Column(
        "first_offset", BigInteger, comment="Offset on the events topic of the tile's first event; null above level 0"
    ),
    CheckConstraint("octet_length(hashes) BETWEEN 32 AND 8192", name="hashes"),
    CheckConstraint("(level = 0) = (first_offset IS NOT NULL)", name="first_offset"),
    comment="The trees of the log, a partition each, in tiles of 256 hashes",
)

checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False, comment="The partition whose tree it is"),
    Column("tree_size", BigInteger, primary_key=True, autoincrement=False, comment="How many events the tree has"),
    Column("root", LargeBinary, nullable=False, comment="The tree's root, 32 bytes, which is that of the tiles"),
    Column("note", Text, nullable=False, comment="The signed note as it was published"),
    Column("public_key", Text, comment="The verifier key whose signature was seen; null when no key was known"),
    Column("published_at", TIME, nullable=False, comment="When it was published"),
    CheckConstraint("octet_length(root) = 32", name="root"),
    comment="Every signed head of a tree, held against the tiles; append-only",
)

positions: Final = Table(
    "positions",
    metadata,
    Column("projection", Text, primary_key=True, comment="Which projection: balances"),
    Column("partition", Integer, primary_key=True, autoincrement=False, comment="Partition of the events topic"),
    Column("next_offset", BigInteger, nullable=False, comment="Kafka offset to read from"),
    Column(
        "next_sequence", BigInteger, nullable=False, comment="Sequence that comes next: all below are in the tables"
    ),
    Column("writer_epoch", BigInteger, nullable=False, comment="Epoch of the last event's writer"),
    Column("recorded_at", TIME, comment="When the last event was recorded; null before the first"),
    Column("halted", Text, comment="Why the projection stopped before next_offset; null when it goes on"),
    Column("partition_count", Integer, nullable=False, comment="Partitions of the ledger; never changes"),
    comment="How far each projection has got; moves in the same transaction as the rows",
)
