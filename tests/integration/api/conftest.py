"""The API over a database of its own, asked without a socket."""

import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from app.api.app import ApiState, create_app, openapi_document
from app.decode import decode
from app.destinations import KINDS as DESTINATIONS
from app.domain.ids import LaneId
from app.domain.message import Decoded
from app.sources import KINDS as SOURCES
from app.store import keys
from app.store.database import Database
from app.store.migrate import migrate
from app.store.record import SqlEventStore
from app.store.reprocess import Reprocessing
from tests.bed.asgi import AsgiClient


@dataclass(slots=True, kw_only=True)
class Around:
    """The process around the API, and what it was told."""

    is_ready: bool = True
    changes: int = 0
    woken: list[frozenset[LaneId]] = field(default_factory=list)
    decode: Callable[..., Decoded] = decode

    async def readiness(self) -> bool:
        """Say what the test set."""
        return self.is_ready

    def changed(self) -> None:
        """Count."""
        self.changes += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The API under test, with what is around it."""

    ask: AsgiClient
    nobody: AsgiClient
    around: Around
    database: Database
    key: str


@pytest.fixture
def around() -> Around:
    """Give the process around the API."""
    return Around()


@pytest.fixture(scope="session")
def document() -> dict[str, Any]:
    """Give the API's own description, which takes a while to make."""
    described: dict[str, Any] = json.loads(openapi_document())
    return described


@pytest.fixture(scope="session")
async def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("migrated") / "bucketpost.db"
    database = Database(f"sqlite:///{path}")
    await migrate(database)
    await database.aclose()
    return path


@pytest.fixture
async def api(tmp_path: Path, migrated_file: Path, around: Around, document: dict[str, Any]) -> AsyncIterator[Api]:
    """Give the API over SQLite."""
    database = Database(f"sqlite:///{shutil.copy(migrated_file, tmp_path)}")
    yield await _open(database, around, document)
    await database.aclose()


@pytest.fixture
async def api_on_both(database_url: str, around: Around, document: dict[str, Any]) -> AsyncIterator[Api]:
    """Give the API, once over SQLite and once over PostgreSQL."""
    database = Database(database_url)
    await migrate(database)
    yield await _open(database, around, document)
    await database.aclose()


@pytest.fixture
def make_state(around: Around) -> Callable[[Database], ApiState]:
    """Give what makes the state of an API over a database."""
    return lambda database: _state(database, around)


def _state(database: Database, around: Around) -> ApiState:
    return ApiState(
        database=database,
        destination_kinds=DESTINATIONS,
        source_kinds=SOURCES,
        allow_cidrs=(ip_network("127.0.0.0/8"),),
        is_ready=around.readiness,
        reprocessing=Reprocessing(database, SqlEventStore(database), around.decode),
        metrics=lambda: b"bucketpost_events_total 1.0\n",
        changed=around.changed,
        wake=around.woken.append,
    )


async def _open(database: Database, around: Around, document: dict[str, Any]) -> Api:
    async with database.write() as connection:
        _, key = await keys.create(connection, name="test")
    app = create_app(_state(database, around))
    return Api(
        ask=AsgiClient(app, document, key=key),
        nobody=AsgiClient(app, document, key=None),
        around=around,
        database=database,
        key=key,
    )
