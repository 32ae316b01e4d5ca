"""Work that one replica at a time does: who may do it now, and when it is due again."""

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import ReplicaId
from app.store.columns import now
from app.store.database import Database
from app.store.outbox_schema import chore


async def claim(
    database: Database, name: str, replica: ReplicaId, *, lease_seconds: float, pause_seconds: float
) -> bool:
    """Take a chore that is due and nobody has, for as long as the lease; it is due again after the pause.

    Looks before it writes, so that most calls cost one read.
    """
    async with database.read() as connection:
        if not await _is_free(connection, name, replica):
            return False
    async with database.write() as connection:
        taken = await connection.execute(
            update(chore)
            .where(chore.c.name == name, *_free(replica))
            .values(owner=replica, lease_until=now(lease_seconds), due_at=now(pause_seconds))
        )
        return taken.rowcount == 1


async def finish(connection: AsyncConnection, name: str, replica: ReplicaId) -> None:
    """Give a chore back before its lease ends."""
    await connection.execute(
        update(chore).where(chore.c.name == name, chore.c.owner == replica).values(owner=None, lease_until=now())
    )


async def _is_free(connection: AsyncConnection, name: str, replica: ReplicaId) -> bool:
    found = await connection.execute(select(chore.c.name).where(chore.c.name == name, *_free(replica)))
    return found.first() is not None


def _free(replica: ReplicaId) -> tuple[ColumnElement[bool], ...]:
    return chore.c.due_at <= now(), or_(chore.c.lease_until <= now(), chore.c.owner == replica)
