"""The API over a database of its own, asked without a socket."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from app.api.app import ApiState, create_app
from app.destinations import KINDS as DESTINATIONS
from app.domain.ids import LaneId
from app.sources import KINDS as SOURCES
from app.store import keys
from app.store.database import Database
from app.store.migrate import migrate
from tests.bed.asgi import AsgiClient


@dataclass(slots=True, kw_only=True)
class Around:
    """The process around the API, and what it was told."""

    is_ready: bool = True
    changes: int = 0
    woken: list[frozenset[LaneId]] = field(default_factory=list)

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


@pytest.fixture
async def api(sqlite_url: str, around: Around) -> AsyncIterator[Api]:
    """Give the API over SQLite."""
    async for each in _open(sqlite_url, around):
        yield each


@pytest.fixture
async def api_on_both(database_url: str, around: Around) -> AsyncIterator[Api]:
    """Give the API, once over SQLite and once over PostgreSQL."""
    async for each in _open(database_url, around):
        yield each


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
        metrics=lambda: b"bucketpost_events_total 1.0\n",
        changed=around.changed,
        wake=around.woken.append,
    )


async def _open(url: str, around: Around) -> AsyncIterator[Api]:
    database = Database(url)
    await migrate(database)
    async with database.write() as connection:
        _, key = await keys.create(connection, name="test")
    app = create_app(_state(database, around))
    document = app.openapi()
    yield Api(
        ask=AsgiClient(app, document, key=key),
        nobody=AsgiClient(app, document, key=None),
        around=around,
        database=database,
        key=key,
    )
    await database.aclose()
