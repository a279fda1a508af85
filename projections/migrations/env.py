"""Alembic's entry: runs on the connection that `projections.migrate` gives it, in the ledger's schema."""

from alembic import context

from projections.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=context.config.attributes["schema"],
    version_table="migrations",
)
context.run_migrations()
