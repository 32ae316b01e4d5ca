"""What a lane owes and is due, read without a lock: the lane's lease is the lock.

Both statements walk the index on (lane_id, due_at, id) and stop at their limit. They are built so that no planner can
leave that way, however large the backlog: the clock is read once, cancelled subscriptions come as an array, and each
event is looked up by its key. They begin at the lane's low-water mark (low_water.py).
"""

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Integer,
    LargeBinary,
    Result,
    Select,
    and_,
    any_,
    bindparam,
    exists,
    func,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import LateralFromClause

from app.domain.delivery import Lease, Owed, at_hand_limit
from app.domain.ids import DeliveryKey, EndpointId, LaneId, SubscriptionId
from app.store.columns import none_of_named, now, one_of, this_moment
from app.store.events import stored_event
from app.store.low_water import low_id_of, not_below
from app.store.outbox_schema import delivery, event
from app.store.schema import endpoint, subscription

# How many that were cancelled a look may walk over, beside what it hands out.
WALKED_OVER: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NextDue:
    """When the next delivery of a lane is due, and whether that is now."""

    due_at: datetime
    is_due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InLine:
    """Deliveries of an ordered lane that are due and may go, by row; and from which row on those of an object wait.

    `is_all`: nothing else is due.
    """

    may_go: Sequence[Owed]
    waiting: Mapping[int, int]
    is_all: bool


async def fetch(connection: AsyncConnection, lease: Lease, *, limit: int, leave_out: Sequence[int]) -> Sequence[Owed]:
    """Read deliveries that are due, oldest due first, with their events."""
    statement = _fetch_statement(connection.dialect.name, leaves_out=bool(leave_out))
    found = await connection.execute(statement, due_values(lease, limit=limit, leave_out=leave_out))
    return [_owed(of) for of in _by_name(found)]


async def look_in_line(
    connection: AsyncConnection, lease: Lease, *, limit: int, leave_out: Sequence[int], crowded: Collection[int]
) -> InLine:
    """Read deliveries that are due: those that may go, and those that wait for one that is not at hand.

    At hand is what stands in `leave_out` or comes before in the answer. Of a `crowded` object all wait.
    """
    statement = _fetch_statement(connection.dialect.name, leaves_out=bool(leave_out), tells_before=True)
    found = await connection.execute(statement, due_values(lease, limit=limit, leave_out=leave_out))
    rows = _by_name(found)
    at_hand = set(leave_out)
    of_object: Counter[int | None] = Counter()
    may_go: list[Owed] = []
    waiting: dict[int, int] = {}
    for of in sorted(rows, key=itemgetter("id")):
        row_id, order_key = of["id"], of["order_key"]
        is_next = of["before_id"] is None or of["before_id"] in at_hand
        if is_next and order_key not in crowded and of_object[order_key] < at_hand_limit(order_key):
            of_object[order_key] += 1
            at_hand.add(row_id)
            may_go.append(_owed(of))
        else:
            waiting.setdefault(order_key, row_id)
    return InLine(may_go=may_go, waiting=waiting, is_all=len(rows) < limit)


async def fetch_rows(connection: AsyncConnection, lease: Lease, row_ids: Sequence[int]) -> Mapping[int, Owed]:
    """Read these deliveries with their events, as far as they are still there and may be sent."""
    dialect = connection.dialect.name
    may_be_sent = (_is_endpoint_there(), ~_is_cancelled(dialect))
    chosen = select(delivery).where(one_of(connection, delivery.c.id, row_ids), *may_be_sent).subquery("chosen")
    found = await connection.execute(_with_events(dialect, chosen), {"its_endpoint": lease.endpoint_id})
    return {of["id"]: _owed(of) for of in _by_name(found)}


async def next_due(connection: AsyncConnection, lease: Lease) -> NextDue | None:
    """Find the lane's next delivery, also one that was cancelled and is still there; None when it owes nothing."""
    row = (await connection.execute(_next_statement(), walk_values(lease))).first()
    return None if row is None else NextDue(due_at=row.due_at, is_due=bool(row.is_due))


