"""How things leave the quarantine as events: decoded again and recorded as if they came now, or refused again.

The bytes are decoded before the transaction; in it a thing is claimed, so that of two who reprocess it one finds it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import structlog
from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Profile
from app.domain.errors import StoreRefused
from app.domain.event import Event
from app.domain.ids import EventId, LaneId, QuarantineId, SourceId, TenantId
from app.domain.message import NOTHING, Decoded, Heard, Recorded, Refusal
from app.store import sources
from app.store.clearing import Cleared, Run, Step, claim, clear, remove
from app.store.columns import storable_text
from app.store.database import Database, is_partition_missing, trial
from app.store.heard import REASON_CHARACTERS
from app.store.outbox_schema import quarantine
from app.store.quarantine import Kept, Quarantined, fitting, get_quarantined, read_kept
from app.store.record import SqlEventStore
from app.telemetry import EVENTS

SLICE_BYTES: Final = 4 * 1024 * 1024
# What was decoded of a slice by then is recorded, the rest comes with the next.
SLICE_SECONDS: Final = 0.5

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprocessed:
    """What came of one thing: its events, those known before too, or that it is `refused` and stays.

    `reason` says what is refused still, be it all of it or pieces, which are then kept for themselves.
    """

    outcome: Literal["recorded", "refused"]
    events: Sequence[EventId]
    reason: str | None
    lanes: frozenset[LaneId] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """A thing of the quarantine and what its bytes say now."""

    kept: Quarantined
    tenant_id: TenantId
    decoded: Decoded

    @property
    def heard(self) -> Heard:
        return Heard(source_id=self.kept.source_id, tenant_id=self.tenant_id, decoded=self.decoded)

    @property
    def is_refused(self) -> bool:
        return bool(self.decoded.refusals) and not self.decoded.events

    @property
    def reason(self) -> str | None:
        if not self.decoded.refusals:
            return None
        first, *others = self.decoded.refusals
        reason = f"{first.reason} (And {len(others)} more.)" if others else first.reason
        return storable_text(reason, limit=REASON_CHARACTERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settled:
    """What a transaction did with the things it found."""

    there: Sequence[_Tried]
    recorded: Recorded


class Reprocessing:
    """Decodes what is kept once more and records it through the event store."""

    def __init__(
        self,
        database: Database,
        store: SqlEventStore,
        decode: Callable[..., Decoded],
        *,
        slice_bytes: int = SLICE_BYTES,
        slice_seconds: float = SLICE_SECONDS,
    ) -> None:
        """Take the parts; `decode(body, *, tenant_id, profile)` never raises."""
        self._database = database
        self._store = store
        self._decode = decode
        self._slice_bytes = slice_bytes
        self._slice_seconds = slice_seconds

    async def reprocess(self, tenant_id: TenantId, quarantine_id: QuarantineId) -> Reprocessed | None:
        """Reprocess one thing; None when there is none, or no more."""
        async with self._database.read() as connection:
            kept = await get_quarantined(connection, tenant_id, quarantine_id)
        if kept is None:
            return None
        settled = await self._settle(await self._try([kept], tenant_id))
        await self._tell(settled)
        if not settled.there:
            return None
        (tried,) = settled.there
        return Reprocessed(
            outcome="refused" if tried.is_refused else "recorded",
            events=list(dict.fromkeys(event.id for event in tried.decoded.events)),
            reason=tried.reason,
            lanes=settled.recorded.lanes,
        )

    async def reprocess_all(self, run: Run, *, clock: Callable[[], float] = time.monotonic) -> Cleared:
        """Reprocess what a filter takes, slice by slice; what is refused again is left behind."""

        async def work(found: Sequence[Kept]) -> Step:
            return await self._reprocess_slice(run.tenant_id, fitting(found, self._slice_bytes))

        return await clear(self._database, run, work, clock=clock)

    async def _reprocess_slice(self, tenant_id: TenantId, found: Sequence[Kept]) -> Step:
        async with self._database.read() as connection:
            rows = {each.id: each for each in await read_kept(connection, [each.id for each in found])}
        tried = await self._try([rows[each.id] for each in found if each.id in rows], tenant_id)
        settled = await self._settle(tried)
        await self._tell(settled)
        refused = sum(each.is_refused for each in settled.there)
        is_cut = len(tried) < len(rows)
        last = next(each for each in found if each.id == tried[-1].kept.id) if is_cut else found[-1]
        return Step(up_to=last.place, gone=len(settled.there) - refused, refused=refused, lanes=settled.recorded.lanes)

    async def _try(self, kept: Sequence[Quarantined], tenant_id: TenantId) -> list[_Tried]:
        """Decode one thing after another, giving way to the rest of the process, until the time is over."""
        profiles = await self._profiles({each.source_id for each in kept}, tenant_id)
        tried: list[_Tried] = []
        ends_at = time.monotonic() + self._slice_seconds
        for each in kept:
            decoded = self._decoded(each.raw, tenant_id, profiles[each.source_id])
            tried.append(_Tried(kept=each, tenant_id=tenant_id, decoded=decoded))
            await asyncio.sleep(0)
            if time.monotonic() >= ends_at:
                break
        return tried

    async def _profiles(self, wanted: set[SourceId], tenant_id: TenantId) -> dict[SourceId, Profile]:
        async with self._database.read() as connection:
            found = {each: await sources.find(connection, tenant_id, each) for each in wanted}
        return {each: "auto" if source is None else source.profile for each, source in found.items()}

    def _decoded(self, raw: bytes, tenant_id: TenantId, profile: Profile) -> Decoded:
        try:
            return self._decode(raw, tenant_id=tenant_id, profile=profile)
        except Exception as error:  # noqa: BLE001 -- a bug: it stays where it is, and the others are gone on with
            _log.error("message.undecodable", exc_info=error)
            return Decoded(refusals=(Refusal(reason=f"Decoding failed: {type(error).__name__}.", raw=raw),))

    async def _settle(self, tried: Sequence[_Tried]) -> _Settled:
        """Record in one transaction; when the database refuses it, thing by thing, each in one of its own."""
        try:
            return await self._store.transact(lambda connection: self._write(connection, tried))
        except StoreRefused as refused:
            if len(tried) == 1:
                sifted = await self._sift(tried[0], refused)
                return await self._store.transact(lambda connection: self._write(connection, [sifted]))
        settled = [await self._settle([each]) for each in tried]
        return _Settled(
            there=[each for one in settled for each in one.there],
            recorded=sum((one.recorded for one in settled), start=NOTHING),
        )

    async def _write(self, connection: AsyncConnection, tried: Sequence[_Tried]) -> _Settled:
        claimed = await claim(connection, [each.kept.id for each in tried])
        there = [each for each in tried if each.kept.id in claimed]
        leaving = [each for each in there if not each.is_refused]
        # Before its pieces are put in: one may have the id of the whole.
        await remove(connection, [each.kept.id for each in leaving])
        recorded = await self._store.write(connection, [each.heard for each in leaving])
        reasons = [
            {"refused_id": each.kept.id, "reason_now": each.reason}
            for each in there
            if each.is_refused and each.reason != each.kept.reason
        ]
        if reasons:
            await connection.execute(_GIVE_REASON, reasons)
        return _Settled(there=there, recorded=recorded)

    async def _sift(self, tried: _Tried, refused: StoreRefused) -> _Tried:
        """Turn the events that the database refuses into refusals; all of it where none of them is to blame alone."""
        found = await self._store.transact(lambda connection: self._refused_by(connection, tried, tried.decoded.events))
        if not found:
            reason = f"The database refused this: {refused}"
            return replace(tried, decoded=Decoded(refusals=(Refusal(reason=reason, raw=tried.kept.raw),)))
        events = tuple(each for each in tried.decoded.events if each.id not in found)
        refusals = tuple(
            Refusal(reason=f"The database refused this record: {error}", raw=raw) for raw, error in found.values()
        )
        return replace(tried, decoded=replace(tried.decoded, events=events, refusals=tried.decoded.refusals + refusals))

    async def _refused_by(
        self, connection: AsyncConnection, tried: _Tried, events: tuple[Event, ...]
    ) -> dict[EventId, tuple[bytes, StoreRefused]]:
        """Find the events that the database refuses, by halves, and leave no trace."""
        if not events:
            return {}
        try:
            async with trial(connection):
                await self._store.write(connection, [replace(tried.heard, decoded=Decoded(events=events))])
        except StoreRefused as error:
            if is_partition_missing(error):
                raise
            if len(events) == 1:
                return {events[0].id: (events[0].record, error)}
        else:
            return {}
        middle = len(events) // 2
        first = await self._refused_by(connection, tried, events[:middle])
        return first | await self._refused_by(connection, tried, events[middle:])

    async def _tell(self, settled: _Settled) -> None:
        recorded = settled.recorded
        EVENTS.labels("recorded").inc(recorded.events)
        EVENTS.labels("duplicate").inc(recorded.duplicates)
        _log.info(
            "quarantine.reprocessed",
            things=len(settled.there),
            refused=sum(each.is_refused for each in settled.there),
            events=recorded.events,
            duplicates=recorded.duplicates,
            deliveries=recorded.deliveries,
            lanes=len(recorded.lanes),
        )
        await self._store.wake(recorded.lanes)


_GIVE_REASON: Final = (
    update(quarantine).where(quarantine.c.id == bindparam("refused_id")).values(reason=bindparam("reason_now"))
)
