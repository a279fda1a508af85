"""Alembic's entry: runs on the connection that it is given, in the schema of the ledger's chain tables."""

from alembic import context

from reconciler.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=context.config.attributes["schema"],
    version_table="migrations",
)
context.run_migrations()
