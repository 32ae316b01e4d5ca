"""What a play sees of the database when it looks at it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import DeliveryKey, LaneId, ReplicaId, SubscriptionId
from app.store.columns import now
from app.store.outbox_schema import attempt, dead_letter, delivery, high_water, lane


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRow:
    """A row of the outbox."""

    id: int
    lane_id: LaneId
    key: DeliveryKey
    subscription_id: SubscriptionId
    order_key: int | None
    place: bytes | None
    tries: int
    failures: int
    blocks: bool
    is_due: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLane:
    """A lane's row."""

    owner: ReplicaId | None
    fence: int
    is_leased: bool
    is_awake: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What stands in the database at one moment; endings and the number of tries by delivery, marks by object.

    `dropped` are those that ended as too late.
    """

    rows: tuple[SeenRow, ...]
    lanes: Mapping[LaneId, SeenLane]
    dead_letters: frozenset[DeliveryKey]
    endings: Mapping[DeliveryKey, tuple[str, ...]]
    history: Mapping[DeliveryKey, int]
    dropped: frozenset[DeliveryKey]
    marks: Mapping[tuple[LaneId, int], bytes]

    @property
    def sleeping_over_due(self) -> list[LaneId]:
        """Name the lanes that sleep although something is due."""
        return [row.lane_id for row in self.rows if row.is_due and not self.lanes[row.lane_id].is_awake]


async def look(connection: AsyncConnection) -> Seen:
    """Read all of it."""
    return Seen(
        rows=await _rows(connection),
        lanes=await _lanes(connection),
        dead_letters=frozenset((await connection.execute(select(dead_letter.c.delivery_key))).scalars()),
        marks=await _marks(connection),
        **await _history(connection),
    )


async def _rows(connection: AsyncConnection) -> tuple[SeenRow, ...]:
    columns = delivery.c
    found = await connection.execute(select(delivery, (columns.due_at <= now()).label("is_due")).order_by(columns.id))
    return tuple(
        SeenRow(
            id=row.id,
            lane_id=LaneId(row.lane_id),
            key=DeliveryKey(row.delivery_key),
            subscription_id=SubscriptionId(row.subscription_id),
            order_key=row.order_key,
            place=row.place,
            tries=row.tries,
            failures=row.failures,
            blocks=bool(row.blocks),
            is_due=bool(row.is_due),
        )
        for row in found
    )


async def _lanes(connection: AsyncConnection) -> dict[LaneId, SeenLane]:
    is_leased, is_awake = (lane.c.lease_until > now()).label("is_leased"), (lane.c.wake_at <= now()).label("is_awake")
    found = await connection.execute(select(lane.c.id, lane.c.owner, lane.c.fence, is_leased, is_awake))
    return {
        LaneId(row.id): SeenLane(
            owner=row.owner and ReplicaId(row.owner),
            fence=row.fence,
            is_leased=bool(row.is_leased),
            is_awake=bool(row.is_awake),
        )
        for row in found
    }


async def _history(connection: AsyncConnection) -> dict[str, Any]:
    endings: dict[DeliveryKey, tuple[str, ...]] = {}
    history: dict[DeliveryKey, int] = {}
    dropped: set[DeliveryKey] = set()
    for row in await connection.execute(select(attempt.c.delivery_key, attempt.c.ended, attempt.c.reason)):
        key = DeliveryKey(row.delivery_key)
        history[key] = history.get(key, 0) + 1
        if row.ended is not None:
            endings[key] = (*endings.get(key, ()), row.ended)
        if row.reason == "late":
            dropped.add(key)
    return {"endings": endings, "history": history, "dropped": frozenset(dropped)}


async def _marks(connection: AsyncConnection) -> dict[tuple[LaneId, int], bytes]:
    # Of one family: all events of a play are of one kind of store.
    columns = high_water.c
    found = await connection.execute(select(columns.lane_id, columns.order_key, columns.place))
    return {(LaneId(row.lane_id), int(row.order_key)): row.place for row in found}
