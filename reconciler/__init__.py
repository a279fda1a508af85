"""The chain: reading it, comparing it with the ledger, anchoring checkpoints on it.

`chains` knows the chains, `transfers` says what is compared, `named` reads from an entry which transaction it names,
`matching` compares (all pure). `provider` is the port to a chain's node, with `web3_chain` behind it; `reading` reads
ranges through it. `tables` and `store` keep what was found.
"""
