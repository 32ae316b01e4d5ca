"""Events as people ask for them: lists, one by its id, the bytes of its record. Writing them down is not here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, LargeBinary, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.change import canonical_name
from app.domain.event import OPERATOR_DIALECT, Event, StoredEvent
from app.domain.ids import EventId, SourceId, TenantId
from app.domain.operator_event import is_operator_name
from app.store.outbox_schema import event
from app.store.place import Place, page_after


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events a list shows; None and empty take all.

    `type` is S3's name with or without `s3:`, or an operator event's; `key_prefix` are bytes of the decoded key;
    `since` and `until` bound the event's own time, the first included, the second not.
    """

    bucket: str | None = None
    key_prefix: bytes = b""
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def list_events(
    connection: AsyncConnection, tenant_id: TenantId, *, wanted: EventFilter, after: Place | None, limit: int
) -> Sequence[StoredEvent]:
    """Read events, those written down last first."""
    rows = await connection.execute(list_statement(tenant_id, wanted=wanted, after=after, limit=limit))
    return [stored_event(of, of["id"]) for of in rows.mappings()]


async def get_event(connection: AsyncConnection, tenant_id: TenantId, event_id: EventId) -> StoredEvent | None:
    """Read one event; its day is not asked for, so every day's partition is looked into."""
    found = await connection.execute(_by_id(select(event), tenant_id, event_id))
    of = found.mappings().first()
    return None if of is None else stored_event(of, of["id"])


async def get_record(connection: AsyncConnection, tenant_id: TenantId, event_id: EventId) -> bytes | None:
    """Read the bytes of an event's record as they were received."""
    found = await connection.execute(_by_id(select(event.c.record), tenant_id, event_id))
    record: bytes | None = found.scalar_one_or_none()
    return record


def list_statement(tenant_id: TenantId, *, wanted: EventFilter, after: Place | None, limit: int) -> Select[Any]:
    """Build what list_events runs; a test looks at its plan."""
    chosen = select(event).where(event.c.tenant_id == tenant_id, *conditions(wanted))
    return page_after(chosen, after, at=event.c.recorded_at, id_=event.c.id, limit=limit)


def conditions(wanted: EventFilter) -> list[ColumnElement[bool]]:
    """Give what a filter asks of a row."""
    asked: list[ColumnElement[bool]] = []
    if wanted.bucket is not None:
        asked.append(event.c.bucket == wanted.bucket)
    if wanted.key_prefix:
        # Bytes against bytes: no wildcard and no collation has a say.
        start = func.substr(event.c.key, 1, len(wanted.key_prefix), type_=LargeBinary)
        # An operator event has no key of an object.
        asked += (start == wanted.key_prefix, event.c.dialect != OPERATOR_DIALECT)
    if wanted.type is not None:
        name = wanted.type if is_operator_name(wanted.type) else f"s3:{canonical_name(wanted.type)}"
        is_family = name.endswith("*")
        asked.append(event.c.type.startswith(name[:-1], autoescape=True) if is_family else event.c.type == name)
    if wanted.since is not None:
        asked.append(event.c.time >= wanted.since)
    if wanted.until is not None:
        asked.append(event.c.time < wanted.until)
    return asked


def _by_id(columns: Select[Any], tenant_id: TenantId, event_id: EventId) -> Select[Any]:
    # The same event may stand under its own day and, told again after that day was dropped, under the sentinel.
    return columns.where(event.c.tenant_id == tenant_id, event.c.id == event_id).order_by(event.c.recorded_at).limit(1)


def stored_event(of: Mapping[str, Any], event_id: bytes) -> StoredEvent:
    """Read an event out of the columns of a row, by their own names but for the id."""
    return StoredEvent(
        event=Event(
            id=EventId(event_id),
            day=of["event_day"],
            type=of["type"],
            change=of["change"],
            bucket=of["bucket"],
            key=of["key"],
            received_key=of["received_key"],
            version_id=of["version_id"],
            size=of["size"],
            etag=of["etag"],
            sequencer=of["sequencer"],
            time=of["time"],
            region=of["region"],
            actor=of["actor"],
            source_ip=of["source_ip"],
            request_id=of["request_id"],
            host_id=of["host_id"],
            extra=of["extra"],
            dialect=of["dialect"],
            record=of["record"],
        ),
        source_id=None if of["source_id"] is None else SourceId(of["source_id"]),
        recorded_at=of["recorded_at"],
    )
