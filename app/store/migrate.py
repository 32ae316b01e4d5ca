"""Bring a database to the schema this version needs, and tell whether it is there. The revisions are in migrations/.

On PostgreSQL this may run while replicas work: each revision is a transaction of its own that waits for a table's lock
only for a moment, since everybody else would wait behind it, and then tries again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection

import app
from app.domain.errors import StartError, StoreError, StoreUnavailable
from app.store.database import Database, sqlstate
from app.store.schema import REVISION

# Any number will do as long as all replicas use the same one.
_LOCK_NUMBER: Final = 7_226_911_405
_LOOK_SECONDS: Final = 0.2
# Statements of replicas wait behind a migration that waits for a lock: for as long as this, once for each table.
LOCK_SECONDS: Final = 0.5
# In between, those that waited get their turn.
_PAUSE_SECONDS: Final = 1.0
TRIES: Final = 60
# No lock to be had, or one that two would have waited for for ever.
_TRY_AGAIN: Final = frozenset({"55P03", "40P01"})

_log = structlog.get_logger(__name__)


async def migrate(database: Database, *, to: str = REVISION) -> bool:
    """Apply what is missing, or undo what is too much; concurrent calls wait for one another. True if it did anything.

    Raises StartError when the database was made by a newer version, there is no revision `to`, or a table is in use all
    the time; StoreUnavailable when the database cannot be reached.
    """
    if database.dialect == "sqlite":
        async with database.write() as connection:
            return await _bring(connection, to)
    async with _alone(database):
        for _ in range(TRIES):
            try:
                return await _bring_apart(database, to)
            except StoreError as error:
                if sqlstate(error) not in _TRY_AGAIN:
                    raise
                _log.warning(
                    "migration.postponed",
                    error=str(error),
                    statement=getattr(error.__cause__, "statement", None),
                    advice="Others work with the table; it is tried again in a moment.",
                )
            await asyncio.sleep(_PAUSE_SECONDS)
    raise StartError(
        "A table is in use all the time: end the session that holds it, and run `bucketpost migrate` again."
    )


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
            "start the Bucketpost version that made it, or a later one, or take the schema back with that version: "
            f"`bucketpost migrate --to {REVISION}`."
        )
    return found


def migrations_directory() -> Path:
    """Find the revisions: inside an installed wheel's package, or beside it in a checkout."""
    package = Path(app.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


@asynccontextmanager
async def _alone(database: Database) -> AsyncIterator[None]:
    """Keep other migrations out. The lock has a connection of its own: revisions may commit as they like.

    It is asked for now and then rather than waited for, and held without a snapshot: an index that is built beside the
    replicas' work waits for every older snapshot, also for that of one who waits for this lock.
    """
    ask = text("SELECT pg_try_advisory_xact_lock(:number)")
    async with database.session() as connection:
        while not (await connection.execute(ask, {"number": _LOCK_NUMBER})).scalar_one():
            await connection.rollback()
            await asyncio.sleep(_LOOK_SECONDS)
        # The driver keeps a statement's portal, and with it its snapshot, until the next one; this one needs none.
        await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield


async def _bring_apart(database: Database, to: str) -> bool:
    async with database.session() as connection:
        try:
            await connection.exec_driver_sql(f"SET lock_timeout = '{round(LOCK_SECONDS * 1000)}ms'")
            await connection.commit()
            return await _bring(connection, to)
        finally:
            # With its time limit it is of no use to anybody else.
            await connection.invalidate()


async def _bring(connection: AsyncConnection, to: str) -> bool:
    found = await revision(connection)
    if found == to:
        return False
    if connection.dialect.name == "postgresql":
        await connection.commit()
    await connection.run_sync(_step, found, to)
    return True


def _read_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return found


def _is_empty(connection: Connection) -> bool:
    return not inspect(connection).get_table_names()


def _step(connection: Connection, found: str | None, to: str) -> None:
    # alembic costs a third of a second to load, and most starts need none of it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    known = sorted(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())
    if to not in known:
        raise StartError(f"There is no revision {to}: this version knows {', '.join(known)}.")
    go: Callable[[Config, str], None] = command.downgrade if found is not None and found > to else command.upgrade
    go(config, to)
