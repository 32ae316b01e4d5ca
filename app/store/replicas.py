"""Which replicas live, by the sign of life each leaves now and then."""

from sqlalchemy import ScalarSelect, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import ReplicaId
from app.store.columns import now
from app.store.outbox_schema import replica as replica_table


async def note_life(connection: AsyncConnection, replica: ReplicaId) -> None:
    """Say that a replica lives now; one that had been forgotten is known again."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    added = insert(replica_table).values(id=replica, started_at=now(), seen_at=now())
    await connection.execute(added.on_conflict_do_update(index_elements=["id"], set_={"seen_at": now()}))


async def forget(connection: AsyncConnection, replica: ReplicaId) -> None:
    """Take a replica out: it is gone."""
    await connection.execute(delete(replica_table).where(replica_table.c.id == replica))


async def forget_dead(connection: AsyncConnection, *, silent_seconds: float) -> None:
    """Take out those that have been silent for so long that nobody counts them any more."""
    is_silent = replica_table.c.seen_at <= now(-silent_seconds)
    if (await connection.execute(select(replica_table.c.id).where(is_silent).limit(1))).first() is not None:
        await connection.execute(delete(replica_table).where(is_silent))


def count_live(silent_seconds: float, *, before: ReplicaId | None = None) -> ScalarSelect[int]:
    """Count those that gave a sign of life within a span, or those of them whose ids come before one's own."""
    live = select(func.count()).select_from(replica_table).where(replica_table.c.seen_at > now(-silent_seconds))
    if before is not None:
        live = live.where(replica_table.c.id < before)
    return live.scalar_subquery()
