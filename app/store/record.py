"""The event store: a batch of what sources said becomes events, and what these owe, in one transaction."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Configuration, SourceState
from app.domain.errors import StoreError
from app.domain.ids import EventId, LaneId, SourceId, TenantId
from app.domain.matching import Matcher
from app.domain.message import NOTHING, Heard, Recorded
from app.store import configuration, heard, lanes
from app.store.database import Database, is_partition_missing
from app.store.days import EventDays
from app.store.epoch import read_epoch
from app.store.insert import NewEvent, Owing, insert_deliveries, insert_events

RETENTION_DAYS: Final = 30

_T = TypeVar("_T")

_log = structlog.get_logger()


class SqlEventStore:
    """The port EventStore over one database; keeps the newest configuration it saw, and the days events go under."""

    def __init__(self, database: Database, *, event_days: int = RETENTION_DAYS) -> None:
        """Take the database and how long events are kept, the same as the upkeep's."""
        self._database = database
        self._days = EventDays(event_days)
        self._rules = _Rules(Configuration(epoch=-1, endpoints={}, subscriptions={}, sources={}))

    async def record(self, batch: Sequence[Heard]) -> Recorded:
        """Write a batch down in one transaction, then wake the lanes that owe something; see the port."""
        if not batch:
            return NOTHING
        recorded = await self.transact(lambda connection: self._write_heard(connection, batch))
        await self.wake(recorded.lanes)
        return recorded

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """Run work that calls `write` in a transaction of its own, again where the database asks for it.

        Raises StoreUnavailable, StoreRefused; nothing of the work is then there.
        """
        try:
            return await self._database.write_again(work)
        except StoreError as error:
            if not is_partition_missing(error):
                raise
            # Its day went past the retention just now: filed anew under the sentinel.
            self._days.forget()
            return await self._database.write_again(work)

    async def write(self, connection: AsyncConnection, batch: Sequence[Heard]) -> Recorded:
        """Write down events, what the new ones owe and what was refused, in a transaction of the caller's.

        After its commit the lanes are to be woken.
        """
        rules = await self._newest_rules(connection)
        said = await self._said(connection, batch)
        new_ids = await insert_events(connection, said.values())
        owing = [owed for each in said.values() if each.event.id in new_ids for owed in rules.owing(each)]
        deliveries = await insert_deliveries(connection, owing)
        quarantined = await heard.put_in_quarantine(connection, batch)
        return Recorded(
            events=len(new_ids),
            duplicates=sum(len(each.decoded.events) for each in batch) - len(new_ids),
            deliveries=deliveries,
            quarantined=quarantined,
            lanes=frozenset(each.endpoint.lane_id for each in owing),
        )

    async def wake(self, awakened: frozenset[LaneId]) -> None:
        """Wake lanes that owe something which was committed; a failure is logged, since the sweep finds them too."""
        # A hint, apart from the batch: within its transaction every batch for a busy endpoint would wait for one row.
        if not awakened:
            return
        try:
            async with self._database.write() as connection:
                await lanes.wake_surely(connection, awakened)
        except StoreError as error:
            _log.warning("lane.wake_failed", error=str(error))

    async def note_source(self, source_id: SourceId, state: SourceState, error: str | None) -> None:
        """Keep a source's state and last error for people to see; see the port."""
        async with self._database.write() as connection:
            await heard.note_state(connection, source_id, state=state, error=error)

    async def _write_heard(self, connection: AsyncConnection, batch: Sequence[Heard]) -> Recorded:
        recorded = await self.write(connection, batch)
        # Last, since it locks: whoever waits for a source's row then waits for a commit, no more.
        await heard.note_signs_of_life(connection, batch)
        return recorded

    async def _newest_rules(self, connection: AsyncConnection) -> "_Rules":
        # Read inside the transaction: an event received after a change was answered is matched under that change.
        rules = self._rules
        if rules.epoch != await read_epoch(connection):
            rules = _Rules(await configuration.load(connection))
            if rules.epoch > self._rules.epoch:
                self._rules = rules
        return rules

    async def _said(
        self, connection: AsyncConnection, batch: Sequence[Heard]
    ) -> dict[tuple[TenantId, EventId], NewEvent]:
        """Give each event of the batch once, in the order heard."""
        days = await self._days.file_under(connection, (event.day for each in batch for event in each.decoded.events))
        said: dict[tuple[TenantId, EventId], NewEvent] = {}
        for each in batch:
            for event in each.decoded.events:
                new = NewEvent(tenant_id=each.tenant_id, source_id=each.source_id, event=event, day=days[event.day])
                said.setdefault((each.tenant_id, event.id), new)
        return said


class _Rules:
    """Who is owed what under one configuration."""

    def __init__(self, known: Configuration) -> None:
        self.epoch = known.epoch
        self._endpoints = known.endpoints
        self._matcher = Matcher(known.subscriptions.values())

    def owing(self, new: NewEvent) -> list[Owing]:
        """Give a delivery for each subscription that takes the event."""
        return [
            Owing(new=new, endpoint=endpoint, subscription_id=subscription.id)
            for subscription in self._matcher.match(new.event)
            if subscription.tenant_id == new.tenant_id
            and (endpoint := self._endpoints.get(subscription.endpoint_id)) is not None
        ]
