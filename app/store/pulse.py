"""How sources fare right now, as each replica measured it; those that went silent count no more."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import ReplicaId, SourceId
from app.domain.message import QueueMeasure
from app.domain.pulse import Pulse
from app.store.columns import now, one_of
from app.store.database import Database
from app.store.outbox_schema import pulse, quarantine

# What a replica measured longer ago says nothing of the present: it is gone, or has nothing to say.
FRESH_SECONDS: Final = 15.0
_ROWS_AT_ONCE: Final = 500
# One queue that tells of more must not keep the others' rows from being written.
_LARGEST: Final = 2**31 - 1
_MEASURED: Final = (
    "seen_at",
    "events_per_second",
    "lag_seconds",
    "queue_depth",
    "queue_in_flight",
    "queue_delayed",
    "oldest_seconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fare:
    """How a source fares beside what its own row says: its pulse over all replicas, and what is in quarantine."""

    pulse: Pulse
    quarantined: int


class SqlPulseStore:
    """The port PulseStore over one database, for one replica."""

    def __init__(self, database: Database, replica: ReplicaId) -> None:
        """Take the database and the id of this process's life."""
        self._database = database
        self._replica = replica

    async def note(self, pulses: Sequence[Pulse]) -> None:
        """Keep what this process measured; see the port."""
        for start in range(0, len(pulses), _ROWS_AT_ONCE):
            async with self._database.write() as connection:
                await note(connection, self._replica, pulses[start : start + _ROWS_AT_ONCE])

    async def leave(self) -> None:
        """Take out what this process measured; see the port."""
        async with self._database.write() as connection:
            await connection.execute(delete(pulse).where(pulse.c.replica_id == self._replica))


async def note(connection: AsyncConnection, replica: ReplicaId, pulses: Collection[Pulse]) -> None:
    """Write down what a replica measured, in the place of what it measured before."""
    if not pulses:
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    added = insert(pulse).values([_values(replica, each) for each in pulses])
    await connection.execute(
        added.on_conflict_do_update(
            index_elements=["source_id", "replica_id"], set_={name: added.excluded[name] for name in _MEASURED}
        )
    )


async def read_fare(connection: AsyncConnection, source_id: SourceId) -> Fare:
    """Tell how one source fares."""
    return (await read_fares(connection, [source_id]))[source_id]


async def read_fares(connection: AsyncConnection, sources: Collection[SourceId]) -> Mapping[SourceId, Fare]:
    """Tell how each of some sources fares, in two statements however many they are."""
    if not sources:
        return {}
    found = await connection.execute(
        select(pulse).where(one_of(connection, pulse.c.source_id, sources), pulse.c.seen_at > now(-FRESH_SECONDS))
    )
    measured: dict[SourceId, list[Row[Any]]] = {each: [] for each in sources}
    for row in found:
        measured[SourceId(row.source_id)].append(row)
    counted = await connection.execute(
        select(quarantine.c.source_id, func.count().label("quarantined"))
        .where(one_of(connection, quarantine.c.source_id, sources))
        .group_by(quarantine.c.source_id)
    )
    quarantined = {SourceId(row.source_id): row.quarantined for row in counted}
    return {each: Fare(pulse=_sum(each, measured[each]), quarantined=quarantined.get(each, 0)) for each in measured}


def _values(replica: ReplicaId, measured: Pulse) -> dict[str, Any]:
    queue = measured.queue
    return {
        "source_id": measured.source_id,
        "replica_id": replica,
        "seen_at": now(),
        "events_per_second": measured.events_per_second,
        "lag_seconds": measured.lag_seconds,
        "queue_depth": None if queue is None else min(queue.depth, _LARGEST),
        "queue_in_flight": None if queue is None else min(queue.in_flight, _LARGEST),
        "queue_delayed": None if queue is None else min(queue.delayed, _LARGEST),
        "oldest_seconds": None if queue is None else queue.oldest_seconds,
    }


def _sum(source_id: SourceId, rows: Sequence[Row[Any]]) -> Pulse:
    """Join what replicas measured: rates add up, the worst lag holds, and all looked at the same queue."""
    return Pulse(
        source_id=source_id,
        events_per_second=sum(row.events_per_second for row in rows),
        lag_seconds=_largest(row.lag_seconds for row in rows),
        queue=_queue([row for row in rows if row.queue_depth is not None]),
    )


def _queue(rows: Sequence[Row[Any]]) -> QueueMeasure | None:
    newest = max(rows, key=lambda row: row.seen_at, default=None)
    if newest is None:
        return None
    return QueueMeasure(
        depth=newest.queue_depth,
        in_flight=newest.queue_in_flight,
        delayed=newest.queue_delayed,
        # Each knows of the messages it received itself.
        oldest_seconds=_largest(row.oldest_seconds for row in rows),
    )


def _largest(values: Any) -> float | None:
    return max((each for each in values if each is not None), default=None)
