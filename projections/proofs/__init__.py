"""The proofs projection: the trees of the log as tiles, every checkpoint held against them, and proofs from both."""
