"""What the database's failures become: the data's fault is refused, everything else is unavailable."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import StoreRefused, StoreUnavailable
from app.settings import DeliverySettings
from app.store.database import Database, sqlstate
from app.store.migrate import migrate
from app.store.partitions import make_days
from tests.bed.postgres import EmbeddedPostgres
from tests.bed.stored import Stored, heard, make_event


@pytest.fixture
async def fragile(own_postgres: EmbeddedPostgres) -> AsyncIterator[Stored]:
    """Open a migrated database in a server that the test may stop."""
    database = Database(own_postgres.url)
    await migrate(database)
    await database.write_again(make_days)
    yield Stored(database)
    await database.aclose()


async def test_a_stopped_server_is_unavailable_and_the_pool_recovers(
    own_postgres: EmbeddedPostgres, fragile: Stored
) -> None:
    """While it is down every call says so; after it is back the same pool serves, with nothing lost."""
    await fragile.add_subscribed()
    outbox = fragile.outbox()
    await asyncio.gather(*(fragile.store.record([heard(make_event(number))]) for number in range(5)))

    await own_postgres.stop("immediate")
    for call in (fragile.store.record([heard(make_event(9))]), outbox.survey(), outbox.lease(1), outbox.sweep()):
        with pytest.raises(StoreUnavailable):
            await call
    await own_postgres.start()
    calls = (fragile.store.record([heard(make_event(number))]) for number in range(20))
    first = await asyncio.gather(*calls, return_exceptions=True)
    second = await fragile.store.record([heard(make_event(number)) for number in range(20)])

    assert all(not isinstance(each, BaseException) or isinstance(each, StoreUnavailable) for each in first)
    assert second.events + second.duplicates == 20
    assert await fragile.count("delivery") == 20


async def test_a_connection_the_server_ends_is_unavailable(fragile: Stored) -> None:
    """A session ended by an operator, or by a shutdown, may be tried again; the next call goes through."""
    with pytest.raises(StoreUnavailable):
        async with fragile.database.write() as connection:
            await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    assert (await fragile.store.record([heard(make_event(1))])).events == 1


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
async def test_commits_reach_the_disk_whatever_the_default(stored_on_postgres: Stored, default: str, used: str) -> None:
    """A default that acknowledges before the disk has it is overridden; the others are the operator's choice."""
    name = await stored_on_postgres.scalar(text("SELECT current_database()"))
    await stored_on_postgres.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = {default}'))
    await stored_on_postgres.database.aclose()

    assert await stored_on_postgres.scalar(text("SHOW synchronous_commit")) == used


async def test_the_server_itself_ends_what_takes_too_long(stored_on_postgres: Stored) -> None:
    """Also when the driver cannot: its request to cancel goes by the network that hangs."""
    async with stored_on_postgres.database.session() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None

        with pytest.raises(asyncpg.QueryCanceledError):
            await driver.execute("SELECT pg_sleep(30)", timeout=60)


async def test_a_silent_transaction_is_ended_before_its_leases(stored_on_postgres: Stored) -> None:
    """A replica cut off within a transaction holds the locks of its lanes for no longer than the lanes."""
    limit = await stored_on_postgres.scalar(
        text("SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'")
    )

    assert 0 < limit / 1000 < DeliverySettings().lease_seconds


@pytest.mark.parametrize("kind", ["read", "write"])
async def test_sqlite_waits_for_the_disk(stored_on_sqlite: Stored, kind: str) -> None:
    """Every connection syncs at each commit: `synchronous` is FULL (2), with a write-ahead log."""
    async with getattr(stored_on_sqlite.database, kind)() as connection:
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one() == 2
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one() == "wal"


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("SELECT 1/0", "22012"),
        ("SELECT 'x'::int", "22P02"),
        ("INSERT INTO tenant SELECT * FROM tenant", "23505"),
    ],
)
async def test_the_datas_fault_is_refused(stored_on_postgres: Stored, statement: str, state: str) -> None:
    """Errors of PostgreSQL's data and integrity classes will not go away by trying again."""
    with pytest.raises(StoreRefused) as raised:
        await stored_on_postgres.execute(text(statement))

    assert sqlstate(raised.value) == state


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM nowhere",
        "SET LOCAL statement_timeout = '1ms'; SELECT pg_sleep(1)",
        "SET LOCAL transaction_read_only = on; DELETE FROM tenant",
    ],
    ids=["no table", "too slow", "read only"],
)
async def test_the_servers_fault_is_unavailable(stored_on_postgres: Stored, statement: str) -> None:
    """A table that is away, a time-out, a standby: the data may be fine, so nothing goes to the quarantine for it."""

    async def work(connection: AsyncConnection) -> None:
        for each in statement.split("; "):
            await connection.execute(text(each))

    with pytest.raises(StoreUnavailable):
        await stored_on_postgres.database.write_again(work)


async def test_a_deadlock_runs_the_work_again(stored_on_postgres: Stored) -> None:
    """Two that lock the same rows in opposite order both come through."""
    await stored_on_postgres.execute(text("CREATE TABLE pair AS SELECT n, 0 AS turns FROM generate_series(1, 2) n"))
    both_hold = asyncio.Barrier(2)
    tries = 0

    async def turn(first: int, second: int) -> None:
        async def work(connection: AsyncConnection) -> None:
            nonlocal tries
            tries += 1
            await connection.execute(text("UPDATE pair SET turns = turns + 1 WHERE n = :n"), {"n": first})
            if tries <= 2:
                await both_hold.wait()
            await connection.execute(text("UPDATE pair SET turns = turns + 1 WHERE n = :n"), {"n": second})

        await stored_on_postgres.database.write_again(work)

    await asyncio.gather(turn(1, 2), turn(2, 1))

    assert tries == 3
    assert await stored_on_postgres.scalar(text("SELECT sum(turns) FROM pair")) == 4


async def test_a_text_that_is_no_unicode_is_refused(stored: Stored) -> None:
    """Both drivers say so before anything is sent."""
    with pytest.raises(StoreRefused):
        await stored.execute(text("SELECT :x").bindparams(x="\ud800"))
