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
WRONG_TILE: Final = """
SELECT n.partition, n.level, n.number, n.hashes AS wanted, t.hashes AS found,
    n.first_offset AS wanted_offset, t.first_offset AS found_offset
FROM unnest($1::int[], $2::int[], $3::bigint[], $4::bytea[], $5::bigint[])
    AS n(partition, level, number, hashes, first_offset)
LEFT JOIN {schema}.tiles AS t USING (partition, level, number)
WHERE t.hashes IS DISTINCT FROM n.hashes OR t.first_offset IS DISTINCT FROM n.first_offset
ORDER BY n.partition, n.level, n.number LIMIT 1
"""
OTHER_TILE: Final = """
SELECT t.partition, t.level, t.number FROM {schema}.tiles AS t
LEFT JOIN unnest($1::int[], $2::int[], $3::bigint[]) AS n(partition, level, count) USING (partition, level)
WHERE t.number NOT BETWEEN 0 AND coalesce(n.count, 0) - 1
ORDER BY t.partition, t.level, t.number LIMIT 1
"""
PUT_CHECKPOINTS: Final = """
INSERT INTO {schema}.checkpoints (partition, tree_size, root, note, public_key, published_at)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::timestamptz[])
"""
OLDEST_FIRST: Final = """
SELECT partition, tree_size, root, note, public_key, published_at
FROM {schema}.checkpoints WHERE partition = $1 AND tree_size > $2 ORDER BY tree_size LIMIT $3
"""
NEWEST_FIRST: Final = """
SELECT partition, tree_size, root, note, public_key, published_at
FROM {schema}.checkpoints WHERE partition = $1 AND tree_size < $2 ORDER BY tree_size DESC LIMIT $3
"""
TREE_SIZES: Final = """
SELECT p.partition, p.next_sequence, p.halted,
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
