"""The chain: reading it, comparing it with the ledger, anchoring checkpoints on it. Nothing is here yet."""
