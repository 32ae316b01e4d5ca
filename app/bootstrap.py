"""The only place where parts are built and joined: the gateway as a whole, and what the short commands need of it."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Final

import structlog
import uvicorn

import app
from app import destinations, sources
from app.api.app import ApiState, create_app
from app.decode import decode
from app.domain.configuration import Source
from app.domain.errors import StoreUnavailable
from app.domain.ids import ID_BYTES, ReplicaId
from app.domain.ports import PullSource
from app.first_key import make_first_key
from app.ingest.intake import Intake
from app.ingest.recorder import Recorder
from app.relay.relay import Relay
from app.settings import Settings
from app.store.configuration import SqlConfigurationStore
from app.store.database import Database
from app.store.lock import serving_alone
from app.store.migrate import migrate, prepare
from app.store.outbox import SqlOutbox
from app.store.record import SqlEventStore
from app.store.replaying import Replaying
from app.store.upkeep import Upkeep
from app.store.watch import ConfigurationWatch
from app.telemetry import configure_logging, metrics_page

RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
# What is left of the grace for HTTP requests when the parts have ended.
LAST_REQUESTS_SECONDS: Final = 2
PROBE_SECONDS: Final = 2.0
LEAVING_SECONDS: Final = 1.5

_log = structlog.get_logger(__name__)


class Gateway:
    """One process of the gateway: the parts it was asked for around one database."""

    def __init__(self, settings: Settings, parts: frozenset[str]) -> None:
        """Build every part; nothing is connected yet. Raises SettingsError."""
        configure_logging(form=settings.log.format, level=settings.log.level)
        self._settings = settings
        self._parts = parts
        self._is_prepared = False
        self._stop = asyncio.Event()
        self._database = Database(settings.database_url.get_secret_value(), pool_size=settings.database.pool_size)
        self._watch = ConfigurationWatch(SqlConfigurationStore(self._database))
        # The replica's id is a new one each start: what an earlier life held must never be mistaken for ours.
        replica = ReplicaId(secrets.token_bytes(ID_BYTES))
        self._outbox = SqlOutbox(
            self._database,
            replica,
            lease_seconds=settings.delivery.lease_seconds,
            disable_after_seconds=settings.delivery.disable_after_days * 86_400,
        )
        self._relay = self._build_relay()
        self._replaying = Replaying(self._database, replica, wake=self._relay.wake)
        self._intake = self._build_intake()
        self._upkeep_database = self._open_for_upkeep()
        self._upkeep = Upkeep(
            self._upkeep_database,
            event_days=settings.retention.event_days,
            attempt_days=settings.retention.attempt_days,
            dead_letter_days=settings.retention.dead_letter_days,
            quarantine_days=settings.retention.quarantine_days,
        )

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish what is in flight. Raises StartError, SettingsError."""
        self._stop = stop
        with contextlib.ExitStack() as stack:
            if self._database.path is not None:
                stack.enter_context(serving_alone(self._database.path))
            try:
                async with self._answering(listener):
                    _log.info(
                        "gateway.started", version=app.__version__, parts=sorted(self._parts), **_address(listener)
                    )
                    await self._work()
            finally:
                await self._database.aclose()
                await self._upkeep_database.aclose()
        _log.info("gateway.stopped")

    @contextlib.asynccontextmanager
    async def _answering(self, listener: socket.socket) -> AsyncIterator[None]:
        """Answer HTTP from the first moment to the last, so that health can be asked for all the while."""
        server = _Server(
            uvicorn.Config(
                create_app(self._api_state()),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=LAST_REQUESTS_SECONDS,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        serving.add_done_callback(lambda _: self._stop.set())
        try:
            yield
        finally:
            server.should_exit = True
            await serving

    async def _work(self) -> None:
        if not await self._prepare():
            return
        running = [self._watch.run, self._upkeep.run]
        if "ingest" in self._parts:
            running.append(self._intake.run)
        if "relay" in self._parts:
            running += [self._relay.run, self._replaying.run]
        self._is_prepared = True
        _log.info("gateway.ready")
        # What is left of the span is for leaving: leases given back, connections closed.
        grace = max(self._settings.server.stop_seconds - LEAVING_SECONDS, self._settings.server.stop_seconds / 2)
        await _run_all(running, self._stop, grace_seconds=grace)

    async def _prepare(self) -> bool:
        """Wait for the database, bring it into shape; False when asked to stop before that."""
        tries = 0
        while not self._stop.is_set():
            try:
                await prepare(self._database)
                await self._upkeep.make_ready()
                await make_first_key(self._database)
                if self._database.path is not None:
                    await self._outbox.inherit()
                await self._watch.refresh()
            except StoreUnavailable as error:
                if tries == 0:
                    _log.error("database.unreachable", error=str(error), advice="It is tried again until it answers.")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]):
                        await self._stop.wait()
                tries += 1
            else:
                return True
        return False

    async def _is_ready(self) -> bool:
        if not self._is_prepared or self._stop.is_set():
            return False
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await SqlConfigurationStore(self._database).epoch()
        except (StoreUnavailable, TimeoutError):
            return False
        return True

    def _open_for_upkeep(self) -> Database:
        """Give upkeep connections of its own, on which a statement may take long; SQLite's one writer is shared."""
        if self._database.path is not None:
            return self._database
        return Database(self._settings.database_url.get_secret_value(), pool_size=2, command_seconds=None)

    def _build_relay(self) -> Relay:
        settings = self._settings.delivery
        return Relay(
            outbox=self._outbox,
            destinations={
                name: kind.open(allow_cidrs=self._settings.allow_networks, version=app.__version__)
                for name, kind in destinations.KINDS.items()
            },
            configuration=self._watch.current,
            refresh=self._watch.refresh,
            max_in_flight=settings.max_in_flight,
            lease_seconds=settings.lease_seconds,
            logs_delivered=self._settings.log.delivered,
        )

    def _build_intake(self) -> Intake:
        store = SqlEventStore(self._database, event_days=self._settings.retention.event_days)
        return Intake(
            open_source=_open_pulled,
            recorder=Recorder(store=store, decode=decode, wake=self._relay.wake),
            store=store,
            configuration=self._watch.current,
            max_messages=self._settings.ingest.max_messages,
        )

    def _api_state(self) -> ApiState:
        return ApiState(
            database=self._database,
            destination_kinds=destinations.KINDS,
            source_kinds=sources.KINDS,
            allow_cidrs=self._settings.allow_networks,
            is_ready=self._is_ready,
            metrics=metrics_page,
            changed=self._watch.hint,
            wake=self._relay.wake,
            serves_api="api" in self._parts,
        )


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database for a short command, beside a running `serve` too. Raises StartError, StoreUnavailable."""
    configure_logging(form=settings.log.format, level="warning")
    database = Database(settings.database_url.get_secret_value(), pool_size=2)
    try:
        await prepare(database)
        yield database
    finally:
        await database.aclose()


async def migrate_database(settings: Settings) -> bool:
    """Bring the database to this version's schema; True when something was applied."""
    configure_logging(form=settings.log.format, level="warning")
    database = Database(settings.database_url.get_secret_value(), pool_size=2, command_seconds=None)
    try:
        return await migrate(database)
    finally:
        await database.aclose()


def _open_pulled(source: Source) -> PullSource:
    kind = sources.KINDS[source.kind]
    if not isinstance(kind, sources.PullKind):
        raise TypeError(f"A source of kind {source.kind} is not polled.")
    return kind.open(source)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own, and readiness must fall before the server does."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run_all(
    running: Sequence[Callable[[asyncio.Event], Coroutine[None, None, None]]],
    stop: asyncio.Event,
    *,
    grace_seconds: float,
) -> None:
    """Run parts until `stop` is set and they have ended, or the grace is over; one that fails ends the process.

    A part catches what it foresees. What comes through is a bug, and a restart by the supervisor is its recovery.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(stop)) for run in running]
            await stop.wait()
            _log.info("gateway.stopping", grace_seconds=grace_seconds)
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                _log.warning("part.cut_off", advice="server.stop_seconds was not enough for what was in flight.")
                task.cancel()
    finally:
        stop.set()


def _address(listener: socket.socket) -> dict[str, str | int]:
    host, port = listener.getsockname()[:2]
    return {"host": host, "port": port}
