"""The revisions build exactly the tables of the store's metadata, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from app.domain.errors import StartError
from app.store.database import Database
from app.store.migrate import migrate, migrations_directory, prepare
from app.store.partitions import PARENTS
from app.store.schema import REVISION, metadata


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Open an empty database."""
    opened = Database(database_url)
    yield opened
    await opened.aclose()


def test_the_store_names_the_newest_revision() -> None:
    """`serve` compares with a name in the code, so that it need not load alembic."""
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()))

    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


async def test_the_revisions_build_the_metadata(database: Database) -> None:
    """Nothing is missing, left over or of another type."""
    assert await migrate(database)

    async with database.read() as connection:
        assert await connection.run_sync(_differences) == []


async def test_migrating_again_changes_nothing(database: Database) -> None:
    """A second call finds nothing to do."""
    assert await migrate(database)
    assert not await migrate(database)


async def test_concurrent_migrations_wait_for_each_other(database: Database, database_url: str) -> None:
    """Of several at once one applies, and all succeed."""
    others = [Database(database_url) for _ in range(2)]

    applied = await asyncio.gather(*(migrate(each) for each in (database, *others)))

    for each in others:
        await each.aclose()
    assert sorted(applied) == [False, False, True]


async def test_an_empty_database_is_made_ready_at_the_start(database: Database) -> None:
    """Replicas that start at once on an empty database all find it ready."""
    await asyncio.gather(prepare(database), prepare(database))

    assert not await migrate(database)


async def test_a_newer_schema_stops_the_start(database: Database) -> None:
    """A database that a later version made is named as such."""
    await migrate(database)
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StartError, match="too new"):
        await prepare(database)


async def test_there_is_no_way_to_an_unknown_revision(database: Database) -> None:
    """Neither forward nor back, and the revisions there are are named."""
    await migrate(database)

    for wanted in ("0000", "base", "9999"):
        with pytest.raises(StartError, match=f"no revision {wanted}.*{REVISION}"):
            await migrate(database, to=wanted)


def _differences(connection: Connection) -> list[Any]:
    def belongs(_object: object, name: str | None, kind: str, *_: object) -> bool:
        return not (kind == "table" and name is not None and name.startswith(tuple(f"{each}_" for each in PARENTS)))

    context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": belongs})
    found: list[Any] = compare_metadata(context, metadata)
    return found
