"""The HTTP API: questions to the read model, and commands, in JSON. `partita run web` serves it.

It decides nothing. Pydantic models stand at its edge and nowhere else; behind them are `LedgerEngine` and
`ReadModel`.
"""