def fetch_statement(
    connection: AsyncConnection, lease: Lease, *, limit: int, leave_out: Sequence[int], tells_before: bool = False
) -> Select[Any]:
    """Give what a fetch runs, values included; a test looks at its plan."""
    statement = _fetch_statement(connection.dialect.name, leaves_out=bool(leave_out), tells_before=tells_before)
    return statement.params(due_values(lease, limit=limit, leave_out=leave_out))


def next_statement(lease: Lease) -> Select[Any]:
    """Give what next_due runs, values included; a test looks at its plan."""
    return _next_statement().params(walk_values(lease))


def due_values(lease: Lease, *, limit: int, leave_out: Sequence[int]) -> dict[str, Any]:
    """Give what the walk of `due_statement` takes."""
    values = {**walk_values(lease), "rows": limit, "walked": limit + WALKED_OVER}
    return {**values, "left_out": list(leave_out)} if leave_out else values


def walk_values(lease: Lease) -> dict[str, Any]:
    """Give what `walk_statement` takes."""
    return {"lane": lease.lane_id, "its_endpoint": lease.endpoint_id}


# Built once: putting such a statement together costs more than running it.
@functools.cache
def _next_statement() -> Select[Any]:
    lane_id = bindparam("lane", type_=BigInteger)
    return (
        select(delivery.c.due_at, (delivery.c.due_at <= now()).label("is_due"))
        .where(delivery.c.lane_id == lane_id, not_below(lane_id), _is_endpoint_there())
        .order_by(delivery.c.due_at, delivery.c.id)
        .limit(1)
    )


@functools.cache
def _fetch_statement(dialect: str, *, leaves_out: bool, tells_before: bool = False) -> Select[Any]:
    due = due_statement(dialect, leaves_out=leaves_out).subquery("due")
    return _with_events(dialect, due, *((_before(due),) if tells_before else ())).order_by(due.c.due_at, due.c.id)


def due_statement(dialect: str, *, leaves_out: bool) -> Select[Any]:
    """Build the look at what is due and may be sent, oldest due first; for the values of `due_values`.

    However much was cancelled and stands before that, it walks over no more than `WALKED_OVER`; see cancel.py.
    """
    walk = walk_statement(dialect, leaves_out=leaves_out).limit(bindparam("walked", type_=Integer)).subquery("walked")
    # Not put in order again: both databases hand on what the walk gives, and SQLite would sort all of it first.
    return select(walk).where(walk.c.is_cancelled.is_(False)).limit(bindparam("rows", type_=Integer))


def walk_statement(dialect: str, *, leaves_out: bool = False) -> Select[Any]:
    """Build the walk along the index: what is due, oldest due first, also what was cancelled and is still there."""
    lane_id = bindparam("lane", type_=BigInteger)
    return (
        select(delivery, _is_cancelled(dialect).label("is_cancelled"))
        .where(
            delivery.c.lane_id == lane_id,
            not_below(lane_id),
            delivery.c.due_at <= this_moment(),
            _is_endpoint_there(),
            *((none_of_named(dialect, delivery.c.id, "left_out"),) if leaves_out else ()),
        )
        .order_by(delivery.c.due_at, delivery.c.id)
    )


def _with_events(dialect: str, due: FromClause, *more: ColumnElement[Any]) -> Select[Any]:
    its_event = and_(
        event.c.tenant_id == due.c.tenant_id, event.c.id == due.c.event_id, event.c.event_day == due.c.event_day
    )
    kept: FromClause = event
    joined: FromClause = due.outerjoin(event, its_event)
    if dialect == "postgresql":
        kept = _kept(due)
        joined = due.outerjoin(kept, true())
    its_format = select(subscription.c.format).where(subscription.c.id == due.c.subscription_id).scalar_subquery()
    return select(
        *(due.c[name] for name in _DELIVERY_COLUMNS),
        its_format.label("format"),
        this_moment().label("read_at"),
        *more,
        *(kept.c[name] for name in _EVENT_COLUMNS),
    ).select_from(joined)


