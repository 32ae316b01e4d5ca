"""Writes down what attempts gave: all that finished while the last settle ran goes into the next one."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from app.domain.delivery import Settlement
from app.domain.errors import StoreError, StoreRefused
from app.domain.ids import LaneId
from app.domain.ports import Outbox, Sleep
from app.relay.outage import Outage

BATCH: Final = 500
# So long a settler that is cancelled still writes.
LAST_SECONDS: Final = 2.0

Waiting = tuple[Settlement, asyncio.Future[bool]]

_log = structlog.get_logger(__name__)


class Settler:
    """One for the process. What waits here is bounded by what is in flight."""

    def __init__(self, outbox: Outbox, *, sleep: Sleep) -> None:
        """Take the outbox to write to, and how to wait while it is away."""
        self._outbox = outbox
        self._sleep = sleep
        self._waiting: deque[Waiting] = deque()
        self._work = asyncio.Event()

    async def settle(self, settlement: Settlement) -> bool:
        """Wait until it is written down; False when its lease turned out to be lost."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((settlement, done))
        self._work.set()
        return await done

    async def run(self) -> None:
        """Settle until cancelled: when nothing can come any more, or at the deadline, with one last settle."""
        try:
            await self._settle_all()
        finally:
            await self._write_last()

    async def _settle_all(self) -> None:
        outage = Outage("outbox.unsettled", sleep=self._sleep)
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                await self._write(batch, outage)

    async def _write(self, batch: Sequence[Waiting], outage: Outage) -> None:
        try:
            lost = await self._write_patiently([settlement for settlement, _ in batch], outage)
        except StoreRefused as refused:
            await self._write_pieces(batch, refused, outage)
            return
        for settlement, done in batch:
            if not done.done():
                done.set_result(settlement.lease.lane_id not in lost)

    async def _write_pieces(self, batch: Sequence[Waiting], refused: StoreRefused, outage: Outage) -> None:
        """Write a refused batch in halves, so that one settlement the database does not take holds up no other."""
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._write(batch[:middle], outage)
            await self._write(batch[middle:], outage)
            return
        settlement, done = batch[0]
        plain = _without_words(settlement)
        if plain != settlement:
            await self._write([(plain, done)], outage)
            return
        # Nobody is told: its delivery stays in memory, so that it is not sent again and again.
        _log.error("settlement.refused", delivery_id=settlement.owed.idempotency_key, error=str(refused))

    async def _write_patiently(self, batch: Sequence[Settlement], outage: Outage) -> frozenset[LaneId]:
        while True:
            try:
                lost = await self._write_once(batch)
            except StoreRefused:
                raise
            except StoreError as error:
                await outage.pause(error)
            except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
                _log.exception("settle.failed", settlements=len(batch))
                await outage.pause(None)
            else:
                outage.end()
                return lost

    async def _write_once(self, batch: Sequence[Settlement]) -> frozenset[LaneId]:
        # Shielded: a settle under way is better finished than sent once more by somebody else.
        writing = asyncio.ensure_future(self._outbox.settle(batch))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await writing
            raise

    async def _write_last(self) -> None:
        last = [settlement for settlement, _ in self._waiting]
        if last:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._outbox.settle(last)


def _without_words(settlement: Settlement) -> Settlement:
    """Leave out what a receiver said."""
    if settlement.outcome is None:
        return settlement
    return replace(settlement, outcome=replace(settlement.outcome, error=None, response=b""))
