"""Works off one leased lane: reads what it owes, sends it, hands what came of it to the settler. One runner a lease."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from app.domain.configuration import Configuration, Endpoint
from app.domain.delivery import Lease, Owed, Settlement
from app.domain.errors import StoreError
from app.domain.ports import Outbox, Sleep
from app.domain.verdict import Verdict
from app.relay.attempts import Attempts
from app.relay.leases import Leases
from app.relay.outage import Outage
from app.relay.settler import Settler

WINDOW_LIMIT: Final = 400
# Rows of one lane in memory beyond what may be under way: sends go on only so far ahead of what is written down.
AHEAD_LIMIT: Final = 1600
# A held lane without work is given back after this, so that replicas that come later find lanes.
IDLE_SECONDS: Final = 10.0
# A lane with room and with attempts in flight looks again after this, hints apart.
LOOK_SECONDS: Final = 0.25
# After this long a lane goes to the tail when others wait for its place.
QUANTUM_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every runner of the process works with."""

    outbox: Outbox
    leases: Leases
    attempts: Attempts
    settler: Settler
    configuration: Callable[[], Configuration]
    refresh: Callable[[], Awaitable[Configuration]]
    monotonic: Callable[[], float]
    sleep: Sleep


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class UnderWay:
    """What of one lane is in this process's memory and being sent, under whichever claim.

    Shared by the runners of one lane: a lease may be lost and taken again while its sends are still in flight.
    """

    rows: set[int] = field(default_factory=set)
    sends: int = 0


class LaneRunner:
    """Keeps a lane's window of deliveries in memory and up to the endpoint's `max_in_flight` sends under way."""

    def __init__(self, lease: Lease, tools: Tools, under_way: UnderWay) -> None:
        """Take the lease to work under, and what earlier claims on its lane have still under way."""
        self.lease = lease
        self.began = tools.monotonic()
        self.is_giving_back = False
        self._tools = tools
        self._queue: deque[Owed] = deque()
        self._under_way = under_way
        self._looks = True
        self._change = asyncio.Event()

    def wake(self) -> None:
        """Say that the lane may have something due."""
        self._looks = True
        self._change.set()

    def give_back(self) -> None:
        """Start nothing new; `run` ends when what is in flight is settled."""
        self.is_giving_back = True
        self._change.set()

    async def run(self) -> None:
        """Work until the lease is lost, asked back, or the lane was idle for long. Settles all it sent."""
        outage = Outage("lane.stopped", sleep=self._tools.sleep)
        async with asyncio.TaskGroup() as group:
            while not self.is_giving_back and self._tools.leases.holds(self.lease):
                try:
                    if not await self._turn(group):
                        break
                    outage.end()
                except StoreError as error:
                    self._looks = True
                    await outage.pause(error)
                except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                    # What is in flight must not be cancelled with it: it would be sent again.
                    _log.exception("lane.stumbled", lane_id=self.lease.lane_id)
                    self._looks = True
                    await outage.pause(None)
            self._forget_queue()

    async def _turn(self, group: asyncio.TaskGroup) -> bool:
        """Read, send, wait for a change; False when the lane was idle for long."""
        endpoint = await self._endpoint()
        if endpoint is None:
            # Deleted: the sweep cancels what it owed. Until then the lane sleeps, or it would be leased again at once.
            await self._tools.outbox.rest(self.lease)
            return False
        found = await self._look(endpoint) if self._looks and not self._queue else 0
        self._start(group, endpoint)
        if self._under_way.rows:
            await self._changed(LOOK_SECONDS)
            # With attempts under way and nothing queued, what has come meanwhile is looked for now and then.
            self._looks = self._looks or not self._queue
            return True
        if found == 0 and await self._tools.outbox.rest(self.lease):
            return await self._changed(IDLE_SECONDS)
        # Due but not handed out: owed through a subscription just deleted. The sweep will have it.
        self._looks = True
        if found == 0:
            await self._changed(LOOK_SECONDS)
        return True

    async def _endpoint(self) -> Endpoint | None:
        known = self._tools.configuration().endpoints.get(self.lease.endpoint_id)
        return known or (await self._tools.refresh()).endpoints.get(self.lease.endpoint_id)

    async def _look(self, endpoint: Endpoint) -> int:
        rows, capacity = self._under_way.rows, endpoint.max_in_flight * self._tools.attempts.batch_limit(endpoint)
        limit = min(WINDOW_LIMIT, 2 * capacity, capacity + AHEAD_LIMIT - len(rows))
        if limit <= 0:
            return 0
        self._looks = False
        found = await self._tools.outbox.fetch(self.lease, limit=limit, leave_out=tuple(rows))
        fresh = [row for row in found if row.row_id not in rows]
        self._queue.extend(fresh)
        rows.update(row.row_id for row in fresh)
        self._looks = len(found) >= limit
        return len(fresh)

    def _start(self, group: asyncio.TaskGroup, endpoint: Endpoint) -> None:
        size = self._tools.attempts.batch_limit(endpoint)
        while (
            self._queue and self._under_way.sends < endpoint.max_in_flight and self._tools.leases.is_trusted(self.lease)
        ):
            batch = [self._queue.popleft() for _ in range(min(size, len(self._queue)))]
            self._under_way.sends += 1
            group.create_task(self._attempt(endpoint, batch))

    async def _attempt(self, endpoint: Endpoint, batch: Sequence[Owed]) -> None:
        try:
            settlements = await self._send(endpoint, batch)
            self._under_way.sends -= 1
            self._change.set()
            kept = await asyncio.gather(*(self._tools.settler.settle(each) for each in settlements))
            if not all(kept):
                self._tools.leases.drop(self.lease)
        finally:
            self._under_way.rows.difference_update(owed.row_id for owed in batch)
            self._change.set()

    async def _send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> list[Settlement]:
        kept = [owed for owed in batch if owed.stored is not None]
        settlements = [self._expire(owed) for owed in batch if owed.stored is None]
        async with self._tools.attempts.slots:
            # The wait for a slot may have been long: a lease asked back or run out meanwhile starts nothing.
            if kept and not self.is_giving_back and self._tools.leases.is_trusted(self.lease):
                outcomes = await self._tools.attempts.send(endpoint, kept)
                conclude = self._tools.attempts.conclude
                settlements += [conclude(self.lease, endpoint, *pair) for pair in zip(kept, outcomes, strict=True)]
        return settlements

    def _expire(self, owed: Owed) -> Settlement:
        verdict = Verdict(status="dead", reason="expired")
        return Settlement(lease=self.lease, owed=owed, outcome=None, verdict=verdict, started_seconds_ago=0.0)

    def _forget_queue(self) -> None:
        self._under_way.rows.difference_update(owed.row_id for owed in self._queue)
        self._queue.clear()

    async def _changed(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._change.wait()
        except TimeoutError:
            return False
        self._change.clear()
        return True
