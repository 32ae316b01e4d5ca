"""The events a replay comes by, in the order they were recorded: so many rows a look, however few the filter takes.

No index is by bucket, key or time, so a filter is asked of each row; what it passes over is walked all the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, LargeBinary, Row, Select, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import TenantId
from app.store.columns import Instant
from app.store.events import EventFilter, conditions
from app.store.outbox_schema import event
from app.store.place import Place

WALKED_AT_ONCE: Final = 5_000
# An event is recorded after its own time, but for the clock of who said it: by a day nobody's is ahead.
_AHEAD: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What is walked: a tenant's events after a place, recorded until a moment, and which of them are wanted."""

    tenant_id: TenantId
    wanted: EventFilter
    after: Place | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """The events found, without their records; where the walk began and where it came to, and whether that is all."""

    after: Place | None
    rows: Sequence[Row[Any]]
    place: Place | None
    is_end: bool

    @property
    def has_moved(self) -> bool:
        """Tell whether it came anywhere."""
        return self.is_end or self.place != self.after

    def cut(self, count: int) -> "Walked":
        """Give the walk as it would have been with fewer events."""
        if count >= len(self.rows):
            return self
        rows = self.rows[:count]
        return Walked(after=self.after, rows=rows, place=_last_of(rows, self.after), is_end=False)


async def walk(connection: AsyncConnection, span: Span, *, limit: int, most_walked: int = WALKED_AT_ONCE) -> Walked:
    """Find the next events that are wanted, up to `limit` of them among the next `most_walked` of the tenant's."""
    edge = _last_of(list(await connection.execute(edge_statement(span, walked=most_walked))), None)
    rows = list(await connection.execute(found_statement(span, edge=edge, limit=limit)))
    if edge is None or len(rows) == limit:
        return Walked(after=span.after, rows=rows, place=_last_of(rows, span.after), is_end=len(rows) < limit)
    return Walked(after=span.after, rows=rows, place=edge, is_end=False)


def edge_statement(span: Span, *, walked: int) -> Select[Any]:
    """Build the search for the last row of a walk; a test looks at its plan."""
    chosen = select(event.c.recorded_at, event.c.id).where(*_within(span))
    return chosen.order_by(event.c.recorded_at, event.c.id).offset(walked - 1).limit(1)


def found_statement(span: Span, *, edge: Place | None, limit: int) -> Select[Any]:
    """Build the search for what is wanted up to the last row of a walk; a test looks at its plan."""
    chosen = select(*_COLUMNS).where(*_within(span), *conditions(span.wanted))
    if edge is not None:
        chosen = chosen.where(tuple_(event.c.recorded_at, event.c.id) <= _literal(edge))
    return chosen.order_by(event.c.recorded_at, event.c.id).limit(limit)


def _within(span: Span) -> list[ColumnElement[bool]]:
    within = [event.c.tenant_id == span.tenant_id]
    if span.after is not None:
        within.append(tuple_(event.c.recorded_at, event.c.id) > _literal(span.after))
    elif span.wanted.since is not None:
        within.append(event.c.recorded_at >= span.wanted.since - _AHEAD)
    if span.until is not None:
        within.append(event.c.recorded_at <= span.until)
    return within


def _literal(place: Place) -> Any:
    return tuple_(literal(place.at, Instant()), literal(place.id, LargeBinary()))


def _last_of(rows: Sequence[Row[Any]], otherwise: Place | None) -> Place | None:
    return Place(at=rows[-1].recorded_at, id=rows[-1].id) if rows else otherwise


# A record may be large, and nobody here reads it.
_COLUMNS: Final = (
    *(each for each in event.c if each.name != "record"),
    literal(b"", LargeBinary()).label("record"),
)
