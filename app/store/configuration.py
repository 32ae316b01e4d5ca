"""The whole set-up at one epoch, as both halves read it. The epoch is in epoch.py, each noun's rows in its own file."""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Configuration
from app.store.database import Database
from app.store.endpoints import read_all as read_endpoints
from app.store.epoch import read_epoch
from app.store.sources import read_all as read_sources
from app.store.subscriptions import read_all as read_subscriptions

_READS_IN_ALL: Final = 5


async def load(connection: AsyncConnection) -> Configuration:
    """Read everything that is set up and not deleted.

    On PostgreSQL each statement sees what was committed before it: read again when a change came in between. Should
    changes never cease, the answer is labelled with the epoch before them, so that the next look finds it stale.
    """
    for _ in range(_READS_IN_ALL):
        found = await _read(connection)
        if await read_epoch(connection) == found.epoch:
            return found
    return await _read(connection)


class SqlConfigurationStore:
    """The port ConfigurationStore over one database."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    async def epoch(self) -> int:
        """Give the number of the newest committed change; see the port."""
        async with self._database.read() as connection:
            return await read_epoch(connection)

    async def load(self) -> Configuration:
        """Give the whole set-up at one moment; see the port."""
        async with self._database.read() as connection:
            return await load(connection)


async def _read(connection: AsyncConnection) -> Configuration:
    return Configuration(
        epoch=await read_epoch(connection),
        endpoints={each.id: each for each in await read_endpoints(connection)},
        subscriptions={each.id: each for each in await read_subscriptions(connection)},
        sources={each.id: each for each in await read_sources(connection)},
    )
