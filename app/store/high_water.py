"""How far the receiver of a lane has come with an object: what is older than its mark comes late."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import Lease, Owed, Settlement
from app.domain.order import family_of, place_of
from app.store.columns import now, one_of
from app.store.outbox_schema import high_water


async def tell(connection: AsyncConnection, lease: Lease, rows: Sequence[Owed]) -> Sequence[Owed]:
    """Give deliveries with the marks of their objects."""
    keys = {row.order_key for row in rows if row.order_key is not None}
    found = await connection.execute(
        select(high_water.c.order_key, high_water.c.family, high_water.c.place).where(
            high_water.c.lane_id == lease.lane_id, one_of(connection, high_water.c.order_key, keys)
        )
    )
    marks = {(row.order_key, row.family): row.place for row in found}
    return [_marked(row, marks) for row in rows] if marks else rows


async def rise(connection: AsyncConnection, settlements: Sequence[Settlement]) -> None:
    """Note how far receivers have come with what was delivered; nobody goes back. Their lanes are locked."""
    reached = [
        {
            "lane_id": each.owed.lane_id,
            "order_key": each.owed.order_key,
            "family": family_of(each.reached),
            "place": each.reached,
        }
        for each in sorted(settlements, key=lambda one: (one.owed.lane_id, one.owed.order_key or 0))
        if each.reached is not None
    ]
    if not reached:
        return
    choose = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    new = choose(high_water).values(updated_at=now())
    await connection.execute(
        new.on_conflict_do_update(
            index_elements=[high_water.c.lane_id, high_water.c.order_key, high_water.c.family],
            set_={"place": new.excluded.place, "updated_at": new.excluded.updated_at},
            where=high_water.c.place < new.excluded.place,
        ),
        reached,
    )


def _marked(row: Owed, marks: Mapping[tuple[int, int], bytes]) -> Owed:
    place = None if row.stored is None else place_of(row.stored.event)
    if place is None or row.order_key is None:
        return row
    return replace(row, mark=marks.get((row.order_key, family_of(place))))
