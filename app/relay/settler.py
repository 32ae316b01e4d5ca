"""Writes down what attempts gave: all that finished while the last settle ran goes into the next one."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from app.domain.delivery import Settlement
from app.domain.errors import StoreError, StoreUnavailable
from app.domain.ids import LaneId
from app.domain.ports import Outbox
from app.relay.outage import Outage, Retry
from app.relay.slots import Slots
from app.telemetry import SETTLEMENTS_REFUSED

BATCH: Final = 500
# How long a settle under way may go on when the relay is cut off.
LAST_SECONDS: Final = 2.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waiting:
    settlement: Settlement
    since: float
    is_kept: asyncio.Future[bool]
    # One that the database refuses waits on, and holds nobody up.
    is_refused: bool = False

    def aged(self, now: float) -> Settlement:
        """Give it as of now: its start is dated against the moment it is written down, which may be long after."""
        return replace(
            self.settlement, started_seconds_ago=self.settlement.started_seconds_ago + max(0.0, now - self.since)
        )


class Settler:
    """One for the process. What waits here is bounded by the slots: nothing is sent while it is too much."""

    def __init__(self, outbox: Outbox, *, slots: Slots, outage: Outage, monotonic: Callable[[], float]) -> None:
        """Take the outbox to write to, who is to hear how much waits here, and how to wait while the outbox is away."""
        self._outbox = outbox
        self._slots = slots
        self._monotonic = monotonic
        self._retry = Retry(outage, part="settle")
        self._waiting: deque[_Waiting] = deque()
        self._in_hand: list[_Waiting] = []
        self._work = asyncio.Event()
        self._is_refused = False

    def settle(self, settlement: Settlement) -> Awaitable[bool]:
        """Take one to write down; to be awaited until it is. False when its lease turned out to be lost."""
        is_kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(settlement=settlement, since=self._monotonic(), is_kept=is_kept))
        self._slots.note_unsettled()
        self._work.set()
        return is_kept

    async def run(self) -> None:
        """Settle until cancelled: when nothing can come any more, or at the deadline, with one last settle."""
        try:
            await self._settle_all()
        finally:
            await self._settle_last()

    async def _settle_all(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                self._in_hand = batch
                refused = await self._settle_or_split(batch)
                self._in_hand = []
                if refused:
                    # They stay owed and in memory, so they are not sent again meanwhile; the others go on.
                    self._waiting.extend(refused)
                    await self._retry.pause()
                else:
                    self._is_refused = False
                    self._retry.succeeded()

    async def _settle_last(self) -> None:
        # What was in hand may be written already: settling twice is safe.
        last, now = [*self._in_hand, *self._waiting], self._monotonic()
        if last:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._outbox.settle([each.aged(now) for each in last])

    async def _settle_or_split(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """Write a batch down; one that the database refuses is split until the offender stands alone."""
        try:
            await self._settle(batch, _whole)
        except Exception as error:  # noqa: BLE001 -- the one of this loop: whatever it is, the others get written down
            if len(batch) > 1:
                half = len(batch) // 2
                return [*await self._settle_or_split(batch[:half]), *await self._settle_or_split(batch[half:])]
            return await self._settle_bare(batch, error)
        return []

    async def _settle_bare(self, batch: Sequence[_Waiting], error: Exception) -> list[_Waiting]:
        """Leave out what a receiver can have a say in, and try once more; give back what is refused even so."""
        try:
            await self._settle(batch, _bare)
        except Exception:  # noqa: BLE001 -- likewise
            if not self._is_refused:
                self._is_refused = True
                _log.exception("settlement.refused", delivery_id=_delivery_id(batch[0]))
            # By the time it is written, its lane may fare otherwise.
            self._note_settled(batch)
            bare = (replace(each.settlement, health=None) for each in batch)
            return [replace(each, settlement=one, is_refused=True) for each, one in zip(batch, bare, strict=True)]
        _log.warning("settlement.stripped", delivery_id=_delivery_id(batch[0]), error=repr(error))
        return []

    async def _settle(self, batch: Sequence[_Waiting], form: Callable[[Settlement], Settlement]) -> None:
        """Write a batch down in that form, as soon as the database is there."""
        lost = await self._write(batch, form)
        SETTLEMENTS_REFUSED.inc(
            sum(
                each.settlement.lease.lane_id in lost and each.settlement.verdict.status != "delivered"
                for each in batch
            )
        )
        for each in batch:
            if not each.is_kept.done():
                each.is_kept.set_result(each.settlement.lease.lane_id not in lost)
        self._note_settled(batch)

    def _note_settled(self, batch: Sequence[_Waiting]) -> None:
        self._slots.note_settled(sum(not each.is_refused for each in batch))

    async def _write(self, batch: Sequence[_Waiting], form: Callable[[Settlement], Settlement]) -> frozenset[LaneId]:
        while True:
            now = self._monotonic()
            writing = asyncio.ensure_future(self._outbox.settle([form(each.aged(now)) for each in batch]))
            try:
                return await self._finish(writing)
            except StoreUnavailable as error:
                await self._retry.pause(error)

    async def _finish(self, writing: asyncio.Future[frozenset[LaneId]]) -> frozenset[LaneId]:
        """Let a settle under way end when this task is cancelled: better finished than repeated."""
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            if not writing.done():
                await asyncio.wait([writing], timeout=LAST_SECONDS)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            raise


def _whole(settlement: Settlement) -> Settlement:
    return settlement


def _bare(settlement: Settlement) -> Settlement:
    if settlement.outcome is None:
        return settlement
    outcome = replace(settlement.outcome, error="what the receiver said could not be kept", response=b"")
    return replace(settlement, outcome=outcome)


def _delivery_id(waiting: _Waiting) -> str:
    return waiting.settlement.owed.idempotency_key
