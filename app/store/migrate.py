"""Bring a database to the schema this version needs, and tell whether it is there. The revisions are in migrations/."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

import app
from app.domain.errors import StartError, StoreUnavailable
from app.store.database import Database
from app.store.schema import REVISION

# Any number will do as long as all replicas use the same one.
_LOCK_NUMBER: Final = 7_226_911_405


async def migrate(database: Database) -> bool:
    """Apply what is missing; concurrent calls wait for one another. True when something was applied.

    Raises StartError when the database was made by a newer version, StoreUnavailable when it cannot be reached.
    """
    async with database.write() as connection:
        if database.dialect == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
        found = await revision(connection)
        if found == REVISION:
            return False
        await connection.run_sync(_upgrade)
        return True


async def prepare(database: Database) -> None:
    """Make a start possible: an empty database is migrated, and so is SQLite, which only one process serves.

    Raises StartError for a schema too old or too new.
    """
    async with _naming_the_file(database), database.read() as connection:
        found = await revision(connection)
        is_empty = found is None and await connection.run_sync(_is_empty)
    if found == REVISION:
        return
    if is_empty or (found is not None and database.dialect == "sqlite"):
        await migrate(database)
        return
    raise StartError(
        f"The database's schema is too old (revision {found or 'unknown'}, this version needs {REVISION}): "
        "run `bucketpost migrate`, then start again."
    )


@asynccontextmanager
async def _naming_the_file(database: Database) -> AsyncIterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        if isinstance(error.__cause__, DatabaseError) and "not a database" in str(error):
            raise StartError(f"{database.path} is no SQLite database: give another file.") from error
        raise


async def revision(connection: AsyncConnection) -> str | None:
    """Give the schema's revision, None where there is none. Raises StartError for one of a newer version."""
    found = await connection.run_sync(_read_revision)
    if found is not None and found > REVISION:
        raise StartError(
            f"The database's schema is too new (revision {found}, this version knows {REVISION}): "
            "start the Bucketpost version that made it, or a later one."
        )
    return found


def migrations_directory() -> Path:
    """Find the revisions: inside an installed wheel's package, or beside it in a checkout."""
    package = Path(app.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def _is_empty(connection: Connection) -> bool:
    return not inspect(connection).get_table_names()


def _upgrade(connection: Connection) -> None:
    # alembic costs a third of a second to load, and most starts need none of it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
