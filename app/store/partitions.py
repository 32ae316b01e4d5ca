"""PostgreSQL's day partitions of events and of the history: made ahead, dropped past the retention.

Nothing here makes an ingest wait for long: a day is made apart and then attached, and a drop gives up within a moment.
"""

from datetime import date, timedelta
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.days import DAYS_AHEAD, partition_name, partitions, today

PARENTS: Final = ("event", "attempt")
# Any number will do as long as all replicas use the same one, and the migrations another.
_LOCK_NUMBER: Final = 7_226_911_406


async def make_days(connection: AsyncConnection) -> int:
    """Make the partitions from yesterday to a week ahead that are missing; nothing to do on SQLite.

    Replicas that do so at once wait for one another. Gives how many were made.
    """
    if connection.dialect.name != "postgresql" or not await _missing(connection):
        return 0
    await connection.execute(text("SET LOCAL lock_timeout = '3s'"))
    await connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
    missing = await _missing(connection)
    for parent, day in missing:
        await _make(connection, parent, day)
    return len(missing)


async def drop_day(connection: AsyncConnection, parent: str, day: date) -> None:
    """Drop a day; waits only a moment for whoever reads it, since every ingest waits behind."""
    await connection.execute(text("SET LOCAL lock_timeout = '300ms'"))
    await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {partition_name(parent, day)}")


async def _missing(connection: AsyncConnection) -> list[tuple[str, date]]:
    current = await today(connection)
    wanted = [current + timedelta(days=offset) for offset in range(-1, DAYS_AHEAD + 1)]
    missing = []
    for parent in PARENTS:
        there = await partitions(connection, parent)
        missing += [(parent, day) for day in wanted if day not in there]
    return missing


async def _make(connection: AsyncConnection, parent: str, day: date) -> None:
    # CREATE TABLE … PARTITION OF would lock the parent against every reader and writer; ATTACH does not.
    name = partition_name(parent, day)
    await connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING STORAGE)")
    await connection.exec_driver_sql(
        f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    )
