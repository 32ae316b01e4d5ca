"""What pushes meet: the real API behind uvicorn and the real left half over a real database, and raw requests to it."""

import asyncio
import contextlib
import hashlib
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import uvicorn
from sqlalchemy import func, select, update

from app import destinations, sources
from app.api.app import create_app
from app.api.state import ApiState
from app.decode import decode
from app.domain.configuration import Source
from app.domain.ids import DEFAULT_TENANT, SourceId, public_id
from app.domain.message import Heard, Recorded, Road
from app.domain.ports import PushSource
from app.ingest.intake import MAX_BYTES, Intake
from app.ingest.push import Pushes, PushSurroundings
from app.ingest.recognition import RoadOf
from app.ingest.recorder import Recorder
from app.ingest.room import Room
from app.store.configuration import SqlConfigurationStore
from app.store.database import Database
from app.store.outbox_schema import event, quarantine
from app.store.record import SqlEventStore
from app.store.reprocess import Reprocessing
from app.store.schema import source
from app.store.sources import NewSource, create
from app.store.watch import ConfigurationWatch
from tests.bed.clocks import machine_time


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSourceMade:
    """A source that pushes, and its token."""

    id: SourceId
    path: str
    token: str

    @property
    def bearer(self) -> str:
        """The line of the header that MinIO sends."""
        return f"Authorization: Bearer {self.token}\r\n"


async def add_push_source(
    database: Database, *, kind: str = "http", config: dict[str, Any] | None = None
) -> PushSourceMade:
    """Write a source down as the API does."""
    token = secrets.token_urlsafe(32)
    async with database.write() as connection:
        new = NewSource(name="pushing", kind=kind, config={} if config is None else config)
        made = await create(connection, DEFAULT_TENANT, new)
        digest = hashlib.sha256(token.encode()).digest()
        await connection.execute(update(source).where(source.c.id == made.id).values(token_hash=digest))
    road = {"http": "s3", "sns": "sns"}[kind]
    return PushSourceMade(id=made.id, path=f"/v1/ingest/{road}/{public_id('src', made.id)}", token=token)


class Gate:
    """The real EventStore, which commits when the test lets it."""

    def __init__(self, store: SqlEventStore) -> None:
        self._store = store
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.asked = asyncio.Event()
        self.batches: list[int] = []
        self.note_source = store.note_source

    async def record(self, batch: Sequence[Heard]) -> Recorded:
        """Record when allowed."""
        self.asked.set()
        await self.may_commit.wait()
        recorded = await self._store.record(batch)
        self.batches.append(len(batch))
        return recorded


class PushBed:
    """One process's worth of the gateway that takes pushes, in this process."""

    def __init__(self, database: Database, *, road_of: RoadOf | None = None) -> None:
        self.database = database
        self.gate = Gate(SqlEventStore(database))
        self.watch = ConfigurationWatch(SqlConfigurationStore(database))
        self.stop = asyncio.Event()
        self.port = 0
        self.recorder = Recorder(store=self.gate, decode=decode, wake=lambda _: None)
        room = Room(max_messages=1000, max_bytes=MAX_BYTES)
        self.pushes = Pushes(
            PushSurroundings(
                road_of=road_of or _road_of,
                open_push=_open_push,
                record=self.recorder.record,
                note=self.gate.note_source,
                room=room,
                configuration=self.watch.current,
                refresh=self.watch.refresh,
            )
        )
        self.intake = Intake(
            open_source=_never_polled,
            recorder=self.recorder,
            store=self.gate,
            configuration=self.watch.current,
            room=room,
            pushes=self.pushes,
            is_polled=lambda _: False,
        )

    def state(self, *, pushes: Pushes | None) -> ApiState:
        """Make the state of an API."""
        return ApiState(
            database=self.database,
            destination_kinds=destinations.KINDS,
            source_kinds=sources.KINDS,
            allow_cidrs=(),
            is_ready=_yes,
            metrics=lambda: b"",
            changed=self.watch.hint,
            wake=lambda _: None,
            pushes=pushes,
            reprocessing=Reprocessing(self.database, SqlEventStore(self.database), decode),
        )

    @contextlib.asynccontextmanager
    async def serving(self, *, takes_pushes: bool = True) -> AsyncIterator[None]:
        """Serve on a free port."""
        await self.watch.refresh()
        running = asyncio.create_task(self.intake.run(self.stop))
        config = uvicorn.Config(
            create_app(self.state(pushes=self.pushes if takes_pushes else None)),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield
            finally:
                self.gate.may_commit.set()
                self.stop.set()
                await running
                server.should_exit = True
                await serving

    async def events(self) -> int:
        """Count what was recorded."""
        async with self.database.read() as connection:
            return int((await connection.execute(select(func.count()).select_from(event))).scalar_one())

    async def quarantined(self) -> list[bytes]:
        """Give what is in the quarantine."""
        async with self.database.read() as connection:
            return list((await connection.execute(select(quarantine.c.raw))).scalars())

    async def is_ok(self, source_id: SourceId) -> bool:
        """Tell whether a source fares well."""
        async with self.database.read() as connection:
            found = await connection.execute(select(source.c.state).where(source.c.id == source_id))
            return bool(found.scalar_one() == "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """One answer as it came; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """One connection, on which bytes are sent as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator["RawClient"]:
        """Connect, and close in the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = cls(reader, writer)
        try:
            yield client
        finally:
            await client.close()

    async def send(self, text: str, body: bytes = b"") -> None:
        """Send a head and a body."""
        self._writer.write(text.encode("latin-1") + body)
        await self._writer.drain()

    async def answer(self, *, has_body: bool = True) -> RawAnswer:
        """Read one answer, its body by its Content-Length; that of a HEAD has none."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._reader.readexactly(int(headers.get("content-length", "0")) if has_body else 0)
        return RawAnswer(status=int(status_line.split()[1]), headers=headers, body=body)

    async def is_closed_by_server(self) -> bool:
        """Wait for the end; whatever still comes is an error."""
        return await self._reader.read() == b""

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def post(path: str, body: bytes, headers: str = "") -> str:
    """Write the head of a POST as Go's client does, which MinIO and versitygw use."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: gateway.example:8080\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Content-Length: {len(body)}\r\n{headers}Accept-Encoding: gzip\r\n\r\n"
    )


def _road_of(each: Source) -> Road | None:
    kind = sources.KINDS.get(each.kind)
    return kind.road if isinstance(kind, sources.PushKind) else None


def _open_push(each: Source) -> PushSource:
    kind = sources.KINDS[each.kind]
    assert isinstance(kind, sources.PushKind)
    return kind.open(each, machine_time)


def _never_polled(each: Source) -> NoReturn:
    raise AssertionError(each)


async def _yes() -> bool:
    return True
