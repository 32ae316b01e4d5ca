"""Who works which lane: looks at the lanes, leases a fair share, renews, sweeps, and drains at the end."""

import asyncio
import random as chance
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from weakref import WeakValueDictionary

import structlog

from app.domain.configuration import Configuration
from app.domain.delivery import LaneSurvey, Lease
from app.domain.errors import StoreError
from app.domain.ids import LaneId
from app.domain.ports import Destination, Outbox, Sleep
from app.relay.attempts import Attempts
from app.relay.lane import QUANTUM_SECONDS, LaneRunner, Tools, UnderWay
from app.relay.leases import Leases
from app.relay.outage import Outage
from app.relay.settler import Settler
from app.telemetry import LANES_HELD

TICK_SECONDS: Final = 0.05
SWEEP_SECONDS: Final = 1.0
HELD_LIMIT: Final = 1024
LEAVE_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


class Relay:
    """The right half of one process."""

    def __init__(  # noqa: PLR0913 -- everything it works with comes from outside
        self,
        *,
        outbox: Outbox,
        destinations: Mapping[str, Destination],
        configuration: Callable[[], Configuration],
        refresh: Callable[[], Awaitable[Configuration]],
        max_in_flight: int = 512,
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
        self._runners: dict[LaneId, LaneRunner] = {}
        # Kept alive by the runners of the lane, of which there are two while an earlier claim's sends finish.
        self._under_way: WeakValueDictionary[LaneId, UnderWay] = WeakValueDictionary()
        self._leases = Leases(lease_seconds=lease_seconds, monotonic=monotonic)
        self._settler = Settler(outbox, sleep=sleep)
        attempts = Attempts(
            destinations=destinations,
            slots=asyncio.Semaphore(max_in_flight),
            monotonic=monotonic,
            random=random,
            logs_delivered=logs_delivered,
        )
        self._tools = Tools(
            outbox=outbox,
            leases=self._leases,
            attempts=attempts,
            settler=self._settler,
            configuration=configuration,
            refresh=refresh,
            monotonic=monotonic,
            sleep=sleep,
        )

    def wake(self, lanes: frozenset[LaneId]) -> None:
        """Hear from this process that lanes have something owed: a hint that saves a tick."""
        for lane_id in lanes & self._runners.keys():
            self._runners[lane_id].wake()
        if not lanes <= self._runners.keys():
            self._hint.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Lease, deliver, settle until stopped; then finish what is in flight and give the lanes back.

        Cancelled: what is in flight is cut short and stays owed; the lanes are given back all the same, within a bound.
        """
        try:
            async with asyncio.TaskGroup() as group:
                chores = [
                    group.create_task(each, name=name)
                    for name, each in (
                        ("settle", self._settler.run()),
                        ("renew", self._renew()),
                        ("sweep", self._sweep()),
                    )
                ]
                runners = await self._schedule(stop, group)
                for runner in self._runners.values():
                    runner.give_back()
                if runners:
                    await asyncio.wait(runners)
                for chore in chores:
                    chore.cancel()
        finally:
            await self._leave()

    async def _schedule(self, stop: asyncio.Event, group: asyncio.TaskGroup) -> set[asyncio.Task[None]]:
        outage = Outage("outbox.unseen", sleep=self._sleep)
        running: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            try:
                survey = await self._outbox.survey()
                for lease in await self._take_share(survey):
                    runner = self._take_up(lease)
                    task = group.create_task(self._run_lane(runner), name=f"lane {lease.lane_id}")
                    running.add(task)
                    task.add_done_callback(running.discard)
                outage.end()
            except StoreError as error:
                await outage.pause(error)
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("relay.stumbled")
                await outage.pause(None)
            await self._wait_for_tick(stop)
        return running

    async def _take_share(self, survey: LaneSurvey) -> list[Lease]:
        for lane_id in survey.awake & self._runners.keys():
            self._runners[lane_id].wake()
        LANES_HELD.set(len(self._leases))
        share = min(HELD_LIMIT, -(-survey.active // max(1, survey.replicas)))
        room = share - len(self._leases)
        if room < 0 or (survey.waiting and room == 0):
            self._ask_back(max(-room, 0) or 1, must=room < 0)
        if room <= 0 or not survey.waiting:
            return []
        asked_at = self._monotonic()
        leases = list(await self._outbox.lease(min(room, survey.waiting)))
        self._leases.keep(leases, asked_at=asked_at)
        return leases

    def _ask_back(self, count: int, *, must: bool) -> None:
        """Give places to lanes that wait: those served longest first, and without need only after their quantum."""
        served = sorted(
            (each for each in self._runners.values() if not each.is_giving_back), key=lambda each: each.began
        )
        count -= sum(each.is_giving_back for each in self._runners.values())
        for runner in served[: max(0, count)]:
            if must or self._monotonic() - runner.began >= QUANTUM_SECONDS:
                runner.give_back()

    def _take_up(self, lease: Lease) -> LaneRunner:
        earlier = self._runners.get(lease.lane_id)
        if earlier is not None:
            earlier.give_back()  # its claim is lost, whether it knows or not
        under_way = self._under_way.setdefault(lease.lane_id, UnderWay())
        runner = self._runners[lease.lane_id] = LaneRunner(lease, self._tools, under_way)
        return runner

    async def _run_lane(self, runner: LaneRunner) -> None:
        lease = runner.lease
        try:
            await runner.run()
        except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
            _log.exception("lane.broke", lane_id=lease.lane_id)
        finally:
            self._leases.drop(lease)
            if self._runners.get(lease.lane_id) is runner:
                del self._runners[lease.lane_id]
        try:
            await self._outbox.release([lease])
        except StoreError as error:
            _log.debug("lane.unreleased", lane_id=lease.lane_id, error=str(error))  # its lease ends by itself

    async def _renew(self) -> None:
        outage = Outage("lease.unrenewed", sleep=self._sleep)
        while True:
            await self._sleep(self._lease_seconds / 3)
            try:
                while not await self._renew_all(outage):
                    pass  # it has paused
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("renewal.stumbled")

    async def _renew_all(self, outage: Outage) -> bool:
        leases = self._leases.all()
        if not leases:
            return True
        asked_at = self._monotonic()
        try:
            held = await self._outbox.renew(leases)
        except StoreError as error:
            await outage.pause(error)
            return False
        outage.end()
        self._leases.keep(
            [each for each in leases if each.lane_id in held and self._leases.holds(each)], asked_at=asked_at
        )
        for lost in (each for each in leases if each.lane_id not in held):
            self._leases.drop(lost)
            if lost.lane_id in self._runners:
                self._runners[lost.lane_id].wake()
        return True

    async def _sweep(self) -> None:
        outage = Outage("outbox.unswept", sleep=self._sleep)
        while True:
            try:
                if await self._outbox.sweep():
                    self._hint.set()
                outage.end()
            except StoreError as error:
                await outage.pause(error)
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("sweep.stumbled")
            await self._sleep(SWEEP_SECONDS)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await self._outbox.leave()
        except (StoreError, TimeoutError) as error:
            _log.debug("replica.unleft", error=str(error))  # the others notice by themselves
        for kind, destination in self._destinations.items():
            try:
                await destination.aclose()
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("destination.unclosed", kind=kind)

    async def _wait_for_tick(self, stop: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(each.wait()) for each in (self._hint, stop)]
        try:
            await asyncio.wait(waits, timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        self._hint.clear()
