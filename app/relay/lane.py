"""Works off one leased lane: reads what it owes, sends it, hands what came of it to the settler. One runner a lease.

Which lanes are leased and for how long is roster.py's business.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.configuration import Configuration, Endpoint
from app.domain.delivery import Lease, Owed, Settlement
from app.domain.errors import StoreUnavailable
from app.domain.ids import SubscriptionId
from app.domain.ports import Outbox
from app.relay.attempts import Attempts
from app.relay.leases import Leases
from app.relay.outage import Outage, Retry
from app.relay.settler import Settler
from app.relay.waiting import Waiting

WINDOW_LIMIT: Final = 400
# A look costs the same for one row and for these.
WINDOW_LEAST: Final = 64
# Rows of one lane in memory beyond what may be under way: sends go on only so far ahead of what is written down.
AHEAD_LIMIT: Final = 1600
# A held lane without work is given back after this, so that replicas that come later find lanes.
IDLE_SECONDS: Final = 10.0
# Looks that find nothing come further and further apart: a lane may look awake only for what is in memory already.
LOOK_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What every runner of the process works with."""

    outbox: Outbox
    leases: Leases
    attempts: Attempts
    settler: Settler
    outage: Outage
    configuration: Callable[[], Configuration]
    refresh: Callable[[], Awaitable[Configuration]]
    monotonic: Callable[[], float]