def _kept(due: FromClause) -> LateralFromClause:
    """Look up the event of each delivery on its own: a join over all of them might read every day's events.

    By its place in the order of the key. Of the other index on events, which begins with the tenant too, a planner
    without statistics, as on the first minute of a day, thinks as well, and walks all the events of the day.
    """
    key = (event.c.tenant_id, event.c.id, event.c.event_day)
    its_key = tuple_(due.c.tenant_id, due.c.event_id, due.c.event_day)
    return (
        select(event)
        .where(event.c.event_day == due.c.event_day, tuple_(*key) >= its_key, tuple_(*key) <= its_key)
        .order_by(*key)
        .limit(1)
        .lateral("kept")
    )


def _before(due: FromClause) -> ColumnElement[int]:
    """Find the row that comes right before, due or not: one look at its place in the index of the order."""
    earlier = delivery.alias("earlier")
    place = tuple_(earlier.c.order_key, earlier.c.lane_id, earlier.c.id)
    return (
        select(earlier.c.id)
        .where(
            earlier.c.order_key.is_not(None),
            place < tuple_(due.c.order_key, due.c.lane_id, due.c.id),
            place >= tuple_(due.c.order_key, due.c.lane_id, low_id_of(bindparam("lane", type_=BigInteger))),
        )
        .order_by(earlier.c.order_key.desc(), earlier.c.lane_id.desc(), earlier.c.id.desc())
        .limit(1)
        .scalar_subquery()
        .label("before_id")
    )


_DELIVERY_COLUMNS: Final = (
    "id",
    "lane_id",
    "delivery_key",
    "endpoint_id",
    "subscription_id",
    "event_id",
    "event_day",
    "tries",
    "failures",
    "order_key",
    "place",
    "owed_at",
)
_EVENT_COLUMNS: Final = (
    "source_id",
    "recorded_at",
    "type",
    "change",
    "bucket",
    "key",
    "received_key",
    "version_id",
    "size",
    "etag",
    "sequencer",
    "time",
    "region",
    "actor",
    "source_ip",
    "request_id",
    "host_id",
    "extra",
    "dialect",
    "record",
)


def _is_endpoint_there() -> ColumnElement[bool]:
    its_endpoint = bindparam("its_endpoint", type_=LargeBinary)
    return exists().where(endpoint.c.id == its_endpoint, endpoint.c.deleted_at.is_(None))


def _is_cancelled(dialect: str) -> ColumnElement[bool]:
    # By what is being cancelled, not by what the endpoint's subscriptions are: one may have moved to another endpoint.
    cancelled = select(subscription.c.id).where(
        subscription.c.deleted_at.is_not(None), subscription.c.emptied_at.is_(None)
    )
    if dialect == "postgresql":
        return delivery.c.subscription_id == any_(func.array(cancelled.scalar_subquery(), type_=ARRAY(LargeBinary)))
    return delivery.c.subscription_id.in_(cancelled)


def _by_name(found: Result[Any]) -> list[dict[str, Any]]:
    # A row's own lookup by name costs ten times that of a dict, and a look does thousands.
    names = tuple(found.keys())
    return [dict(zip(names, row, strict=True)) for row in found]


def _owed(of: Mapping[str, Any]) -> Owed:
    return Owed(
        row_id=of["id"],
        lane_id=LaneId(of["lane_id"]),
        key=DeliveryKey(of["delivery_key"]),
        endpoint_id=EndpointId(of["endpoint_id"]),
        subscription_id=SubscriptionId(of["subscription_id"]),
        format=of["format"],
        tries=of["tries"],
        failures=of["failures"],
        owed_at=of["owed_at"],
        order_key=of["order_key"],
        place=of["place"],
        age_seconds=max(0.0, (of["read_at"] - of["owed_at"]).total_seconds()),
        stored=None if of["record"] is None else stored_event(of, of["event_id"]),
    )
