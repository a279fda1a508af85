"""The reconciler's tables: what entries expect of chains, what was found, and how far reading has come.

They are in a schema of their own, the ledger's name and `_chain`: the read model can be thrown away and made again
from the log, and what was found of a chain that has forgotten it since can not.
"""

from typing import Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    func,
    text,
)

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
VALUE: Final = Numeric(78, 0)
TIME: Final = DateTime(timezone=True)

expectations: Final = Table(
    "expectations",
    metadata,
    Column("entry_id", ID, primary_key=True, comment="The entry that names a transaction"),
    Column("account_id", ID, nullable=False, comment="The account that the entry moves"),
    Column("entry_type", Text, nullable=False, comment="CREDIT expects a transfer to us, DEBIT one from us"),
    Column("amount", MONEY, nullable=False, comment="In whole units of the asset"),
    Column("asset", ID, nullable=False, comment="As the ledger calls it"),
    Column("chain", ID, nullable=False, comment="As the entry calls it, in lower case; empty when it does not say"),
    Column("tx_hash", ID, nullable=False, comment="As the entry gives it, in lower case"),
    Column("token", ID, comment="As the entry calls it; null when it does not say"),
    Column("sender", ID, comment="From where, if the entry says"),
    Column("recipient", ID, comment="To where, if the entry says"),
    Column("log_index", BigInteger, comment="Which log of the block, if the entry says"),
    Column("problem", Text, comment="Why what the entry names can't be; null when it can"),
    Column("recorded_at", TIME, nullable=False, comment="When the entry was recorded"),
    Column(
        "number",
        BigInteger,
        Identity(always=True),
        nullable=False,
        comment="Counts them in the order in which they came to be there",
    ),
    CheckConstraint("entry_type IN ('CREDIT', 'DEBIT')", name="entry_type"),
    comment="Every entry that names a transaction of a chain. Append-only",
)
Index("expectations_tx_idx", expectations.c.tx_hash)
Index("expectations_chain_idx", expectations.c.chain, expectations.c.number)

taken_up: Final = Table(
    "taken_up",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False, comment="EIP-155"),
    Column("chain", ID, primary_key=True, comment="A name that entries call it"),
    Column("up_to", BigInteger, nullable=False, comment="The last one of that name that has been taken up"),
    comment="Up to which expectation those that are open are among the open entries",
)

open_entries: Final = Table(
    "open_entries",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False, comment="EIP-155"),
    Column("entry_id", ID, primary_key=True, comment="The entry"),
    Column("missing_id", ID, comment="Its discrepancy, when that is that it is missing; people may let it be"),
    comment="Entries of which it is not known for good what became of their transaction: each new block is asked",
)

findings: Final = Table(
    "findings",
    metadata,
    Column("finding_id", ID, primary_key=True, comment="The chain's id and the entry, or the transaction and log"),
    Column(
        "version",
        Integer,
        primary_key=True,
        autoincrement=False,
        comment="Counts what was found of it",
    ),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155"),
    Column("kind", Text, nullable=False, comment="matched, the type of a discrepancy, or withdrawn"),
    Column("discrepancy_id", ID, comment="The same for the same discrepancy however often it is found; null: none"),
    Column("entry_id", ID, comment="The entry; null when it is of a transfer alone"),
    Column("tx_hash", ID, nullable=False, comment="The transaction"),
    Column("log_index", BigInteger, comment="Which log of the block; -1: a native transfer; null: no transfer"),
    Column("block_number", BigInteger, comment="The transaction's block; null when it is in none"),
    Column("block_hash", ID, comment="That block's hash when it was read"),
    Column("token", ID, comment="The transfer's token: a contract's address, or native"),
    Column("sender", ID, comment="From where the transfer was"),
    Column("recipient", ID, comment="To where the transfer was"),
    Column("value", VALUE, comment="The transfer's value in base units of its token"),
    Column("description", Text, nullable=False, comment="What was found, for people; empty when matched"),
    Column("found_at", TIME, nullable=False, server_default=func.now(), comment="When this version was found"),
    CheckConstraint("version > 0", name="version"),
    CheckConstraint("num_nulls(log_index, token, sender, recipient, value) IN (0, 5)", name="transfer"),
    CheckConstraint("(discrepancy_id IS NULL) = (kind IN ('matched', 'withdrawn'))", name="discrepancy"),
    comment="What was found, each time that it changed. Append-only: the last version of a finding holds",
)
Index("findings_block_idx", findings.c.chain_id, findings.c.block_number)
Index("findings_entry_idx", findings.c.entry_id, postgresql_where=text("entry_id IS NOT NULL"))
Index("findings_tx_idx", findings.c.tx_hash)
Index("findings_discrepancy_idx", findings.c.discrepancy_id, postgresql_where=text("discrepancy_id IS NOT NULL"))

resolutions: Final = Table(
    "resolutions",
    metadata,
    Column("event_id", ID, primary_key=True, comment="The event on the reconciliation topic"),
    Column("discrepancy_id", ID, nullable=False, comment="The discrepancy"),
    Column("action", Text, nullable=False, comment="explained, ignored, resolved or reopened"),
    Column("reason", Text, nullable=False, comment="Why, in words"),
    Column("batch_id", ID, comment="The batch that corrects it; of resolved"),
    Column("actor", Text, comment="Who said so"),
    Column("recorded_at", TIME, nullable=False, comment="When it was said"),
    Column("position", BigInteger, nullable=False, comment="Offset on the reconciliation topic: the last one holds"),
    CheckConstraint("action IN ('explained', 'ignored', 'resolved', 'reopened')", name="action"),
    CheckConstraint("(action = 'resolved') = (batch_id IS NOT NULL)", name="batch"),
    comment="What people said of discrepancies, each time. Append-only: the last of a discrepancy holds",
)
Index("resolutions_discrepancy_idx", resolutions.c.discrepancy_id, resolutions.c.position)

