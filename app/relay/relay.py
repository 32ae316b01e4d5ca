"""The right half of a process: looks at the lanes, renews, sweeps, and drains at the end.

How many lanes it holds is shares.py; working them off, roster.py and lane.py.
"""

import asyncio
import contextlib
import random as chance
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog

from app.domain.configuration import Configuration
from app.domain.errors import StoreUnavailable
from app.domain.ids import LaneId
from app.domain.ports import Destination, Outbox, Sleep
from app.relay.attempts import Attempts
from app.relay.leases import Leases
from app.relay.memory import Memory
from app.relay.outage import Outage, Retry
from app.relay.roster import Roster
from app.relay.settler import Settler
from app.relay.shares import Shares
from app.relay.slots import Slots
from app.relay.tools import Tools
from app.telemetry import LANES_HELD, WINDOW_BYTES

TICK_SECONDS: Final = 0.05
# Hints come as often as batches are recorded; the database is not looked at more often than this.
SHORTEST_TICK_SECONDS: Final = 0.01
SWEEP_SECONDS: Final = 1.0
HELD_LIMIT: Final = 1024
LEAVE_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class Relay:
    """The right half of one process. It closes the destinations when it ends."""

    def __init__(  # noqa: PLR0913 -- everything it works with comes from outside
        self,
        *,
        outbox: Outbox,
        destinations: Mapping[str, Destination],
        configuration: Callable[[], Configuration],
        refresh: Callable[[], Awaitable[Configuration]],
        max_in_flight: int = 512,
        max_lanes: int = HELD_LIMIT,
        lease_seconds: float = 10.0,
        logs_delivered: bool = True,
        random: Callable[[], float] = chance.random,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Take the outbox, the destinations by kind, and the set-up as this process knows it."""
        self._outbox = outbox
        self._destinations = destinations
        self._lease_seconds = lease_seconds
        self._monotonic = monotonic
        self._sleep = sleep
        self._hint = asyncio.Event()
        self._roster: Roster | None = None
        self._leases = Leases(lease_seconds=lease_seconds, monotonic=monotonic)
        self._outage = Outage(sleep=sleep, monotonic=monotonic)
        slots = Slots(max_in_flight)
        self._settler = Settler(outbox, slots=slots, outage=self._outage, monotonic=monotonic)
        self._tools = Tools(
            outbox=outbox,
            leases=self._leases,
            attempts=Attempts(
                destinations=destinations,
                monotonic=monotonic,
                random=random,
                logs_delivered=logs_delivered,
            ),
            slots=slots,
            memory=Memory(),
            settler=self._settler,
            outage=self._outage,
            configuration=configuration,
            refresh=refresh,
            monotonic=monotonic,
            random=random,
        )
        self._shares = Shares(self._tools, max_lanes=max_lanes)

    def wake(self, lanes: frozenset[LaneId]) -> None:
        """Hear from this process that lanes have something owed: a hint that saves a tick."""
        if self._roster is not None and not self._roster.wake(lanes):
            self._hint.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Lease, deliver, settle until stopped; then finish what is in flight and give the lanes back.

        Cancelled: attempts in flight are cut off and stay owed; a settle under way has 2 s to end, leaving another 2 s.
        """
        try:
            async with asyncio.TaskGroup() as group:
                roster = self._roster = Roster(self._tools, group)
                chores = [
                    group.create_task(each, name=name)
                    for name, each in (
                        ("settle", self._settler.run()),
                        ("renew", self._renew(roster)),
                        ("sweep", self._sweep()),
                        ("stop", self._hear(stop)),
                    )
                ]
                await self._schedule(stop, roster)
                roster.ask_all_back()
                await self._retire()
                await roster.close()
                for chore in chores:
                    chore.cancel()
        finally:
            self._roster = None
            LANES_HELD.set(0)
            await self._leave()

    async def _schedule(self, stop: asyncio.Event, roster: Roster) -> None:
        retry = Retry(self._outage, part="schedule")
        while not stop.is_set():
            try:
                self._tools.slots.look()
                roster.follow_set_up()
                survey = await self._outbox.survey()
                roster.notice(survey.awake)
                await self._shares.take(survey, roster, stop)
                retry.succeeded()
            except StoreUnavailable as error:
                await retry.pause(error)
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("relay.stumbled")
                await retry.pause()
            LANES_HELD.set(len(self._leases))
            WINDOW_BYTES.set(self._tools.memory.taken_bytes)
            await self._next_tick(stop)

    async def _renew(self, roster: Roster) -> None:
        retry = Retry(self._outage, part="renew", longest_seconds=self._lease_seconds / 10)
        is_late = False
        while True:
            # After a failure the next try comes soon: the leases run on.
            if not is_late:
                await self._sleep(self._lease_seconds / 3)
            try:
                await self._renew_once(roster)
                retry.succeeded()
                is_late = False
            except StoreUnavailable as error:
                is_late = True
                await retry.pause(error)
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                is_late = True
                _log.exception("renewal.stumbled")
                await retry.pause()

    async def _renew_once(self, roster: Roster) -> None:
        leases = self._leases.all()
        if not leases:
            return
        asked_at = self._monotonic()
        held = await self._outbox.renew(leases)
        # One that was dropped while the call was under way stays dropped.
        renewed = [each for each in leases if each.lane_id in held and self._leases.holds(each)]
        self._leases.keep(renewed, asked_at=asked_at)
        for lost in (each for each in leases if each.lane_id not in held):
            self._leases.lose(lost)
        roster.nudge()

    async def _sweep(self) -> None:
        retry = Retry(self._outage, part="sweep")
        while True:
            try:
                if await self._outbox.sweep():
                    self._hint.set()
                retry.succeeded()
            except StoreUnavailable as error:
                await retry.pause(error)
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("sweep.stumbled")
            await self._sleep(SWEEP_SECONDS)

    async def _retire(self) -> None:
        # Or the others would leave its share alone, and lanes given back early wait for its last attempt.
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._outbox.retire()
        except Exception as error:  # noqa: BLE001 -- the end must not fail; the others notice by themselves
            _log.debug("replica.unretired", error=repr(error))

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._outbox.leave()
        except Exception as error:  # noqa: BLE001 -- the end must not fail; the others notice by themselves
            _log.debug("replica.unleft", error=repr(error))
        for kind, destination in self._destinations.items():
            try:
                await destination.aclose()
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("destination.unclosed", kind=kind)

    async def _hear(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._hint.set()

    async def _next_tick(self, stop: asyncio.Event) -> None:
        if not stop.is_set():
            await self._sleep(SHORTEST_TICK_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_SECONDS - SHORTEST_TICK_SECONDS):
                await self._hint.wait()
        self._hint.clear()
