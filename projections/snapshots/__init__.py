"""Balances at any time: the snapshots projection, and the questions that it answers."""
