"""Alembic's folder: how the read model's tables came to be what `projections.tables` says."""
