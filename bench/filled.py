"""A PostgreSQL with a backlog, for measurements: endpoints, lanes and any number of owed deliveries, put there by SQL.

fsync is on. Ten deliveries an event. On nine lanes of ten a lane's deliveries stand in bursts of ten, as a busy
producer writes them; on the tenth each stands alone among those of others.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from app.store.database import Database
from app.store.migrate import migrate
from app.store.partitions import make_days
from tests.bed.postgres import EmbeddedPostgres

SHARED_BUFFERS: Final = "512MB"
SETTINGS: Final = {"shared_buffers": SHARED_BUFFERS, "max_wal_size": "4GB", "maintenance_work_mem": "256MB"}
_CHUNK: Final = 500_000

_ENDPOINTS: Final = """
WITH made AS (
    INSERT INTO endpoint (id, tenant_id, name, kind, config, secret, ordering, on_dead, reorder_window_seconds, late,
        timeout_seconds, max_in_flight, schedule_seconds, max_age_seconds, answers, is_paused, created_at, updated_at)
    SELECT decode(lpad(to_hex(n), 32, '0'), 'hex'), 1, 'bench', 'webhook', json_build_object('url', $2::text || n),
        convert_to('a secret of thirty-two bytes....', 'UTF8'), 'none', 'skip', 0, 'deliver', 15, 8,
        '[5, 300, 1800]', 432000, '{}', false, now(), now()
    FROM generate_series(1, $1::integer) AS n RETURNING id
), subscribed AS (
    INSERT INTO subscription (id, tenant_id, name, endpoint_id, filter, format, hears_gateway, created_at,
        updated_at)
    SELECT id, 1, 'bench', id, '{"buckets": ["bench"], "events": [], "key_prefix": "", "key_suffix": ""}', 'standard',
        false, now(), now() FROM made
)
INSERT INTO lane (id, tenant_id, endpoint_id, fence, lease_until, wake_at, last_served, is_stopped, breaker_until,
    low_due, low_due_id, low_id, next_low_id, next_low_xid, failures, latency_seconds)
SELECT row_number() OVER (ORDER BY id), 1, id, 0, now(), now(), now(), false, now(), 'epoch', 0, 0, 0, 0, 0, 0
FROM made
"""
_EVENTS: Final = """
INSERT INTO event (tenant_id, id, event_day, recorded_at, type, change, bucket, key, received_key, size, time, dialect,
    record)
SELECT 1, decode(lpad(to_hex(n), 32, '0'), 'hex'), (now() AT TIME ZONE 'UTC')::date, now(), 's3:ObjectCreated:Put',
    'created', 'bench', convert_to('photos/' || n, 'UTF8'), 'photos/' || n, 1024, now(), 'aws',
    convert_to('{"eventVersion":"2.1","n":' || n || ',"x":"' || repeat('x', 500) || '"}', 'UTF8')
FROM generate_series($1::bigint, $2::bigint) AS n
"""
_DELIVERIES: Final = """
INSERT INTO delivery (tenant_id, lane_id, delivery_key, endpoint_id, subscription_id, event_day, event_id, tries,
    failures, blocks, due_at, owed_at, created_at)
SELECT 1, lane, decode(lpad(to_hex(n), 32, '0'), 'hex'), decode(lpad(to_hex(lane), 32, '0'), 'hex'),
    decode(lpad(to_hex(lane), 32, '0'), 'hex'), (now() AT TIME ZONE 'UTC')::date,
    decode(lpad(to_hex(n / 10), 32, '0'), 'hex'), 0, 0, false,
    at.due + n * interval '100 microseconds', at.due, at.due
FROM generate_series($1::bigint, $2::bigint) AS n,
    LATERAL (SELECT $4::bigint AS low, greatest(1, $4::bigint / 10) AS alone) AS lanes,
    LATERAL (SELECT CASE
        WHEN $3::bigint > 0 THEN $3::bigint
        WHEN n / 10 % 10 = 9 THEN low - alone + 1 + (n / 100 * 10 + n % 10) % alone
        ELSE 1 + (n / 10 - n / 100) % (low - alone) END AS lane) AS its,
    LATERAL (SELECT now() - interval '1 hour' AS due) AS at
"""


@asynccontextmanager
async def filled(
    *, rows: int, lanes: int, deep: int = 0, url: str = "https://example.com/"
) -> AsyncIterator[tuple[str, int]]:
    """Start it, owe so many deliveries over so many lanes and `deep` more on one lane more; gives its URL and process.

    The endpoints' URLs begin with `url`.
    """
    postgres = EmbeddedPostgres(settings=SETTINGS)
    await postgres.start()
    try:
        address = await postgres.databases.create()
        database = Database(address, command_seconds=None)
        await migrate(database)
        await database.write_again(make_days)
        await database.aclose()
        connection = await asyncpg.connect(address)
        await _fill(connection, rows=rows, lanes=lanes, deep=deep, url=url)
        await connection.close()
        yield address, postgres.process.pid
    finally:
        await postgres.close()


async def _fill(connection: asyncpg.Connection, *, rows: int, lanes: int, deep: int, url: str) -> None:
    await connection.execute("SET synchronous_commit = off")
    await connection.execute(_ENDPOINTS, lanes + 1, url)
    indexes = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'delivery' AND indexname LIKE 'ix%'"
    )
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['indexname']}")
    total = rows + deep
    for first in range(1, total // 10 + 2, _CHUNK):
        await connection.execute(_EVENTS, first - 1, min(first + _CHUNK - 2, total // 10))
    for first in range(0, rows, _CHUNK):
        await connection.execute(_DELIVERIES, first, min(first + _CHUNK, rows) - 1, 0, lanes)
    if deep:
        await connection.execute(_DELIVERIES, rows, total - 1, lanes + 1, lanes)
    for index in indexes:
        await connection.execute(index["indexdef"])
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
