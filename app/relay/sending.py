"""Sends what a lane has in memory, as many at once as its endpoint, its receiver's health and the process allow.

Reading it, and when the lane is given back: lane.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from app.domain.configuration import Endpoint
from app.domain.delivery import Lease, Owed, Settlement
from app.domain.outcome import Outcome
from app.relay.breaker import Doubt
from app.relay.health import LaneHealth
from app.relay.marks import part_late
from app.relay.pace import Pace
from app.relay.retry_budget import RetryBudget, slide_seconds
from app.relay.slots import Berth
from app.relay.tools import Tools, is_stopped
from app.relay.window import Window
from app.telemetry import RETRIES_SLID


class Sending:
    """One lane's sends under one lease. `changed` is called when something ended, or may go on."""

    def __init__(
        self, lease: Lease, tools: Tools, window: Window, *, changed: Callable[[], None], doubt: Doubt | None = None
    ) -> None:
        """Take the lease to send under, where the deliveries are, and what speaks against the receiver already."""
        self.health = LaneHealth(lease, monotonic=tools.monotonic, doubt=doubt)
        self.has_sent = False
        self.is_ending = False
        # An answer disabled the endpoint: nothing more goes, also before that is written down and heard of.
        self.has_disabled = False
        # The first bug met in the lane, which raises it when what is under way has ended: see `end_for`.
        self.broken_by: Exception | None = None
        # When what goes next may go, where that was too early when it was last looked at.
        self.paced_until: float | None = None
        self._lease = lease
        self._tools = tools
        self._window = window
        self._changed = changed
        self._pace = Pace(now=tools.monotonic(), is_recovering=lease.is_recovering)
        self._retries = RetryBudget(now=tools.monotonic())
        self._berth: Berth | None = None
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> None:
        """Own what is under way."""
        await self._tasks.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        """Wait until everything under way is settled."""
        self.is_ending = True
        try:
            await self._tasks.__aexit__(*error)  # type: ignore[arg-type]  # as it came
        finally:
            if self._berth is not None:
                self._tools.slots.close(self._berth)

    def start(self) -> None:
        """Send what may be sent now; what has to wait for a slot is sent when its turn has come."""
        endpoint = self._endpoint()
        if endpoint is None:
            return
        if self._berth is None:
            self._berth = Berth(
                tenant_id=endpoint.tenant_id,
                slot_class=lambda: self.health.slot_class,
                wants=self._wants,
                launch=self._launch,
            )
        while self._wants() and self._tools.slots.take(self._berth):
            self._launch()

    def end_for(self, bug: Exception) -> None:
        """Start nothing more. What is under way ends in its own time: cut off, it would be sent once more."""
        self.broken_by = self.broken_by or bug
        self.is_ending = True
        self._changed()

    def note_read(self, rows: Sequence[Owed]) -> None:
        """Hear what was just read: its rhythm tells how fast it may go, where the receiver was away."""
        self._pace.note_read(rows, now=self._tools.monotonic())

    def sift(self, rows: Sequence[Owed]) -> list[Owed]:
        """Give those that may go now; end those whose events are no longer kept, and put off retries beyond the budget.

        Not for what goes in order.
        """
        attempts, random = self._tools.attempts, self._tools.random
        gone = [row for row in rows if row.stored is None]
        self._settle_untried(gone, lambda row: attempts.expire(self._lease, row))
        now, later = self._split_by_budget([row for row in rows if row.stored is not None])
        RETRIES_SLID.inc(len(later))
        self._settle_untried(later, lambda row: attempts.put_off(self._lease, row, seconds=slide_seconds(random())))
        return now

    def _split_by_budget(self, rows: Sequence[Owed]) -> tuple[list[Owed], list[Owed]]:
        """Tell which of the deliveries that were read go now, and which later: retries that do not fit in."""
        now: list[Owed] = []
        later: list[Owed] = []
        for row in rows:
            fits = row.failures == 0 or self._retries.allows_retry(now=self._tools.monotonic())
            (now if fits else later).append(row)
        return now, later

    def _endpoint(self) -> Endpoint | None:
        return self._tools.configuration().endpoints.get(self._lease.endpoint_id)

    def _may_start(self, endpoint: Endpoint) -> bool:
        return not self.is_ending and not is_stopped(endpoint) and self._tools.leases.is_trusted(self._lease)

    def _wants(self) -> bool:
        """Tell whether one more send may start, a slot apart."""
        self.paced_until = None
        endpoint, following = self._endpoint(), self._window.following
        if endpoint is None or following is None or not self._may_start(endpoint):
            return False
        under_way = self._berth.in_flight if self._berth else 0
        if under_way >= self.health.places(endpoint.max_in_flight):
            return False
        now = self._tools.monotonic()
        wait = self._pace.wait(following, endpoint.rate_limit_per_second, now=now)
        if wait:
            self.paced_until = now + wait
        return not wait

    def _launch(self) -> None:
        endpoint, now = self._endpoint(), self._tools.monotonic()
        if endpoint is None:
            raise AssertionError("a slot was taken for an endpoint that is not there")
        rate = endpoint.rate_limit_per_second
        batch = self._window.take(self._pace.count(self._tools.attempts.batch_limit(endpoint), rate, now=now))
        self._pace.take(batch, rate, now=now)
        for row in batch:
            if row.failures == 0:
                self._retries.note_first(now=now)
        self.has_sent = True
        self._tasks.create_task(self._kept_apart(partial(self._attempt, batch)))

    async def _kept_apart(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 -- the lane raises it, when what else is under way has ended
            self.end_for(error)

    async def _attempt(self, batch: Sequence[Owed]) -> None:
        settlements = await self._send(batch)
        settled = self._hand_in(settlements)
        try:
            # The slot is free before the settle has run: a slow database does not hold up the next attempt.
            if self._berth is not None:
                self._tools.slots.leave(self._berth)
            self.start()
            self._changed()
        finally:
            await self._forget(batch, settlements, settled)

    async def _send(self, batch: Sequence[Owed]) -> list[Settlement]:
        endpoint = self._endpoint()
        wanted = self._window.wanted(batch, self._tools.configuration().subscriptions)
        if endpoint is None or not wanted or not self._may_start(endpoint):
            self._window.must_look = True
            return []
        to_send, ended = self._part(endpoint, wanted)
        return [*(await self._try(endpoint, to_send) if to_send else ()), *ended]

    def _part(self, endpoint: Endpoint, rows: Sequence[Owed]) -> tuple[list[Owed], list[Settlement]]:
        """Choose what is sent, late ones marked; end what is too old, not wanted late, or of an event that is gone."""
        lease, now, attempts = self._lease, self._tools.monotonic(), self._tools.attempts
        young: list[Owed] = []
        ended: list[Settlement] = []
        for row in rows:
            if row.stored is None:
                # Nobody could ever see to it: it holds up no others.
                ended.append(attempts.expire(lease, row))
            elif self._pace.age(row, now=now) > endpoint.max_age_seconds:
                ended.append(attempts.expire(lease, row, endpoint))
            else:
                young.append(row)
        to_send, unwanted = part_late(endpoint, young, is_late=self._window.is_late)
        return to_send, [*ended, *(attempts.drop(lease, row) for row in unwanted)]

    async def _try(self, endpoint: Endpoint, rows: Sequence[Owed]) -> list[Settlement]:
        number = self.health.begin()
        try:
            outcomes = await self._ask(endpoint, rows)
        finally:
            self.health.end(number)
        if outcomes is None:
            self._window.must_look = True
            return []
        conclude = self._tools.attempts.conclude
        settlements = [conclude(self._lease, endpoint, *pair) for pair in zip(rows, outcomes, strict=True)]
        if any(each.verdict.disables for each in settlements):
            self.has_disabled = self.is_ending = True
        self._hear(settlements, endpoint)
        return [*settlements[:-1], replace(settlements[-1], health=self.health.news())]

    async def _ask(self, endpoint: Endpoint, rows: Sequence[Owed]) -> Sequence[Outcome] | None:
        """Send; None where the order is at stake and the lease has ended: who has the lane next sends on by then."""
        if endpoint.ordering == "none":
            return await self._tools.attempts.send(endpoint, rows)
        leases, sending = self._tools.leases, asyncio.ensure_future(self._tools.attempts.send(endpoint, rows))
        try:
            while not sending.done():
                if not leases.is_trusted(self._lease):
                    return None
                await asyncio.wait([sending], timeout=leases.trusted_seconds(self._lease))
            return sending.result()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _hear(self, settlements: Sequence[Settlement], endpoint: Endpoint) -> None:
        current = self._endpoint()
        if current is not None and current.aim != endpoint.aim:
            return  # it went to where the endpoint no longer is
        was_on_trial = self.health.breaker.is_on_trial
        self.health.hear(settlements, endpoint)
        if was_on_trial and not self.health.breaker.is_on_trial:
            self._pace.recover(settlements[0].owed, now=self._tools.monotonic())

    def _settle_untried(self, rows: Sequence[Owed], conclude: Callable[[Owed], Settlement]) -> None:
        if rows:
            settlements = [conclude(row) for row in rows]
            settled = self._hand_in(settlements)
            self._tasks.create_task(self._kept_apart(partial(self._forget, rows, settlements, settled)))

    def _hand_in(self, settlements: Sequence[Settlement]) -> Sequence[Awaitable[bool]]:
        return [self._tools.settler.settle(each) for each in settlements]

    async def _forget(
        self, rows: Sequence[Owed], settlements: Sequence[Settlement], settled: Sequence[Awaitable[bool]]
    ) -> None:
        """Wait until what became of rows is written down; until then they are in memory, and not read again."""
        if not all(await asyncio.gather(*settled)):
            self._tools.leases.lose(self._lease)
        self._window.settled(rows, settlements)
        self.start()
        self._changed()
