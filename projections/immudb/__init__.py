"""immudb: its proofs and our own verifier of them, the trusted state, the client, what is written and read with it.

All but `client` and what builds on it stands without the vendor's library. Nothing is taken from immudb's source: the
formats are those of its published protocol (schema.proto) and of its description of proofs (PROOFS.md).
"""
