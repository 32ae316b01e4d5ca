"""Works off one leased lane: reads what it owes and decides when to give it back. One runner a lease.

Sending what was read is sending.py's business; which lanes are leased and for how long, roster.py's.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from app.domain.configuration import Endpoint
from app.domain.delivery import Fetched, InOrder, Lease
from app.domain.errors import StoreUnavailable
from app.relay.breaker import Doubt
from app.relay.outage import Retry
from app.relay.sending import Sending
from app.relay.tools import Tools, is_stopped
from app.relay.window import Window

WINDOW_LIMIT: Final = 400
# A look costs the same for one row and for these.
WINDOW_LEAST: Final = 64
# A lane that is paced reads on when it has no more than these: it looks awake all the while, and would look for each
# delivery that comes.
PACED_ENOUGH: Final = 8
# Rows of one lane in memory beyond what may be under way: sends go on only so far ahead of what is written down.
AHEAD_LIMIT: Final = 1600
# A held lane without work is given back after this, so that replicas that come later find lanes.
IDLE_SECONDS: Final = 10.0
# Looks that find nothing come further and further apart: a lane may look awake only for what is in memory already.
LOOK_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0)
# A lane that was served for less than this is not asked back for the sake of others that wait.
QUANTUM_SECONDS: Final = 1.0


class LaneRunner:
    """Keeps a window of the lane's deliveries in memory, filled before it runs dry."""

    def __init__(self, lease: Lease, tools: Tools, *, doubt: Doubt | None = None) -> None:
        """Take the lease to work under, and what the one before it was left with."""
        self.lease = lease
        self.began_at = tools.monotonic()
        self.asked_back = asyncio.Event()
        self._tools = tools
        known = tools.configuration().endpoints.get(lease.endpoint_id)
        self._aim = None if known is None else known.aim
        self._window = Window(tools.memory)
        self._change = asyncio.Event()
        self._sending = Sending(lease, tools, self._window, changed=self._change.set, doubt=doubt)
        self._looks_in_vain = 0
        self._looked_at = self.began_at

    @property
    def is_idle(self) -> bool:
        """Whether nothing of the lane is in memory."""
        return not self._window

    @property
    def is_slow(self) -> bool:
        """Whether what is under way may take long to end."""
        return self._sending.health.slot_class != "fast"

    @property
    def had_its_turn(self) -> bool:
        """Whether it may be asked back for the sake of others: a lane that is paced must send at least once."""
        is_held_up = self._sending.paced_until is not None and not self._sending.has_sent
        return self.is_idle or (self._tools.monotonic() - self.began_at >= QUANTUM_SECONDS and not is_held_up)

    @property
    def is_aimed_elsewhere(self) -> bool:
        """Whether the endpoint's target was changed since this began: how the old one fared says nothing of it."""
        now = self._tools.configuration().endpoints.get(self.lease.endpoint_id)
        return now is not None and self._aim is not None and now.aim != self._aim

    @property
    def doubt(self) -> Doubt | None:
        """What speaks against the receiver, short of a reason to let it be."""
        return self._sending.health.breaker.doubt

    @property
    def suspended_seconds(self) -> float | None:
        """For how long nobody should have the lane, now that it is given back; None: anybody may."""
        breaker = self._sending.health.breaker
        now, random = self._tools.monotonic(), self._tools.random()
        return breaker.span(now=now, random=random) if breaker.is_open else None

    def wake(self) -> None:
        """Say that the lane has something new."""
        self._window.must_look = True
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
        self._sending.is_ending = True
        self._change.set()

    async def run(self) -> None:
        """Work until the lease is lost or asked back, the receiver ill, the endpoint stopped, or nothing came for long.

        Settles all it sent.
        """
        retry = Retry(self._tools.outage, part="lane")
        async with self._sending:
            while self._goes_on():
                try:
                    goes_on = await self._turn()
                except StoreUnavailable as error:
                    self._window.must_look = True
                    await retry.pause(error)
                except Exception as error:  # noqa: BLE001 -- raised below, when what is in flight has been settled
                    self._sending.end_for(error)
                    break
                else:
                    retry.succeeded()
                    if not goes_on:
                        break
            self._window.forget_queue()
        self._window.forget_all()
        if self._sending.broken_by is not None:
            raise self._sending.broken_by

    def _goes_on(self) -> bool:
        is_held = not self.asked_back.is_set() and self._tools.leases.holds(self.lease)
        sending = self._sending
        is_over = sending.health.breaker.is_open or sending.has_disabled or sending.broken_by is not None
        return is_held and not is_over

    async def _turn(self) -> bool:
        """Read, send, wait for a change; False when the lane was idle for long, or its endpoint is stopped."""
        endpoint = await self._endpoint()
        if endpoint is None:
            self._window.forget_queue()  # the sweep cancels what it owed
            self._note_look(has_found=False)
        elif is_stopped(endpoint):
            return False
        else:
            await self._read_on(endpoint)
        self._sending.start()
        if self._window:
            paced_until = self._sending.paced_until
            await self._changed(None if paced_until is None else max(0.0, paced_until - self._tools.monotonic()))
            return True
        if await self._tools.outbox.rest(self.lease):
            self._looks_in_vain = 0
            return await self._changed(IDLE_SECONDS)
        self._window.must_look = True
        if self._looks_in_vain:
            # Due but not handed out: owed through what was just deleted. The next look cancels it, or the sweep.
            await self._changed(self._patience())
        return True

    async def _endpoint(self) -> Endpoint | None:
        known = self._tools.configuration().endpoints.get(self.lease.endpoint_id)
        if known is not None and not is_stopped(known):
            return known
        # The lane was leased, so there is one: what this process knows may be out of date.
        return (await self._tools.refresh()).endpoints.get(self.lease.endpoint_id)

    async def _read_on(self, endpoint: Endpoint) -> None:
        """Read before the queue runs dry, and on while there is more and not enough of it may go.

        Only a few rows first where it is not known what they weigh: those go together with what is read next.
        """
        while self._goes_on() and self._window.must_look and (limit := self._room(endpoint)):
            is_known = self._window.row_bytes > 0
            if not await self._look(limit, how=_order_of(endpoint, self._window.crowded)):
                break
            if is_known:
                self._sending.start()

    def _room(self, endpoint: Endpoint) -> int:
        """Tell how many rows to read now: not without end while nothing can be settled, or memory is full."""
        at_once = endpoint.max_in_flight * self._tools.attempts.batch_limit(endpoint)
        limit = min(WINDOW_LIMIT, max(WINDOW_LEAST, 2 * at_once))
        enough = PACED_ENOUGH if self._sending.paced_until is not None else limit // 2
        if self._window.ready > enough or len(self._window) + limit > at_once + AHEAD_LIMIT:
            return 0
        return min(limit, self._tools.memory.room(self._window.bytes, row_bytes=self._window.row_bytes))

    async def _look(self, limit: int, *, how: InOrder | None) -> bool:
        """Read once; False when that came no further."""
        window, sending = self._window, self._sending
        window.begin_look()
        expected = self._tools.memory.expect(limit, row_bytes=window.row_bytes)
        try:
            await self._tools.outbox.make_way(self.lease)
            fetched = await self._fetch(limit, how)
        finally:
            self._tools.memory.give_back(expected)
        sending.note_read(fetched.rows)
        fresh = window.take_in(window.wanted(fetched.rows, self._tools.configuration().subscriptions))
        # In order, one that is put off, or ended before its turn, would be overtaken by those in memory behind it.
        window.queue(fresh if how else sending.sift(fresh), in_order=how is not None)
        window.must_look = window.must_look or not fetched.is_all
        has_parked = not fetched.rows and not fetched.is_all
        self._note_look(has_found=bool(fresh) or has_parked)
        return bool(fresh) or has_parked

    async def _fetch(self, limit: int, how: InOrder | None) -> Fetched:
        outbox, leave_out = self._tools.outbox, self._window.row_ids
        if how is not None:
            return await outbox.fetch_in_order(self.lease, limit=limit, leave_out=leave_out, how=how)
        rows = await outbox.fetch(self.lease, limit=limit, leave_out=leave_out)
        return Fetched(rows=rows, is_all=len(rows) < limit)

    def _note_look(self, *, has_found: bool) -> None:
        self._looked_at = self._tools.monotonic()
        self._looks_in_vain = 0 if has_found else self._looks_in_vain + 1

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


def _order_of(endpoint: Endpoint, crowded: Mapping[int, int]) -> InOrder | None:
    if endpoint.ordering == "none":
        return None
    return InOrder(
        is_reordered=endpoint.reorder_window_seconds > 0, with_marks=endpoint.late != "deliver", crowded=crowded
    )
