"""Whether a transaction that began before a moment may still commit: nobody sees yet what it wrote."""

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.store.columns import Instant, now

# No transaction of ours takes as long as this.
LONGEST_TRANSACTION_SECONDS: Final = 60.0

# A session that shows nothing may be anything: another role's to one that may not read all statistics, or one that
# tracks no activities.
_OLDER: Final = text("""
SELECT 1 FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND coalesce(backend_type, 'client backend') = 'client backend'
    AND (coalesce(state, 'disabled') = 'disabled' OR xact_start <= :moment)
LIMIT 1
""").bindparams(bindparam("moment", type_=Instant()))


async def may_commit(connection: AsyncConnection, *, begun_before: datetime) -> bool:
    """Tell whether a transaction of ours from before a moment may still be going on: none takes a minute.

    SQLite has one writer, who is the caller.
    """
    if connection.dialect.name != "postgresql":
        return False
    is_over = (await connection.execute(select(now(-LONGEST_TRANSACTION_SECONDS) > begun_before))).scalar_one()
    return not is_over and (await connection.execute(_OLDER, {"moment": begun_before})).first() is not None
