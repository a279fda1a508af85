"""Alembic's folder: how the reconciler's tables came to be what `reconciler.tables` says."""
