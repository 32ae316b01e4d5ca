"""Rows of sources of kind `sqs`, as the commands around wiring need them: found by their queue, made, taken out."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from app.domain.configuration import Source
from app.domain.ids import DEFAULT_TENANT, SourceId
from app.store import sources
from app.store.epoch import lock_changes
from app.store.sources import NewSource
from app.wiring.examine import SqsPlace

if TYPE_CHECKING:
    from app.store.database import Database

LOOK_SECONDS: Final = 0.2


async def all_sources(database: "Database") -> Sequence[Source]:
    """Give all sources, of whatever kind."""
    async with database.read() as connection:
        return await sources.read_all(connection)


async def sqs_sources(database: "Database") -> Sequence[Source]:
    """Give all sources that read a queue."""
    return [each for each in await all_sources(database) if each.kind == "sqs"]


async def reader_of(database: "Database", queue_url: str) -> Source | None:
    """Give the source that reads a queue; None when none does."""
    return next((each for each in await sqs_sources(database) if _is_same(each, queue_url)), None)


async def register(
    database: "Database", *, name: str, queue_url: str, region: str, endpoint_url: str | None
) -> tuple[Source, bool]:
    """Give the source that reads a queue, and whether it was made for that now."""
    from app.sources.sqs_config import SqsConfig

    config = SqsConfig(queue_url=queue_url, region=region, endpoint_url=endpoint_url).model_dump(mode="json")
    async with database.write() as connection:
        # Two at once must not both find none.
        await lock_changes(connection)
        found = [each for each in await sources.read_all(connection) if each.kind == "sqs"]
        for each in found:
            if _is_same(each, queue_url):
                return each, False
        new = NewSource(name=name, kind="sqs", config=config)
        return await sources.create(connection, DEFAULT_TENANT, new), True


async def take_out(database: "Database", source: Source) -> None:
    """Delete a source; events heard from it stay."""
    async with database.write() as connection:
        await sources.delete(connection, source.tenant_id, source.id)


async def test_event_came(
    database: "Database", source_id: SourceId, *, after: datetime | None, within_seconds: float
) -> bool:
    """Wait until a source has had a test event later than the last one known, whoever of the gateway received it."""
    try:
        async with asyncio.timeout(within_seconds):
            while True:
                async with database.read() as connection:
                    found = await sources.find(connection, DEFAULT_TENANT, source_id)
                if found is not None and found.test_event_at is not None and found.test_event_at != after:
                    return True
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        return False


def place_of(source: Source) -> SqsPlace:
    """Give a source as the doctor looks at it."""
    from app.sources.sqs_config import SqsConfig

    config = SqsConfig.model_validate(dict(source.config))
    return SqsPlace(
        name=source.name,
        queue_url=config.queue_url,
        access=config.access,
        state=source.state,
        last_error=source.last_error,
        is_paused=source.is_paused,
        has_test_event=source.test_event_at is not None,
    )


def _is_same(source: Source, queue_url: str) -> bool:
    return str(source.config.get("queue_url", "")).rstrip("/") == queue_url.rstrip("/")
