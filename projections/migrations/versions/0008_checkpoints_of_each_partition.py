"""Each partition has a position of its own among the checkpoints: one that is refused halts its partition only."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let every partition go on from where the topic was read to; whoever had halted is looked at again."""
    op.execute(
        """
        INSERT INTO positions (projection, partition, partition_count, next_offset, next_sequence, writer_epoch,
            recorded_at)
        SELECT c.projection, p.partition, p.partition_count, c.next_offset, 0, 0, c.recorded_at
        FROM positions AS c JOIN positions AS p ON p.projection = 'proofs' AND p.partition > 0
        WHERE c.projection = 'checkpoints' AND c.partition = 0
        """
    )
    op.execute(
        """
        UPDATE positions AS c
        SET partition_count = p.partition_count, halted = NULL
        FROM positions AS p
        WHERE c.projection = 'checkpoints' AND p.projection = 'proofs' AND p.partition = 0
        """
    )
    op.execute(
        """
        UPDATE positions AS c
        SET next_sequence = (SELECT count(*) FROM checkpoints AS k WHERE k.partition = c.partition)
        WHERE c.projection = 'checkpoints'
        """
    )
    op.execute(  # checkpoints are held against trees: without these there was none
        """
        DELETE FROM positions WHERE projection = 'checkpoints'
        AND NOT EXISTS (SELECT FROM positions WHERE projection = 'proofs')
        """
    )


def downgrade() -> None:
    """Go back to one position: that of the first partition that has halted, else as far as the topic was read."""
    op.execute(
        """
        WITH found AS (SELECT * FROM positions WHERE projection = 'checkpoints'),
        one AS (
            SELECT coalesce(min(next_offset) FILTER (WHERE halted IS NOT NULL), max(next_offset)) AS next_offset,
                sum(next_sequence) AS next_sequence, min(halted) AS halted
            FROM found
        )
        UPDATE positions AS p
        SET partition_count = 1, next_offset = one.next_offset, next_sequence = one.next_sequence, halted = one.halted
        FROM one WHERE p.projection = 'checkpoints' AND p.partition = 0
        """
    )
    op.execute("DELETE FROM positions WHERE projection = 'checkpoints' AND partition > 0")
