"""`partita verify`: everything that must always hold, looked for on a live ledger, wherever it is kept."""
