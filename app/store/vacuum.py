"""Whether PostgreSQL can clean up behind the outbox: what keeps it from that, since when, and how much lies about.

A row of the outbox dies soon after it was made. As long as anybody may still see the dead, no vacuum removes them, and
every look at the outbox steps over them. Only people can end what holds them; here it is measured and said.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import Row, text

from app.domain.errors import StoreError
from app.store.database import Database
from app.telemetry import DEAD_ROWS, OLDEST_TRANSACTION_SECONDS, SNAPSHOT_AGE

LOOK_SECONDS: Final = 15.0
# Transactions of the gateway last for moments. A slot has no age in time, so it is judged by what came after it.
HELD_SECONDS: Final = 60.0
HELD_TRANSACTIONS: Final = 100_000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What keeps dead rows from going: a session, a prepared transaction or a replication slot."""

    kind: str
    name: str
    application: str | None
    seconds: float | None
    transactions: int


class VacuumWatch:
    """Looks now and then; every replica has one, so that each one's metrics are right."""

    def __init__(
        self, database: Database, *, held_seconds: float = HELD_SECONDS, held_transactions: int = HELD_TRANSACTIONS
    ) -> None:
        """Take the database, and from which age on a hold is worth a line."""
        self._database = database
        self._held_seconds = held_seconds
        self._held_transactions = held_transactions
        self._is_held = False

    async def run(self, stop: asyncio.Event) -> None:
        """Look until stopped. Nothing to look at on SQLite."""
        while self._database.dialect == "postgresql" and not stop.is_set():
            try:
                await self.look()
            except StoreError as error:
                _log.debug("database.unseen", error=str(error))
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("database.unseen")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await stop.wait()

    async def look(self) -> None:
        """Measure, and say when a hold begins that is too old, and when the last of those has ended."""
        async with self._database.read() as connection:
            holds = [_hold(row) for row in await connection.execute(_HOLDS)]
            dead = (await connection.execute(_DEAD)).scalar_one_or_none() or 0
        OLDEST_TRANSACTION_SECONDS.set(max((each.seconds or 0.0 for each in holds), default=0.0))
        SNAPSHOT_AGE.set(max((each.transactions for each in holds), default=0))
        DEAD_ROWS.set(dead)
        too_old = [each for each in holds if self._is_too_old(each)]
        if too_old and not self._is_held:
            worst = max(too_old, key=lambda each: each.transactions)
            _log.warning(
                "database.vacuum_held",
                by=worst.kind,
                name=worst.name,
                application=worst.application,
                seconds=None if worst.seconds is None else round(worst.seconds),
                transactions=worst.transactions,
                dead_rows=dead,
                advice="The outbox gets slower until it ends: end the session, or drop the slot.",
            )
        elif self._is_held and not too_old:
            _log.info("database.vacuum_freed", dead_rows=dead)
        self._is_held = bool(too_old)

    def _is_too_old(self, hold: Hold) -> bool:
        return (hold.seconds or 0.0) >= self._held_seconds or hold.transactions >= self._held_transactions


def _hold(row: Row[*tuple[object, ...]]) -> Hold:
    return Hold(
        kind=row.kind,
        name=row.name,
        application=row.application,
        seconds=row.seconds,
        transactions=row.transactions,
    )


# A slot's catalog_xmin, all that a logical one has, keeps rows of the catalogs only.
# Another role's sessions show no start to one that may not read all statistics, but their snapshot all the same.
_HOLDS: Final = text("""
SELECT 'session' AS kind, pid::text AS name, application_name AS application,
    extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds,
    greatest(age(backend_xmin), age(backend_xid)) AS transactions
FROM pg_stat_activity
WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) AND pid <> pg_backend_pid()
    AND (datname = current_database() OR backend_type = 'walsender')
    AND backend_type <> 'autovacuum worker' AND pid NOT IN (SELECT pid FROM pg_stat_progress_vacuum)
UNION ALL
SELECT 'prepared transaction', gid, owner, extract(epoch FROM clock_timestamp() - prepared)::float8, age(transaction)
FROM pg_prepared_xacts WHERE database = current_database()
UNION ALL
SELECT 'replication slot', slot_name, plugin, NULL, age(xmin)
FROM pg_replication_slots WHERE xmin IS NOT NULL
""")
_DEAD: Final = text("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'delivery'::regclass")
