"""Counts what a replay would come by and owe; changes nothing. Counting stops when its time is up."""

import asyncio
from typing import Final

from app.domain.configuration import Configuration
from app.domain.ids import TenantId
from app.store.joined import Transactions
from app.store.place import Place
from app.store.replay import Counted, Wanted
from app.store.replay_walk import Span, walk
from app.store.replay_wanted import find_wanted

_EVENTS_AT_ONCE: Final = 250


async def count(
    database: Transactions, tenant_id: TenantId, wanted: Wanted, known: Configuration | None, *, seconds: float
) -> Counted:
    """Count, for a little more than so many seconds at most; without a configuration events alone."""
    ends_at = asyncio.get_running_loop().time() + seconds
    events = deliveries = 0
    place: Place | None = None
    while True:
        async with database.read() as connection:
            span = Span(tenant_id=tenant_id, wanted=wanted.events, after=place)
            walked = await walk(connection, span, limit=_EVENTS_AT_ONCE)
            events += len(walked.rows)
            if known is not None:
                deliveries += len(await find_wanted(connection, tenant_id, walked.rows, wanted, known))
        place = walked.place
        if walked.is_end or asyncio.get_running_loop().time() >= ends_at:
            return Counted(events=events, deliveries=deliveries, is_all=walked.is_end)
