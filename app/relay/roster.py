"""Which lanes this replica works off: starts a runner a lease, asks some back, outlives those that break.

Working a lane off is lane.py; when to lease, relay.py.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final

import structlog

from app.domain.delivery import Lease
from app.domain.errors import StoreError
from app.domain.ids import LaneId, public_id
from app.relay.breaker import Doubt
from app.relay.lane import LaneRunner
from app.relay.tools import Tools, is_stopped
from app.telemetry import BREAKERS_OPENED

# A lane whose runner broke is not worked off for so long: what broke it would break it again at once.
BROKEN_SECONDS: Final = 2.0
DOUBTS_KEPT: Final = 10_000

_log = structlog.get_logger(__name__)


class Roster:
    """The runners of this process. Every lease that is taken gets one, and is given back when it ends."""

    def __init__(self, tools: Tools, group: asyncio.TaskGroup) -> None:
        """Take what runners work with, and the group that owns them."""
        self._tools = tools
        self._group = group
        self._runners: dict[LaneId, LaneRunner] = {}
        self._tasks: dict[LaneId, asyncio.Task[None]] = {}
        # What speaks against receivers whose lanes were given back before it was enough, last kept last.
        self._doubts: dict[LaneId, Doubt] = {}
        self._epoch: int | None = None
        self._unfinished: set[asyncio.Task[None]] = set()

    def start(self, leases: Iterable[Lease], *, asked_at: float) -> None:
        """Work off lanes that a call sent at `asked_at` leased."""
        leases = list(leases)
        self._tools.leases.keep(leases, asked_at=asked_at)
        for lease in leases:
            # The same lane again: it was lost and is free again. The older runner first ends what it has in flight, so
            # that the newer one does not send it a second time.
            older, older_task = self._runners.get(lease.lane_id), self._tasks.get(lease.lane_id)
            if older is not None:
                older.nudge()
            runner = LaneRunner(lease, self._tools, doubt=self._doubts.pop(lease.lane_id, None))
            task = self._group.create_task(self._run(runner, older_task), name=f"lane {lease.lane_id}")
            self._runners[lease.lane_id], self._tasks[lease.lane_id] = runner, task
            self._unfinished.add(task)
            task.add_done_callback(self._unfinished.discard)

    def wake(self, lanes: Iterable[LaneId]) -> bool:
        """Wake lanes that have something new; False when some of them are not held here."""
        are_all_here = True
        for lane_id in lanes:
            runner = self._runners.get(lane_id)
            if runner is None:
                are_all_here = False
            else:
                runner.wake()
        return are_all_here

    def notice(self, lanes: Iterable[LaneId]) -> None:
        """Pass on which lanes look awake in the database."""
        for lane_id in lanes:
            if lane_id in self._runners:
                self._runners[lane_id].notice()

    def nudge(self) -> None:
        """Let every runner see that leases were prolonged or lost."""
        for runner in self._runners.values():
            runner.nudge()

    def follow_set_up(self) -> None:
        """Let runners see that the set-up has changed; those at rest only where their endpoint is to get nothing."""
        configuration = self._tools.configuration()
        if configuration.epoch == self._epoch:
            return
        self._epoch, endpoints = configuration.epoch, configuration.endpoints
        for runner in self._runners.values():
            endpoint = endpoints.get(runner.lease.endpoint_id)
            if endpoint is None or is_stopped(endpoint):
                runner.wake()
            else:
                runner.nudge()

    def shed(self, count: int) -> None:
        """Ask back until `count` lanes are on their way out: idle ones first, then those that can end soon."""
        leaving = sum(each.asked_back.is_set() for each in self._runners.values())
        soonest = sorted(self._in_turn(), key=lambda each: each.is_slow and not each.is_idle)
        for runner in soonest[: max(0, count - leaving)]:
            runner.ask_back()

    def rotate(self, count: int) -> None:
        """Ask back up to `count` lanes that had their turn: others wait, and there is no room."""
        for runner in [each for each in self._in_turn() if each.had_its_turn][:count]:
            runner.ask_back()

    def ask_all_back(self) -> None:
        """Ask every lane back: nothing new is started."""
        for runner in self._runners.values():
            runner.ask_back()

    async def close(self) -> None:
        """Ask every lane back and wait until what is in flight is settled."""
        self.ask_all_back()
        if self._unfinished:
            await asyncio.wait(self._unfinished)

    def _in_turn(self) -> list[LaneRunner]:
        staying = (each for each in self._runners.values() if not each.asked_back.is_set())
        return sorted(staying, key=lambda each: (not each.is_idle, each.began_at))

    async def _run(self, runner: LaneRunner, older: asyncio.Task[None] | None) -> None:
        lease = runner.lease
        try:
            if older is not None:
                await asyncio.wait([older])
            await runner.run()
        except Exception:  # noqa: BLE001 -- a bug met in one lane must not stop the others
            _log.exception("lane.stumbled", lane_id=lease.lane_id)
            await _pause(runner.asked_back)
        finally:
            self._tools.leases.drop(lease)
            if self._runners.get(lease.lane_id) is runner:
                del self._runners[lease.lane_id], self._tasks[lease.lane_id]
        self._keep_doubt(lease.lane_id, runner.doubt)
        await self._give_back(lease, suspended_seconds=await self._suspended_seconds(runner))

    def _keep_doubt(self, lane_id: LaneId, doubt: Doubt | None) -> None:
        if doubt is None:
            return
        self._doubts[lane_id] = doubt
        if len(self._doubts) > DOUBTS_KEPT:
            del self._doubts[next(iter(self._doubts))]

    async def _suspended_seconds(self, runner: LaneRunner) -> float | None:
        """Tell for how long to suspend a lane; not at all where its endpoint leads elsewhere since it was ill."""
        if runner.suspended_seconds is None:
            return None
        with contextlib.suppress(StoreError):
            await self._tools.refresh()
        return None if runner.is_aimed_elsewhere else runner.suspended_seconds

    async def _give_back(self, lease: Lease, *, suspended_seconds: float | None) -> None:
        try:
            if suspended_seconds is None:
                await self._tools.outbox.release([lease])
            else:
                await self._suspend(lease, suspended_seconds)
        except StoreError as error:
            _log.debug("lane.unreleased", lane_id=lease.lane_id, error=str(error))  # its lease ends by itself
        except Exception:  # noqa: BLE001 -- likewise; the lease ends by itself
            _log.exception("lane.unreleased", lane_id=lease.lane_id)

    async def _suspend(self, lease: Lease, seconds: float) -> None:
        BREAKERS_OPENED.inc()
        _log.warning("lane.suspended", endpoint_id=public_id("ep", lease.endpoint_id), seconds=round(seconds, 3))
        await self._tools.outbox.suspend(lease, seconds=seconds)


async def _pause(cut_short: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BROKEN_SECONDS):
            await cut_short.wait()