class LaneRunner:
    """Keeps a window of the lane's deliveries in memory and up to the endpoint's `max_in_flight` sends under way.

    In memory is what is queued, in flight or not yet settled: none of it is read again.
    """

    def __init__(self, lease: Lease, tools: Tools) -> None:
        """Take the lease to work under."""
        self.lease = lease
        self.began_at = tools.monotonic()
        self.asked_back = asyncio.Event()
        self._tools = tools
        self._waiting = Waiting()
        self._held_back: set[int | None] = set()
        self._in_memory: set[int] = set()
        self._subscriptions: set[SubscriptionId] = set()
        self._in_flight = 0
        self._must_look = True
        self._looks_in_vain = 0
        self._looked_at = self.began_at
        self._change = asyncio.Event()
        self._attempts = asyncio.TaskGroup()

    @property
    def is_idle(self) -> bool:
        """Whether nothing of the lane is in memory."""
        return not self._in_memory

    def wake(self) -> None:
        """Say that the lane has something new."""
        self._must_look = True
        self._change.set()

    def notice(self) -> None:
        """Say that the lane looks awake in the database, which it also does while its last attempts are under way."""
        if self._tools.monotonic() >= self._looked_at + self._patience():
            self.wake()

    def nudge(self) -> None:
        """Say that the lease was prolonged or lost; an idle lane that is still held goes on resting."""
        if not self.is_idle or not self._tools.leases.holds(self.lease):
            self._change.set()

    def ask_back(self) -> None:
        """Start nothing new; `run` ends when what is in flight is settled."""
        self.asked_back.set()
        self._change.set()

    async def run(self) -> None:
        """Work until the lease is lost, asked back, or the lane was idle for long. Settles all it sent."""
        retry = Retry(self._tools.outage, part="lane")
        broken_by: Exception | None = None
        async with self._attempts:
            while not self.asked_back.is_set() and self._tools.leases.holds(self.lease):
                try:
                    goes_on = await self._turn()
                except StoreUnavailable as error:
                    self._must_look = True
                    await retry.pause(error)
                except Exception as error:  # noqa: BLE001 -- raised below, when what is in flight has been settled
                    broken_by = error
                    break
                else:
                    retry.succeeded()
                    if not goes_on:
                        break
            self._forget_queue()
        if broken_by is not None:
            raise broken_by

    async def _turn(self) -> bool:
        """Read, send, wait for a change; False when the lane was idle for long."""
        endpoint = await self._endpoint()
        if endpoint is None:
            self._forget_queue()  # the sweep cancels what it owed
            self._note_look(found=0)
        elif self._must_look and self._has_room(endpoint):
            await self._look(endpoint)
        self._start()
        if self._in_memory:
            await self._changed(None)
            return True
        if await self._tools.outbox.rest(self.lease):
            self._looks_in_vain = 0
            return await self._changed(IDLE_SECONDS)
        self._must_look = True
        if self._looks_in_vain:
            # Due but not handed out: owed through what was just deleted. The sweep will have it.
            await self._changed(self._patience())
        return True

    async def _endpoint(self) -> Endpoint | None:
        known = self._tools.configuration().endpoints.get(self.lease.endpoint_id)
        return known or (await self._tools.refresh()).endpoints.get(self.lease.endpoint_id)

    def _limit(self, endpoint: Endpoint) -> int:
        return min(
            WINDOW_LIMIT, max(WINDOW_LEAST, 2 * endpoint.max_in_flight * self._tools.attempts.batch_limit(endpoint))
        )

    def _has_room(self, endpoint: Endpoint) -> bool:
        """Tell whether to read on: before the queue runs dry, but not without end while nothing can be settled."""
        limit, at_once = self._limit(endpoint), endpoint.max_in_flight * self._tools.attempts.batch_limit(endpoint)
        return len(self._waiting) <= limit // 2 and len(self._in_memory) + limit <= at_once + AHEAD_LIMIT

    async def _look(self, endpoint: Endpoint) -> None:
        self._must_look = False
        limit = self._limit(endpoint)
        self._held_back.clear()
        is_ordered = endpoint.ordering != "none"
        rows = await self._tools.outbox.fetch(
            self.lease, limit=limit, leave_out=tuple(self._in_memory), in_order=is_ordered
        )
        fresh = [row for row in self._wanted(rows) if row.row_id not in self._in_memory and not self._is_overtaken(row)]
        self._in_memory.update(row.row_id for row in fresh)
        self._waiting.add((row for row in fresh if row.stored is not None), in_order=is_ordered)
        expired = [row for row in fresh if row.stored is None]
        if expired:
            self._attempts.create_task(self._expire(expired))
        self._must_look = self._must_look or len(rows) >= limit
        self._note_look(found=len(fresh))

    def _is_overtaken(self, row: Owed) -> bool:
        """Tell whether what comes before a row was in memory when it was asked for, and went back meanwhile."""
        is_overtaken = row.order_key is not None and row.order_key in self._held_back
        self._must_look |= is_overtaken
        return is_overtaken

    def _note_look(self, *, found: int) -> None:
        self._looked_at = self._tools.monotonic()
        self._looks_in_vain = 0 if found else self._looks_in_vain + 1

    def _wanted(self, rows: Sequence[Owed]) -> list[Owed]:
        """Leave out what is owed through subscriptions that were there and are gone; one never seen is newer."""
        there = self._tools.configuration().subscriptions
        self._subscriptions.update(row.subscription_id for row in rows if row.subscription_id in there)
        return [row for row in rows if row.subscription_id in there or row.subscription_id not in self._subscriptions]

    def _start(self) -> None:
        endpoint = self._tools.configuration().endpoints.get(self.lease.endpoint_id)
        while self._waiting and endpoint and self._in_flight < endpoint.max_in_flight and self._may_start():
            self._in_flight += 1
            batch = self._waiting.take(self._tools.attempts.batch_limit(endpoint))
            self._attempts.create_task(self._attempt(batch))

    def _may_start(self) -> bool:
        return not self.asked_back.is_set() and self._tools.leases.is_trusted(self.lease)

    async def _attempt(self, batch: Sequence[Owed]) -> None:
        settlements = await self._send(batch)
        # The place is free before the settle has run: a slow database does not hold up the next attempt.
        self._in_flight -= 1
        self._start()
        self._change.set()
        await self._settle(batch, settlements)

    async def _send(self, batch: Sequence[Owed]) -> list[Settlement]:
        async with self._tools.attempts.slots:
            # The wait for a slot may have been long: whatever has changed meanwhile holds.
            endpoint = self._tools.configuration().endpoints.get(self.lease.endpoint_id)
            wanted = self._wanted(batch)
            if endpoint is None or not wanted or not self._may_start():
                self._must_look = True
                return []
            outcomes = await self._tools.attempts.send(endpoint, wanted)
        conclude = self._tools.attempts.conclude
        return [conclude(self.lease, endpoint, *pair) for pair in zip(wanted, outcomes, strict=True)]

    async def _expire(self, rows: Sequence[Owed]) -> None:
        await self._settle(rows, [self._tools.attempts.expire(self.lease, owed) for owed in rows])

    async def _settle(self, rows: Sequence[Owed], settlements: Sequence[Settlement]) -> None:
        if not all(await asyncio.gather(*(self._tools.settler.settle(each) for each in settlements))):
            self._tools.leases.drop(self.lease)
        self._forget(rows)
        self._go_on(rows, settlements)
        self._start()
        self._change.set()

    def _go_on(self, rows: Sequence[Owed], settlements: Sequence[Settlement]) -> None:
        """Let those go that stood behind what is over; behind what is not, nobody goes."""
        over = {each.owed.row_id for each in settlements if each.verdict.status != "pending" and not each.blocks}
        for row in rows:
            if row.row_id in over:
                self._waiting.go_on(row)
            elif row.order_key is not None:
                self._forget(self._waiting.hold_back(row))
                self._held_back.add(row.order_key)
                self._must_look = True

    def _forget(self, rows: Iterable[Owed]) -> None:
        self._in_memory.difference_update(owed.row_id for owed in rows)

    def _forget_queue(self) -> None:
        self._forget(self._waiting.clear())

    def _patience(self) -> float:
        return LOOK_SECONDS[min(self._looks_in_vain, len(LOOK_SECONDS) - 1)]

    async def _changed(self, seconds: float | None) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._change.wait()
        except TimeoutError:
            return False
        self._change.clear()
        return True
