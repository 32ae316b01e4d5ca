"""What the short commands need of the database: opened for one of them, or brought to this version's schema."""

import contextlib
from collections.abc import AsyncIterator

from app.settings import Settings
from app.store.database import Database
from app.store.migrate import migrate, prepare
from app.telemetry import configure_logging


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database for a short command, beside a running `serve` too. Raises StartError, StoreUnavailable."""
    configure_logging(form=settings.log.format, level="warning")
    database = Database(settings.database_url.get_secret_value(), pool_size=2)
    try:
        await prepare(database)
        yield database
    finally:
        await database.aclose()


async def migrate_database(settings: Settings) -> bool:
    """Bring the database to this version's schema; True when something was applied."""
    configure_logging(form=settings.log.format, level="warning")
    database = Database(settings.database_url.get_secret_value(), pool_size=2, command_seconds=None)
    try:
        return await migrate(database)
    finally:
        await database.aclose()
