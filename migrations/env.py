"""How alembic reaches the database: through the connection that app.store.migrate hands over.

On PostgreSQL each revision is a transaction; on SQLite all are part of the one they are handed.
"""

from alembic import context
from sqlalchemy import Connection

import app.store.outbox_schema  # noqa: F401 -- its tables stand in metadata, too
from app.store.schema import metadata


def run() -> None:
    """Run the revisions on the connection given; `bucketpost migrate` is the way to call this."""
    connection = context.config.attributes.get("connection")
    if not isinstance(connection, Connection):
        raise TypeError("Run `bucketpost migrate`: it opens the database and takes the lock that migrations need.")
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
