"""The store's two databases, migrated, for the suites that run once over each."""

from collections.abc import AsyncIterator

import pytest

from app.store.database import Database
from app.store.migrate import migrate
from app.store.partitions import make_days
from tests.bed.postgres import Databases
from tests.bed.stored import Stored


@pytest.fixture(scope="session")
async def migrated_postgres_url(postgres: Databases) -> str:
    """Migrate one PostgreSQL database, from which the others are copied."""
    url = await postgres.create()
    await _prepare(url)
    return url


@pytest.fixture
async def copied_postgres_url(postgres: Databases, migrated_postgres_url: str) -> AsyncIterator[str]:
    """Copy the migrated database for this test alone."""
    url = await postgres.create(template=migrated_postgres_url)
    yield url
    await postgres.drop(url)


@pytest.fixture
async def migrated_sqlite_url(sqlite_url: str) -> str:
    """Migrate a SQLite file for this test alone."""
    await _prepare(sqlite_url)
    return sqlite_url


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """Give a migrated database for this test alone; the test runs once on SQLite and once on PostgreSQL."""
    name = "migrated_sqlite_url" if request.param == "sqlite" else "copied_postgres_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
async def stored(migrated_url: str) -> AsyncIterator[Stored]:
    """Open a migrated database."""
    database = Database(migrated_url)
    yield Stored(database)
    await database.aclose()


@pytest.fixture
async def stored_on_postgres(copied_postgres_url: str) -> AsyncIterator[Stored]:
    """Open a migrated PostgreSQL database."""
    database = Database(copied_postgres_url)
    yield Stored(database)
    await database.aclose()


@pytest.fixture
async def stored_on_sqlite(migrated_sqlite_url: str) -> AsyncIterator[Stored]:
    """Open a migrated SQLite database."""
    database = Database(migrated_sqlite_url)
    yield Stored(database)
    await database.aclose()


async def _prepare(url: str) -> None:
    database = Database(url)
    try:
        await migrate(database)
        await database.write_again(make_days)
    finally:
        await database.aclose()
