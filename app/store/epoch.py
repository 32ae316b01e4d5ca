"""The number of the newest change of endpoints, subscriptions and sources: one row, and the lock that orders changes.

Every change bumps it before it does anything else: what the change reads afterwards holds until it commits.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.columns import now
from app.store.schema import configuration_epoch

_THE_ROW: Final = 1


async def read_epoch(connection: AsyncConnection) -> int:
    """Give the number of the newest change this transaction sees."""
    statement = select(configuration_epoch.c.epoch).where(configuration_epoch.c.id == _THE_ROW)
    epoch: int = (await connection.execute(statement)).scalar_one()
    return epoch


async def bump_epoch(connection: AsyncConnection) -> datetime:
    """Count a change and wait for those under way; gives the moment of the change, later than every one before it."""
    statement = (
        update(configuration_epoch)
        .where(configuration_epoch.c.id == _THE_ROW)
        .values(epoch=configuration_epoch.c.epoch + 1)
        .returning(now())
    )
    moment: datetime = (await connection.execute(statement)).scalar_one()
    return moment


async def lock_changes(connection: AsyncConnection) -> None:
    """Make other changes wait until this transaction ends: for one that must read before it knows what to write."""
    # SQLite leaves FOR UPDATE out; its write transactions take turns anyway.
    await connection.execute(select(configuration_epoch.c.epoch).with_for_update())
