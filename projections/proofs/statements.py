"""The SQL of the proofs projection; each has a place for the `schema`."""

from typing import Final

TILES: Final = """
SELECT t.partition, t.level, t.number, t.hashes, t.first_offset
FROM {schema}.tiles AS t
JOIN unnest($1::int[], $2::int[], $3::bigint[]) AS n(partition, level, number)
    ON t.partition = n.partition AND t.level = n.level AND t.number = n.number
"""
PUT_TILES: Final = """
INSERT INTO {schema}.tiles AS t (partition, level, number, hashes, first_offset)
SELECT * FROM unnest($1::int[], $2::int[], $3::bigint[], $4::bytea[], $5::bigint[])
ON CONFLICT (partition, level, number) DO UPDATE SET hashes = excluded.hashes
WHERE octet_length(t.hashes) < octet_length(excluded.hashes)
"""
PUT_CHECKPOINTS: Final = """
INSERT INTO {schema}.checkpoints (partition, tree_size, root, note, public_key, published_at)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::timestamptz[])
"""
TREE_SIZES: Final = """
SELECT p.partition, p.next_sequence,
    (SELECT max(c.tree_size) FROM {schema}.checkpoints AS c WHERE c.partition = p.partition) AS newest
FROM {schema}.positions AS p WHERE p.projection = $1
"""
NEWEST: Final = """
SELECT c.* FROM {schema}.positions AS p CROSS JOIN LATERAL (
    SELECT partition, tree_size, root, note, public_key, published_at
    FROM {schema}.checkpoints WHERE partition = p.partition ORDER BY tree_size DESC LIMIT 1
) AS c
WHERE p.projection = 'proofs' ORDER BY c.partition
"""
NEWEST_OF: Final = """
SELECT partition, tree_size, root, note, public_key, published_at
FROM {schema}.checkpoints WHERE partition = $1 ORDER BY tree_size DESC LIMIT 1
"""
