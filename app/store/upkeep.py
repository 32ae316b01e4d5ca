"""The upkeep: days made ahead, at the start and hourly; what is past the retention dropped by one replica at a time."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import StoreError
from app.domain.ids import ID_BYTES, LaneId, ReplicaId
from app.store import chores, prune
from app.store.database import Database, sqlstate
from app.store.days import partitions
from app.store.partitions import drop_day, make_days
from app.store.place import Place
from app.store.record import RETENTION_DAYS

PAUSE_SECONDS: Final = 3_600.0
IDEMPOTENCY_HOURS: Final = 24
_CHORE: Final = "upkeep"
_CHORE_SECONDS: Final = 300.0
# A replica that finds nothing to do has read a few rows of the catalogue.
_LOOK_SECONDS: Final = 600.0
_LOCK_NOT_AVAILABLE: Final = "55P03"
# What only the history still names.
_KEPT_LIKE_ATTEMPTS: Final = (
    prune.delete_old_replays,
    prune.delete_old_subscriptions,
    prune.delete_old_endpoints,
    prune.delete_old_sources,
    prune.delete_old_keys,
)
T = TypeVar("T")
_log = structlog.get_logger()


class Upkeep:
    """Keeps one database in shape; every replica runs one."""

    def __init__(  # noqa: PLR0913 -- a span for each thing that is kept
        self,
        database: Database,
        *,
        event_days: int = RETENTION_DAYS,
        attempt_days: int = RETENTION_DAYS,
        dead_letter_days: int = RETENTION_DAYS,
        quarantine_days: int = RETENTION_DAYS,
        idempotency_hours: int = IDEMPOTENCY_HOURS,
    ) -> None:
        """Take the database, and for how long events, attempts, dead letters, the quarantine and records are kept."""
        self._database = database
        self._owner = ReplicaId(secrets.token_bytes(ID_BYTES))
        self._event_days = event_days
        self._attempt_days = attempt_days
        self._dead_letter_days = dead_letter_days
        self._quarantine_days = quarantine_days
        self._idempotency_hours = idempotency_hours

    async def run(self, stop: asyncio.Event) -> None:
        """Do the upkeep now and then until told to stop, which cuts it short. An outage of the database passes."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                work = asyncio.create_task(self._run_safely())
                await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
                work.cancel()
                await asyncio.wait((work,))
                await asyncio.wait((stopping,), timeout=_LOOK_SECONDS)
        finally:
            stopping.cancel()

    async def _run_safely(self) -> None:
        try:
            await self.run_once()
        except StoreError as error:
            _log.warning("upkeep.failed", error=str(error))
        except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
            _log.exception("upkeep.broke")

    async def make_ready(self) -> None:
        """Make the days that are missing: to be run before the first event is recorded. Raises StoreUnavailable."""
        await self._database.write_again(make_days)

    async def run_once(self) -> None:
        """Make the days that are missing, whoever else does; prune when that is due and nobody else does."""
        await self.make_ready()
        if await chores.claim(
            self._database, _CHORE, self._owner, lease_seconds=_CHORE_SECONDS, pause_seconds=PAUSE_SECONDS
        ):
            await self._prune()
            async with self._database.write() as connection:
                await chores.finish(connection, _CHORE, self._owner)

    async def _prune(self) -> None:
        # First what keeps days, and rows of other tables, from going.
        await self._delete_slices(prune.delete_old_dead_letters, self._dead_letter_days)
        await self._delete_slices(prune.delete_old_quarantine, self._quarantine_days)
        await self._delete_slices(prune.delete_old_idempotency_records, self._idempotency_hours)
        await self._delete_slices(prune.delete_old_pulses, prune.PULSE_SECONDS)
        await self._delete_slices(prune.delete_old_marks, self._event_days)
        await self._delete_marks_of_no_lane()
        await self._prune_events()
        if self._database.dialect == "postgresql":
            await self._drop_days()
        else:
            async with self._database.read() as connection:
                first_kept = await prune.first_attempt_day_kept(connection, self._attempt_days)
            await self._delete_slices(prune.delete_old_attempts, first_kept)
        for delete_slice in _KEPT_LIKE_ATTEMPTS:
            await self._delete_slices(delete_slice, self._attempt_days)

    async def _delete_marks_of_no_lane(self) -> None:
        walked_to: LaneId | None = LaneId(0)
        while walked_to is not None:
            async with self._database.write() as connection:
                walked_to = await prune.delete_marks_of_no_lane(connection, walked_to)

    async def _delete_slices(self, delete_slice: Callable[[AsyncConnection, T], Awaitable[int]], bound: T) -> None:
        """Delete until nothing is left; between two slices whoever else wants to write has a turn."""
        deleted = prune.SLICE
        while deleted == prune.SLICE:
            async with self._database.write() as connection:
                deleted = await delete_slice(connection, bound)

    async def _drop_days(self) -> None:
        async with self._database.read() as connection:
            events = await partitions(connection, "event")
            attempts = await partitions(connection, "attempt")
            event_days = await prune.expired_event_days(connection, events, self._event_days)
            first_kept = await prune.first_attempt_day_kept(connection, self._attempt_days)
        attempt_days = sorted(day for day in attempts if day < first_kept)
        for parent, days in (("event", event_days), ("attempt", attempt_days)):
            for day in days:
                try:
                    async with self._database.write() as connection:
                        await drop_day(connection, parent, day)
                except StoreError as error:
                    if sqlstate(error) != _LOCK_NOT_AVAILABLE:
                        raise
                    # Somebody reads it; an hour is soon enough.
                    _log.info("day.drop_postponed", table=parent, day=str(day))

    async def _prune_events(self) -> None:
        async with self._database.read() as connection:
            tenants = await prune.tenants(connection)
        for tenant_id in tenants:
            after: Place | None = None
            while True:
                async with self._database.read() as connection:
                    old = await prune.old_events(connection, tenant_id, self._event_days, after=after)
                if not old:
                    break
                async with self._database.write() as connection:
                    await prune.delete_events(connection, tenant_id, [each.id for each in old])
                after = old[-1]
