"""How alembic reaches the database: through the connection that app.store.migrate hands over, in its transaction."""

from alembic import context
from sqlalchemy import Connection

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
        transaction_per_migration=False,
    )
    context.run_migrations()


run()
