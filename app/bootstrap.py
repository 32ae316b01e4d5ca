"""Where parts are built and joined: the gateway as a whole. What short commands need is in short_commands.py."""

import asyncio
import contextlib
import gc
import secrets
import socket
from typing import Final

import structlog

import app
from app import destinations, sources
from app.api.app import ApiState, create_app
from app.decode import decode
from app.domain.errors import StoreUnavailable
from app.domain.ids import ID_BYTES, ReplicaId
from app.first_key import make_first_key
from app.ingest.intake import MAX_BYTES, Intake
from app.ingest.pulse import Pulses
from app.ingest.push import Pushes, PushSurroundings
from app.ingest.recorder import Recorder
from app.ingest.room import Room
from app.relay.relay import Relay
from app.running import address_of, answering, run_all
from app.settings import Settings
from app.store.clock import DatabaseClock
from app.store.configuration import SqlConfigurationStore
from app.store.database import Database
from app.store.lock import serving_alone
from app.store.migrate import prepare
from app.store.outbox import SqlOutbox
from app.store.patience import Patience
from app.store.pulse import SqlPulseStore
from app.store.record import SqlEventStore
from app.store.replaying import Replaying
from app.store.reprocess import Reprocessing
from app.store.upkeep import Upkeep
from app.store.vacuum import VacuumWatch
from app.store.watch import ConfigurationWatch
from app.telemetry import configure_logging, metrics_page

RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)
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
        self._clock = DatabaseClock(self._database)
        self._watch = ConfigurationWatch(SqlConfigurationStore(self._database))
        # The replica's id is a new one each start: what an earlier life held must never be mistaken for ours.
        replica = ReplicaId(secrets.token_bytes(ID_BYTES))
        self._outbox = SqlOutbox(
            self._database,
            replica,
            lease_seconds=settings.delivery.lease_seconds,
            patience=Patience(
                disable_after_seconds=settings.delivery.disable_after_days * 86_400,
                stalled_after_seconds=settings.ingest.stalled_after_seconds,
                stalled_age_seconds=settings.ingest.stalled_age_seconds,
            ),
        )
        self._pulses = Pulses(SqlPulseStore(self._database, replica), utc=self._clock.now)
        self._relay = self._build_relay()
        self._replaying = Replaying(self._database, replica, wake=self._relay.wake)
        self._intake, self._pushes = self._build_intake()
        self._upkeep_database = self._open_for_upkeep()
        self._upkeep = Upkeep(
            self._upkeep_database,
            event_days=settings.retention.event_days,
            attempt_days=settings.retention.attempt_days,
            dead_letter_days=settings.retention.dead_letter_days,
            quarantine_days=settings.retention.quarantine_days,
            idempotency_hours=settings.retention.idempotency_hours,
        )

    async def run(self, listener: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then finish what is in flight. Raises StartError, SettingsError."""
        self._stop = stop
        with contextlib.ExitStack() as stack:
            if self._database.path is not None:
                stack.enter_context(serving_alone(self._database.path))
            try:
                async with answering(create_app(self._api_state()), listener, stopped=self._stop.set):
                    _log.info(
                        "gateway.started", version=app.__version__, parts=sorted(self._parts), **address_of(listener)
                    )
                    await self._work()
            finally:
                await self._database.aclose()
                await self._upkeep_database.aclose()
        _log.info("gateway.stopped")

    async def _work(self) -> None:
        if not await self._prepare():
            return
        running = [
            self._clock.run,
            self._watch.run,
            self._upkeep.run,
            self._pulses.run,
            VacuumWatch(self._database).run,
        ]
        if "ingest" in self._parts:
            running.append(self._intake.run)
        if "relay" in self._parts:
            running += [self._relay.run, self._replaying.run]
        # What stands by now stays: a full collection that walks it, too, holds everything up for tens of milliseconds.
        gc.collect()
        gc.freeze()
        self._is_prepared = True
        _log.info("gateway.ready")
        # What is left of the span is for leaving: leases given back, connections closed.
        grace = max(self._settings.server.stop_seconds - LEAVING_SECONDS, self._settings.server.stop_seconds / 2)
        await run_all(running, self._stop, grace_seconds=grace)

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
                await self._clock.read()
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
        # Asked before the stop, answered after it: no.
        return not self._stop.is_set()

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
                name: kind.open(
                    allow_cidrs=self._settings.allow_networks,
                    version=app.__version__,
                    now=self._clock.now,
                    nameservers=settings.nameservers,
                )
                for name, kind in destinations.KINDS.items()
            },
            configuration=self._watch.current,
            refresh=self._watch.refresh,
            max_in_flight=settings.max_in_flight,
            lease_seconds=settings.lease_seconds,
            logs_delivered=self._settings.log.delivered,
        )

    def _event_store(self) -> SqlEventStore:
        return SqlEventStore(self._database, event_days=self._settings.retention.event_days)

    def _build_intake(self) -> tuple[Intake, Pushes]:
        store = self._event_store()
        recorder = Recorder(store=store, decode=decode, wake=self._relay.wake, count=self._pulses.heard)
        room = Room(max_messages=self._settings.ingest.max_messages, max_bytes=MAX_BYTES)
        pushes = Pushes(
            PushSurroundings(
                road_of=sources.road_of,
                open_push=lambda source: sources.open_pushing(source, self._clock.now),
                record=recorder.record,
                note=store.note_source,
                room=room,
                configuration=self._watch.current,
                refresh=self._watch.refresh,
            )
        )
        intake = Intake(
            open_source=sources.open_pulled,
            recorder=recorder,
            store=store,
            configuration=self._watch.current,
            room=room,
            pushes=pushes,
            measured=self._pulses.measured,
            is_polled=lambda source: sources.road_of(source) is None,
        )
        return intake, pushes

    def _api_state(self) -> ApiState:
        return ApiState(
            database=self._database,
            destination_kinds=destinations.KINDS,
            source_kinds=sources.KINDS,
            allow_cidrs=self._settings.allow_networks,
            is_ready=self._is_ready,
            metrics=metrics_page,
            reprocessing=Reprocessing(self._database, self._event_store(), decode),
            changed=self._watch.hint,
            wake=self._relay.wake,
            serves_api="api" in self._parts,
            public_url=self._settings.server.public_url,
            pushes=self._pushes if "ingest" in self._parts else None,
        )
