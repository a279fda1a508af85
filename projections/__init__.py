"""The read side: what the log says, as PostgreSQL tables, and the questions that they answer.

`tables` is the contract with analysts, `migrate` makes it, `rows` and `changes` turn events into rows (pure), `store`
and `feed` are the I/O of the service that `balances` runs, `queries` reads, `checks` recomputes the `invariants`.
"""
