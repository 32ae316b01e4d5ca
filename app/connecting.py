"""What the commands that wire buckets need of store and left half: sources registered, retired, and heard from."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from app import sources as kinds
from app.decode import decode
from app.domain.configuration import JSON, Source
from app.domain.ids import DEFAULT_TENANT, SourceId, parse_id, public_id
from app.ingest.intake import MAX_BYTES
from app.ingest.poller import Poller, Surroundings
from app.ingest.recorder import Recorder
from app.ingest.room import Room
from app.settings import Settings
from app.short_commands import open_database
from app.sources.sqs import SqsSource
from app.store import sources
from app.store.database import Database
from app.store.epoch import lock_changes
from app.store.partitions import make_days
from app.store.record import SqlEventStore

_LOOK_SECONDS: Final = 0.25
_CLOSING_SECONDS: Final = 5.0
_MESSAGES: Final = 100
_KIND: Final = "sqs"


async def configured_sources(settings: Settings) -> Sequence[Source]:
    """Give the sources that are set up."""
    async with open_database(settings) as database, database.read() as connection:
        return await sources.read_all(connection)


async def register_queue(settings: Settings, *, name: str, config: Mapping[str, JSON]) -> tuple[str, bool]:
    """Register a queue as a source, unless it is one; gives its public id, and whether it is new. Ends its pause."""
    checked = kinds.KINDS[_KIND].config.model_validate(dict(config)).model_dump(mode="json")
    async with open_database(settings) as database, database.write() as connection:
        await lock_changes(connection)
        for known in await sources.read_all(connection):
            if known.kind == _KIND and known.config.get("queue_url") == checked["queue_url"]:
                if known.is_paused:
                    await sources.change(connection, replace(known, is_paused=False))
                    await sources.start_anew(connection, known.id)
                return public_id("src", known.id), False
        new = sources.NewSource(name=name, kind=_KIND, config=checked)
        made = await sources.create(connection, DEFAULT_TENANT, new)
        return public_id("src", made.id), True


async def retire_queue(settings: Settings, queue_url: str, *, deletes: bool) -> Sequence[str]:
    """Pause the sources of a queue, or delete them; gives their public ids. What was heard stays."""
    retired: list[str] = []
    async with open_database(settings) as database, database.write() as connection:
        await lock_changes(connection)
        for known in await sources.read_all(connection):
            if known.kind != _KIND or known.config.get("queue_url") != queue_url or (known.is_paused and not deletes):
                continue
            if deletes:
                await sources.delete(connection, known.tenant_id, known.id)
            else:
                await sources.change(connection, replace(known, is_paused=True))
            retired.append(public_id("src", known.id))
    return retired


async def hear_test_event(settings: Settings, source_id: str, *, within_seconds: float) -> bool:
    """Wait until S3's test event of a source was recorded, by whoever received it: a running `serve`, or this.

    Receives as `serve` does: what else comes meanwhile is recorded, with all it owes, and acknowledged.
    """
    raw = parse_id("src", source_id)
    if raw is None:
        return False
    async with open_database(settings) as database:
        await database.write_again(make_days)
        source = await _find(database, SourceId(raw))
        if source is None or source.test_event_at is not None:
            return source is not None
        store = SqlEventStore(database, event_days=settings.retention.event_days)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds + _CLOSING_SECONDS):
                await _receive(database, store, source, within_seconds=within_seconds)
        heard = await _find(database, source.id)
        return heard is not None and heard.test_event_at is not None


async def _receive(database: Database, store: SqlEventStore, source: Source, *, within_seconds: float) -> None:
    stop, has_ended = asyncio.Event(), asyncio.Event()
    recorder = Recorder(store=store, decode=decode, wake=lambda _: None)
    poller = Poller(
        # Short polls: none is to be broken off when the test event is there.
        replace(source, config={**source.config, "wait_seconds": 1, "pollers": 1}),
        Surroundings(
            open_source=SqsSource.open,
            record=recorder.record,
            note=store.note_source,
            room=Room(max_messages=_MESSAGES, max_bytes=MAX_BYTES),
        ),
    )

    async def poll() -> None:
        try:
            await poller.run(stop)
        finally:
            has_ended.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(recorder.run(has_ended))
        group.create_task(poll())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await _until_tested(database, source.id)
        stop.set()


async def _until_tested(database: Database, source_id: SourceId) -> None:
    # Another process may be the one that hears it, so the row is looked at: nothing here can be awaited for it.
    while (heard := await _find(database, source_id)) is not None and heard.test_event_at is None:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)


async def _find(database: Database, source_id: SourceId) -> Source | None:
    async with database.read() as connection:
        return await sources.find(connection, DEFAULT_TENANT, source_id)
