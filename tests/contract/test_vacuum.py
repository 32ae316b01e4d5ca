"""What keeps PostgreSQL from cleaning up behind the outbox is measured, and said once when it is too old."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.store.vacuum import VacuumWatch
from app.telemetry import OLDEST_TRANSACTION_SECONDS, SNAPSHOT_AGE
from tests.bed.stored import Stored


@pytest.fixture
async def reader(copied_postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Hold a snapshot in a session of somebody else's, who has gone to lunch."""
    connection = await asyncpg.connect(copied_postgres_url, timeout=10, server_settings={"application_name": "lunch"})
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await connection.execute("SELECT count(*) FROM delivery")
    yield connection
    await connection.close(timeout=10)


async def test_a_held_snapshot_is_said_once_and_its_end_too(
    stored_on_postgres: Stored, reader: asyncpg.Connection
) -> None:
    """The line names the session; looking again repeats nothing."""
    watch = VacuumWatch(stored_on_postgres.database, held_seconds=0)

    with capture_logs() as lines:
        await watch.look()
        await watch.look()
        await reader.execute("COMMIT")
        await watch.look()

    assert [each["event"] for each in lines] == ["database.vacuum_held", "database.vacuum_freed"]
    assert lines[0]["application"] == "lunch"
    assert lines[0]["name"] == str(reader.get_server_pid())


async def test_what_is_held_is_measured(stored_on_postgres: Stored, reader: asyncpg.Connection) -> None:
    """In seconds and in transactions; a young hold is worth no line."""
    await stored_on_postgres.add_subscribed()
    watch = VacuumWatch(stored_on_postgres.database)

    with capture_logs() as lines:
        await watch.look()
        measured = OLDEST_TRANSACTION_SECONDS._value.get(), SNAPSHOT_AGE._value.get()
        await reader.execute("COMMIT")
        await watch.look()

    assert lines == []
    assert measured[0] > 0
    assert measured[1] > 0
    assert OLDEST_TRANSACTION_SECONDS._value.get() == 0
