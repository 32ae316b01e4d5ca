"""An endpoint as it stands in the tables, with its lane: the query for those that live, and a row turned to a value."""

from typing import Any

from sqlalchemy import Row, Select, select

from app.domain.configuration import Endpoint
from app.domain.ids import EndpointId, LaneId, TenantId
from app.store.outbox_schema import lane
from app.store.schema import endpoint


def living_endpoints() -> Select[Any]:
    """Select the endpoints that are not deleted."""
    return (
        select(endpoint, lane.c.id.label("lane_id"))
        .join(lane, lane.c.endpoint_id == endpoint.c.id)
        .where(endpoint.c.deleted_at.is_(None))
    )


def endpoint_of(row: Row[Any]) -> Endpoint:
    """Read a row of that query."""
    return Endpoint(
        id=EndpointId(row.id),
        tenant_id=TenantId(row.tenant_id),
        lane_id=LaneId(row.lane_id),
        name=row.name,
        kind=row.kind,
        config=row.config,
        secret=row.secret,
        ordering=row.ordering,
        on_dead=row.on_dead,
        reorder_window_seconds=row.reorder_window_seconds,
        late=row.late,
        timeout_seconds=row.timeout_seconds,
        max_in_flight=row.max_in_flight,
        rate_limit_per_second=row.rate_limit_per_second,
        schedule_seconds=tuple(row.schedule_seconds),
        max_age_seconds=row.max_age_seconds,
        answers=row.answers,
        is_paused=row.is_paused,
        disabled_at=row.disabled_at,
        disabled_reason=row.disabled_reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
