"""What the short commands need: the database opened or brought to this version's schema, a source read for a while."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from app import sources
from app.decode import decode
from app.domain.configuration import Source
from app.ingest.intake import MAX_BYTES
from app.ingest.poller import Poller, Surroundings
from app.ingest.recorder import Recorder
from app.ingest.room import Room
from app.settings import Settings
from app.store.database import Database
from app.store.migrate import migrate, prepare
from app.store.record import SqlEventStore
from app.store.schema import REVISION
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


@contextlib.asynccontextmanager
async def reading(settings: Settings, database: Database, source: Source) -> AsyncIterator[None]:
    """Read one source as `serve` does for as long as the block runs, beside a running `serve` too."""
    store = SqlEventStore(database, event_days=settings.retention.event_days)
    recorder = Recorder(store=store, decode=decode, wake=lambda _: None)
    room = Room(max_messages=settings.ingest.max_messages, max_bytes=MAX_BYTES)
    around = Surroundings(open_source=sources.open_pulled, record=recorder.record, note=store.note_source, room=room)
    poller = Poller(source, around)
    stop, all_received = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run(all_received))
        polling = group.create_task(poller.run(stop))
        try:
            yield
        finally:
            # What the poll under way brings is recorded too: messages broken off would be hidden for a while.
            stop.set()
            await polling
            all_received.set()


async def migrate_database(settings: Settings, *, to: str = REVISION) -> bool:
    """Bring the database to this version's schema, or back to an earlier one; True when anything was done."""
    configure_logging(form=settings.log.format, level="warning")
    database = Database(settings.database_url.get_secret_value(), pool_size=2, command_seconds=None)
    try:
        return await migrate(database, to=to)
    finally:
        await database.aclose()
