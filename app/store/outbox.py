"""The outbox as the relay sees it: each call a short transaction, or two; no statement is written here."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.delivery import Fetched, InOrder, LaneSurvey, Lease, Owed, Settlement, crowded_by
from app.domain.errors import StoreError
from app.domain.ids import LaneId, ReplicaId
from app.store import endpoints, high_water, lanes, owed, reordered, replicas, settle
from app.store.cancel import CANCELLED_AT_ONCE, Way
from app.store.database import Database, is_partition_missing
from app.store.in_order import park_by_turn, park_in_line
from app.store.partitions import make_days
from app.store.patience import PATIENCE, Patience
from app.store.sweep import Sweep

# How often all replicas together sweep at most; each one asks every second.
SWEEP_PAUSE_SECONDS: Final = 0.5
# A look that finds only what waits for others puts that off and looks again, so often at most.
_LOOKS_IN_ORDER: Final = 8
T = TypeVar("T")
W = TypeVar("W")


class SqlOutbox:
    """The port Outbox over one database, for one replica."""

    def __init__(  # noqa: PLR0913 -- who it is, and how long and how much it may do, each by name
        self,
        database: Database,
        replica: ReplicaId,
        *,
        lease_seconds: float,
        sweep_pause_seconds: float = SWEEP_PAUSE_SECONDS,
        patience: Patience = PATIENCE,
        cancelled_at_once: int = CANCELLED_AT_ONCE,
    ) -> None:
        """Take the database, the id of this replica's life (a new one each start), and how long a lease holds.

        `patience` says when an endpoint that fails is disabled, and when a source is called stalled; a sweep cancels
        in slices of `cancelled_at_once`.
        """
        self._database = database
        self._replica = replica
        self._lease_seconds = lease_seconds
        self._sweep_pause_seconds = sweep_pause_seconds
        self._way = Way(database)
        self._sweep = Sweep(database, replica, patience, slice_rows=cancelled_at_once)
        self._noted_at = float("-inf")

    async def inherit(self) -> None:
        """Take over at once what an earlier life of this process held: for SQLite, which has no other replica."""
        async with self._database.write() as connection:
            await lanes.release_everyones(connection)

    async def survey(self) -> LaneSurvey:
        """Look at the lanes; now and then note that this replica lives; see the port."""
        asked_at = time.monotonic()
        if asked_at - self._noted_at >= self._lease_seconds / 3:
            async with self._database.write() as connection:
                await replicas.note_life(connection, self._replica)
            self._noted_at = asked_at
        async with self._database.read() as connection:
            return await lanes.survey(connection, self._replica, lease_seconds=self._lease_seconds)

    async def lease(self, limit: int) -> Sequence[Lease]:
        """Claim waiting lanes; see the port."""
        async with self._database.write() as connection:
            return await lanes.lease(connection, self._replica, limit=limit, lease_seconds=self._lease_seconds)

    async def renew(self, leases: Sequence[Lease]) -> frozenset[LaneId]:
        """Prolong leases; see the port."""
        if not leases:
            return frozenset()
        async with self._database.write() as connection:
            held = await lanes.renew(connection, self._replica, leases, lease_seconds=self._lease_seconds)
        return frozenset(lane_id for lane_id, _ in held)

    async def fetch(self, lease: Lease, *, limit: int, leave_out: Sequence[int]) -> Sequence[Owed]:
        """Read what is due; see the port."""
        async with self._database.read() as connection:
            return await owed.fetch(connection, lease, limit=limit, leave_out=leave_out)

    async def fetch_in_order(self, lease: Lease, *, limit: int, leave_out: Sequence[int], how: InOrder) -> Fetched:
        """Read what is due, by turn; see the port."""
        fetch = self._fetch_by_turn if how.is_reordered else self._fetch_in_line
        fetched = await fetch(lease, limit=limit, leave_out=leave_out, crowded=how.crowded)
        if not how.with_marks or not fetched.rows:
            return fetched
        # After the rows: what was settled in between counts.
        async with self._database.read() as connection:
            return replace(fetched, rows=await high_water.tell(connection, lease, fetched.rows))

    async def make_way(self, lease: Lease) -> None:
        """Cancel what was deleted and is due next; see the port."""
        await self._with_days(lambda: self._way.clear(lease))

    async def settle(self, settlements: Sequence[Settlement]) -> frozenset[LaneId]:
        """Write down what tries gave; see the port."""
        if not settlements:
            return frozenset()
        return await self._with_days(lambda: self._settle(settlements))

    async def rest(self, lease: Lease) -> bool:
        """Say that a lane looks empty; see the port. True also for a lost lease: there is nothing to look for."""
        async with self._database.write() as connection:
            if not await lanes.lie_down(connection, self._replica, lease):
                return True
        async with self._database.write() as connection:
            return await lanes.set_alarm(connection, self._replica, lease)

    async def release(self, leases: Sequence[Lease]) -> None:
        """Give lanes back at once; see the port."""
        if not leases:
            return
        async with self._database.write() as connection:
            await lanes.release(connection, self._replica, leases)

    async def suspend(self, lease: Lease, *, seconds: float) -> None:
        """Give a lane back for nobody to have for a while; see the port."""
        async with self._database.write() as connection:
            await lanes.suspend(connection, self._replica, lease, seconds=seconds)

    async def sweep(self) -> int:
        """Wake what sleeps over something due and cancel what nobody wants any more; see the port."""
        return await self._with_days(lambda: self._sweep.sweep(pause_seconds=self._sweep_pause_seconds))

    async def retire(self) -> None:
        """Count no more among those that share the lanes; see the port."""
        async with self._database.write() as connection:
            await replicas.forget(connection, self._replica)

    async def leave(self) -> None:
        """Say that this replica is gone, and give back what it still holds; see the port."""
        async with self._database.write() as connection:
            await lanes.release_all(connection, self._replica)
            await replicas.forget(connection, self._replica)

    async def _fetch_in_line(
        self, lease: Lease, *, limit: int, leave_out: Sequence[int], crowded: Mapping[int, int]
    ) -> Fetched:
        for _ in range(_LOOKS_IN_ORDER):
            async with self._database.read() as connection:
                look = await owed.look_in_line(connection, lease, limit=limit, leave_out=leave_out, crowded=crowded)
            if look.waiting and not await self._park(park_in_line, lease, look.waiting):
                return Fetched(rows=look.may_go, is_all=True)
            if look.may_go or look.is_all:
                return Fetched(rows=look.may_go, is_all=look.is_all)
        return Fetched(rows=(), is_all=False)

    async def _fetch_by_turn(
        self, lease: Lease, *, limit: int, leave_out: Sequence[int], crowded: Mapping[int, int]
    ) -> Fetched:
        rows: list[Owed] = []
        looked_at = limit
        for _ in range(_LOOKS_IN_ORDER):
            at_hand = reordered.AtHand(
                row_ids=[*leave_out, *(row.row_id for row in rows)], crowded={**crowded_by(rows), **crowded}
            )
            async with self._database.read() as connection:
                look = await reordered.look(
                    connection, lease, limit=limit - len(rows), at_hand=at_hand, looked_at=looked_at
                )
            rows += look.may_go
            if look.waiting and not await self._park(park_by_turn, lease, look.waiting):
                return Fetched(rows=rows, is_all=True)
            # Where nothing goes and nothing waits, something cancelled is in the way: the sweep will have it.
            if look.is_all or not (look.may_go or look.waiting):
                return Fetched(rows=rows, is_all=True)
            if len(rows) >= limit:
                break
            looked_at = max(limit, reordered.LOOKED_ON)
        return Fetched(rows=rows, is_all=False)

    async def _park(
        self,
        park: Callable[[AsyncConnection, ReplicaId, Lease, Mapping[int, W]], Awaitable[bool]],
        lease: Lease,
        waiting: Mapping[int, W],
    ) -> bool:
        """Park what waits; False when the lease is lost."""
        return await self._database.write_again(lambda connection: park(connection, self._replica, lease, waiting))

    async def _settle(self, settlements: Sequence[Settlement]) -> frozenset[LaneId]:
        lost = await self._database.write_again(
            lambda connection: settle.settle(connection, self._replica, settlements, lease_seconds=self._lease_seconds)
        )
        await self._disable(settlements, lost)
        return lost

    async def _disable(self, settlements: Sequence[Settlement], lost: frozenset[LaneId]) -> None:
        # Apart from the settle: a change of the set-up locks first what a settle locks last.
        for each in settlements:
            if each.verdict.disables and each.lease.lane_id not in lost:
                code = each.outcome.status_code if each.outcome else None
                reason = f"The receiver answered {code}: it wants no more."
                async with self._database.write() as connection:
                    await endpoints.disable(connection, each.lease.endpoint_id, reason=reason)

    async def _with_days(self, work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except StoreError as error:
            if not is_partition_missing(error):
                raise
        # The upkeep makes the days of the history a week ahead; should it be late, deliveries do not wait for it.
        await self._database.write_again(make_days)
        return await work()
