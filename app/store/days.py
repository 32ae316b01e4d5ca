"""Which days of their own events may be filed under: known here, made and dropped by upkeep.py.

An event whose day is not among them is filed under the sentinel day, which is pruned by arrival.
"""

import time
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.columns import now

SENTINEL: Final = date(1, 1, 1)
DAYS_AHEAD: Final = 7
_KNOWN_SECONDS: Final = 600.0

_PARTITIONS: Final = text(
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass(:parent)"
)


class EventDays:
    """The days an event may be filed under, remembered for a while and read again when one is missing."""

    def __init__(self, retention_days: int) -> None:
        self._retention_days = retention_days
        self._known: frozenset[date] = frozenset()
        self._read_at = float("-inf")

    def forget(self) -> None:
        """Read them again next time: a partition turned out to be gone."""
        self._read_at = float("-inf")

    async def file_under(self, connection: AsyncConnection, days: Iterable[date]) -> dict[date, date]:
        """Tell for each day the one to file under: itself or the sentinel."""
        wanted = set(days)
        if not wanted <= self._known or time.monotonic() - self._read_at > _KNOWN_SECONDS:
            self._known = await _read(connection, self._retention_days)
            self._read_at = time.monotonic()
        return {day: day if day in self._known else SENTINEL for day in wanted}


async def today(connection: AsyncConnection) -> date:
    """Give the day by the database's clock, in UTC."""
    moment: datetime = (await connection.execute(select(now()))).scalar_one()
    return moment.date()


async def partitions(connection: AsyncConnection, parent: str) -> dict[date, str]:
    """Give the day partitions of a table that exist, by day; PostgreSQL only."""
    names = (await connection.execute(_PARTITIONS, {"parent": parent})).scalars()
    return {day: name for name in names if (day := _day_of(name, parent)) is not None}


def partition_name(parent: str, day: date) -> str:
    """Give the name of a day's partition."""
    return f"{parent}_{day:%Y%m%d}"


async def _read(connection: AsyncConnection, retention_days: int) -> frozenset[date]:
    # Days past the retention still have a partition for a day: nothing is filed there while upkeep looks and drops.
    current = await today(connection)
    window = {current + timedelta(days=offset) for offset in range(-retention_days, DAYS_AHEAD + 1)}
    if connection.dialect.name == "postgresql":
        return frozenset(window & set(await partitions(connection, "event")))
    return frozenset(window)


def _day_of(name: str, parent: str) -> date | None:
    digits = name.removeprefix(f"{parent}_")
    if len(digits) != len("20261231") or not digits.isdigit():
        return None
    try:
        return datetime.strptime(digits, "%Y%m%d").date()  # noqa: DTZ007 -- a day has no zone
    except ValueError:
        return None
