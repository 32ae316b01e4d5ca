"""Works replays off: one replica at a time, a slice of each now and then. What a slice does is in replay_slice.py."""

import asyncio
from functools import partial
from typing import Final

import structlog

from app.domain.configuration import Configuration
from app.domain.errors import StoreError
from app.domain.ids import ReplayId, ReplicaId, public_id
from app.domain.ports import Wake
from app.store import chores, configuration, lanes, replay, replay_slice
from app.store.database import Database

SLICE_EVENTS: Final = 100
PAUSE_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 1.0
# A filter may take nothing of many slices.
_SLICES_A_TURN: Final = 10
_CHORE: Final = "replay"
_CHORE_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class Replaying:
    """One replica's part in the replays."""

    def __init__(self, database: Database, replica: ReplicaId, *, wake: Wake) -> None:
        """Take the database, who this is, and the hint for lanes that owe something."""
        self._database = database
        self._replica = replica
        self._wake = wake

    async def run(self, stop: asyncio.Event) -> None:
        """Work replays off until stopped, which cuts it short: a slice is done whole or not at all."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                work = asyncio.create_task(self._step_safely())
                await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
                work.cancel()
                await asyncio.wait((work,))
                has_more = not work.cancelled() and work.result()
                await asyncio.wait((stopping,), timeout=PAUSE_SECONDS if has_more else IDLE_SECONDS)
        finally:
            stopping.cancel()

    async def step(self) -> bool:
        """Do a turn of each replay that runs, unless another replica does them; True when there is more to do."""
        async with self._database.read() as connection:
            jobs = await replay.running(connection)
        if not jobs or not await self._claim():
            return False
        async with self._database.read() as connection:
            known = await configuration.load(connection)
        has_more = False
        for job in jobs:
            has_more |= await self._do_turn(job, known)
            if not await self._claim():
                return False
        return has_more

    async def _claim(self) -> bool:
        return await chores.claim(
            self._database, _CHORE, self._replica, lease_seconds=_CHORE_SECONDS, pause_seconds=0.0
        )

    async def _step_safely(self) -> bool:
        try:
            return await self.step()
        except StoreError as error:
            _log.warning("replay.held", error=str(error))
        except Exception:  # noqa: BLE001 -- the one of this loop, which logs and goes on
            _log.exception("replay.stumbled")
        return False

    async def _do_turn(self, job: ReplayId, known: Configuration) -> bool:
        """Do slices of a job until one owes something, a few at most; True when the job could go on at once."""
        for _ in range(_SLICES_A_TURN):
            done = await self._database.write_again(
                partial(replay_slice.do_slice, replay_id=job, known=known, limit=SLICE_EVENTS)
            )
            if done is None:
                return False
            if done.lanes:
                async with self._database.write() as connection:
                    await lanes.wake_surely(connection, done.lanes)
                self._wake(done.lanes)
            if done.is_last:
                _log.info("replay.ended", replay_id=public_id("rpl", job))
            if done.is_last or done.waits:
                return False
            if done.owed:
                break
        return True