cursors: Final = Table(
    "cursors",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False, comment="EIP-155"),
    Column("block_number", BigInteger, nullable=False, comment="All blocks up to it have been compared"),
    Column("block_hash", ID, nullable=False, comment="Its hash: another one there means a reorganisation"),
    Column("updated_at", TIME, nullable=False, server_default=func.now(), comment="When it moved"),
    comment="How far the reconciler has read each chain; moves in the same transaction as the findings",
)

marks: Final = Table(
    "marks",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False, comment="EIP-155"),
    Column("block_number", BigInteger, primary_key=True, autoincrement=False, comment="A block that was a cursor"),
    Column("block_hash", ID, nullable=False, comment="Its hash then"),
    comment="Where the cursor was before: to go back to after a reorganisation. The last 1,000 are kept",
)

anchors: Final = Table(
    "anchors",
    metadata,
    Column("anchor_id", ID, primary_key=True, comment="The chain's id and the root"),
    Column("chain_id", BigInteger, nullable=False, comment="EIP-155"),
    Column("root", ID, nullable=False, comment="Merkle root over the checkpoints, in hexadecimal"),
    Column("block_number", BigInteger, nullable=False, comment="The block that has the transaction"),
    Column("block_hash", ID, nullable=False, comment="That block's hash"),
    Column("tx_hash", ID, nullable=False, comment="The transaction"),
    Column("sender", ID, nullable=False, comment="The address that sent it"),
    Column("notes", ARRAY(Text), nullable=False, comment="The checkpoints, in the order of the tree's leaves"),
    Column("recorded_at", TIME, nullable=False, comment="When it was recorded, its block being settled"),
    Column("position", BigInteger, nullable=False, comment="Offset on the reconciliation topic"),
    comment="Roots over checkpoints that are on a chain for good. Append-only",
)

anchored_heads: Final = Table(
    "anchored_heads",
    metadata,
    Column("anchor_id", ID, primary_key=True, comment="The anchor"),
    Column("leaf", Integer, primary_key=True, autoincrement=False, comment="Which of its checkpoints"),
    Column("origin", ID, nullable=False, comment="The log whose head it is"),
    Column("size", BigInteger, nullable=False, comment="How many events that log had"),
    comment="The heads that anchors have: which anchor covers an event. Append-only",
)
Index("anchored_heads_origin_idx", anchored_heads.c.origin, anchored_heads.c.size)

anchors_on_their_way: Final = Table(
    "anchors_on_their_way",
    metadata,
    Column("chain_id", BigInteger, primary_key=True, autoincrement=False, comment="EIP-155"),
    Column("sender", ID, primary_key=True, comment="The address that sends it: one anchor at a time"),
    Column("root", ID, nullable=False, comment="Merkle root over the checkpoints, in hexadecimal"),
    Column("notes", ARRAY(Text), nullable=False, comment="The checkpoints, in the order of the tree's leaves"),
    Column("nonce", BigInteger, nullable=False, comment="The sender's number that the last transaction uses"),
    Column("tx_hashes", ARRAY(Text), nullable=False, comment="What was sent, the last one last"),
    Column("fee", VALUE, nullable=False, comment="What the last one offers at most, wei a gas"),
    Column("tip", VALUE, nullable=False, comment="What of that is for whoever takes it into a block"),
    comment="Anchors that were sent and are not settled yet",
)

offsets: Final = Table(
    "offsets",
    metadata,
    Column("topic", ID, primary_key=True, comment="events or reconciliation"),
    Column("partition", Integer, primary_key=True, autoincrement=False, comment="Partition of the topic"),
    Column("next_offset", BigInteger, nullable=False, comment="Kafka offset to read from"),
    Column("next_sequence", BigInteger, nullable=False, comment="Sequence that comes next, of the events"),
    Column("writer_epoch", BigInteger, nullable=False, comment="Epoch of the last event's writer"),
    comment="How far the topics have been read; moves in the same transaction as the rows",
)

DISCREPANCIES: Final = """
SELECT f.discrepancy_id, f.kind AS type, f.description, f.chain_id, f.entry_id, e.account_id, e.entry_type, e.amount,
    e.asset, f.tx_hash, f.log_index, f.block_number, f.block_hash, f.token, f.sender, f.recipient, f.value, f.version,
    f.found_at, coalesce(r.action, 'open') AS state, r.reason, r.batch_id, r.actor
FROM findings AS f
LEFT JOIN expectations AS e USING (entry_id)
LEFT JOIN LATERAL (
    SELECT * FROM resolutions AS r WHERE r.discrepancy_id = f.discrepancy_id ORDER BY position DESC LIMIT 1
) AS r ON true
WHERE f.discrepancy_id IS NOT NULL
AND NOT EXISTS (SELECT FROM findings AS n WHERE n.finding_id = f.finding_id AND n.version = f.version + 1)
"""
"""The view `discrepancies`: those that hold now, each with what was last said of it (`state` open: nothing)."""
