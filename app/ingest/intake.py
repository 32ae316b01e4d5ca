"""The left half as a whole: a poller for each source we poll, what is pushed to us, and the recorder they share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from app.domain.configuration import Configuration, Source
from app.domain.ids import SourceId, public_id
from app.domain.ports import EventStore
from app.ingest.poller import Measured, OpenSource, Poller, Surroundings
from app.ingest.push import Pushes
from app.ingest.recorder import Recorder
from app.ingest.room import Room, first_of

# With the half second in which the process learns of a change, well within the 2 s promised.
LOOK_SECONDS: Final = 0.25
# A poll of a source that was changed or deleted may bring its last messages for this long.
LAST_POLL_SECONDS: Final = 1.0
MAX_BYTES: Final = 64 * 1024 * 1024
RESTART_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    """A poller at work, and the way to stop it alone."""

    poller: Poller
    stop: asyncio.Event


class Intake:
    """Runs what brings events in."""

    def __init__(  # noqa: PLR0913 -- the parts around it, each by name
        self,
        *,
        open_source: OpenSource,
        recorder: Recorder,
        store: EventStore,
        configuration: Callable[[], Configuration],
        room: Room,
        pushes: Pushes,
        measured: Measured = lambda *_: None,
        is_polled: Callable[[Source], bool] = lambda _: True,
    ) -> None:
        """Take the parts; `configuration` gives the newest snapshot, the same object while nothing changed.

        `room` bounds what is received and not yet recorded, `measured` is told what waits in a source; `is_polled`
        tells which sources are read by us rather than pushed to us.
        """
        self._pushes = pushes
        self._recorder = recorder
        self._configuration = configuration
        self._is_polled = is_polled
        self._seen: Configuration | None = None
        self._running: dict[SourceId, _Running] = {}
        self._around = Surroundings(
            open_source=open_source,
            record=recorder.record,
            note=store.note_source,
            room=room,
            measured=measured,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Poll and take pushes until stopped, then see through what was received.

        The caller bounds it by cancelling.
        """
        all_received = asyncio.Event()
        async with asyncio.TaskGroup() as recording:
            recording.create_task(self._recorder.run(all_received))
            try:
                async with asyncio.TaskGroup() as polling:
                    polling.create_task(self._pushes.run(stop))
                    await self._follow(stop, polling)
            finally:
                all_received.set()

    async def _follow(self, stop: asyncio.Event, polling: asyncio.TaskGroup) -> None:
        while not stop.is_set():
            try:
                self._align(polling)
            except Exception as error:  # noqa: BLE001 -- the loop's one; the pollers at work go on
                _log.error("sources.unfollowed", exc_info=error)
            await first_of(stop.wait(), asyncio.sleep(LOOK_SECONDS))
        for running in self._running.values():
            running.stop.set()

    def _align(self, polling: asyncio.TaskGroup) -> None:
        """Start, restart and stop pollers until they are those of the newest configuration."""
        configuration = self._configuration()
        if configuration is self._seen:
            return
        wanted = {
            source_id: source
            for source_id, source in configuration.sources.items()
            if not source.is_paused and self._is_polled(source)
        }
        for source_id in [each for each, running in self._running.items() if _is_outdated(running, wanted.get(each))]:
            self._retire(self._running.pop(source_id))
        for source_id, source in wanted.items():
            if source_id not in self._running:
                self._running[source_id] = running = _Running(poller=Poller(source, self._around), stop=asyncio.Event())
                polling.create_task(self._watch_over(running), name=public_id("src", source_id))
        self._seen = configuration

    def _retire(self, running: _Running) -> None:
        _log.info("poller.retired", source_id=public_id("src", running.poller.source.id))
        running.stop.set()
        running.poller.cut_short(LAST_POLL_SECONDS)

    async def _watch_over(self, running: _Running) -> None:
        """Run a poller, and run it again should a bug end it."""
        while True:
            try:
                await running.poller.run(running.stop)
            except Exception as error:  # noqa: BLE001 -- the loop's one; a bug in one source is not the others' end
                _log.error("poller.crashed", source_id=public_id("src", running.poller.source.id), exc_info=error)
            if running.stop.is_set():
                return
            await first_of(running.stop.wait(), asyncio.sleep(RESTART_SECONDS))


def _is_outdated(running: _Running, wanted: Source | None) -> bool:
    return wanted is None or running.poller.source.setup != wanted.setup
