"""The sweep: the guarantee behind every hint. Wakes lanes, ends what was deleted or is too old, notes what is amiss."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import Select, delete, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.errors import StoreError, StoreUnavailable
from app.domain.identity import ORDER_KEY_OF_ALL
from app.domain.ids import EndpointId, LaneId, ReplicaId
from app.store import chores, endpoints, lanes, low_water, replicas, unordered
from app.store.cancel import cancel_what_was_deleted
from app.store.columns import now, one_of
from app.store.database import Database
from app.store.expiry import Expiry
from app.store.in_order import unpark
from app.store.outbox_schema import dead_letter, delivery, lane
from app.store.patience import Patience
from app.store.schema import endpoint
from app.store.stalls import look_for_stalls

_CHORE: Final = "sweep"
_CHORE_SECONDS: Final = 5.0
_LOOKED_AT_A_SWEEP: Final = 50
_UNBLOCKED_AT_ONCE: Final = 1_000
_SLICES_A_SWEEP: Final = 5
# How far below all marks every so many sweeps look: most transactions end within a blink, and none takes minutes. A few
# lanes a sweep are looked at from the beginning of time, in turn.
_BELOW_MARKS: Final = ((10, 120.0), (1, 5.0))
_LANES_A_SWEEP: Final = 20
_DAY_SECONDS: Final = 86_400.0
# Longer than a lane that fails all the while goes without a word of it (relay/health.py).
_JUST_FAILED_SECONDS: Final = 600.0
# Replicas silent for so long are not even of interest to people any more.
_FORGOTTEN_AFTER_SECONDS: Final = 3_600.0

_log = structlog.get_logger(__name__)


class Sweep:
    """One replica's part in the sweep."""

    def __init__(self, database: Database, replica: ReplicaId, patience: Patience, *, slice_rows: int) -> None:
        self._database = database
        self._replica = replica
        self._patience = patience
        self._expiry = Expiry(database)
        self._sweeps = 0
        # One that fails ends the sweep, and comes last in the next: none keeps the others from their turn.
        self._steps: deque[Callable[[], Awaitable[None]]] = deque(
            (
                partial(cancel_what_was_deleted, database, slice_rows=slice_rows),
                self._unblock,
                self._let_go,
                self._expiry.run,
                self._disable_failing,
                partial(look_for_stalls, database, patience),
            )
        )
        self._looked_to = LaneId(0)

    async def sweep(self, *, pause_seconds: float) -> int:
        """Do it, unless another replica does or just did; gives the number of lanes woken."""
        if not await chores.claim(
            self._database, _CHORE, self._replica, lease_seconds=_CHORE_SECONDS, pause_seconds=pause_seconds
        ):
            return 0
        woken = await self._wake()
        if await self._lower_marks():
            woken += await self._wake()
        for number, step in enumerate(tuple(self._steps), start=1):
            try:
                await step()
            except StoreError:
                self._steps.rotate(-number)
                raise
        async with self._database.write() as connection:
            await replicas.forget_dead(connection, silent_seconds=_FORGOTTEN_AFTER_SECONDS)
            await chores.finish(connection, _CHORE, self._replica)
        return woken

    async def _lower_marks(self) -> bool:
        """Let lanes look at what was committed too late to be above their mark, if any was; see low_water.py."""
        seconds = next(span for every, span in _BELOW_MARKS if self._sweeps % every == 0)
        self._sweeps += 1
        try:
            async with self._database.read() as connection:
                found = list(await connection.execute(low_water.below_statement(seconds=seconds)))
                in_turn = await self._lanes_in_turn(connection)
                found += await connection.execute(low_water.below_statement(seconds=None, lanes=in_turn))
        except StoreUnavailable as error:
            # Where a snapshot keeps millions of dead entries below a mark, a look takes longer than a statement may.
            _log.warning("lane.unseen_below_mark", error=str(error))
            return False
        if not found:
            return False
        async with self._database.write() as connection:
            for row in found:
                await low_water.lower(connection, LaneId(row.id), row.due_at, row.due_id)
        return True

    async def _lanes_in_turn(self, connection: AsyncConnection) -> Sequence[LaneId]:
        following = select(lane.c.id).where(lane.c.id > self._looked_to).order_by(lane.c.id).limit(_LANES_A_SWEEP)
        found = [LaneId(each) for each in (await connection.execute(following)).scalars()]
        self._looked_to = found[-1] if len(found) == _LANES_A_SWEEP else LaneId(0)
        return found

    async def _wake(self) -> int:
        async with self._database.read() as connection:
            asleep = [LaneId(each) for each in (await connection.execute(sleeping_statement())).scalars()]
        if not asleep:
            return 0
        async with self._database.write() as connection:
            return await lanes.wake(connection, asleep)

    async def _disable_failing(self) -> None:
        """Disable endpoints that took nothing for days: each in a change of the set-up of its own."""
        async with self._database.read() as connection:
            failing = list(await connection.execute(_failing_for_long(self._patience.disable_after_seconds)))
        for row in failing:
            days = self._patience.disable_after_seconds / _DAY_SECONDS
            async with self._database.write() as connection:
                await endpoints.disable(
                    connection, EndpointId(row.endpoint_id), reason=f"Every attempt failed for {days:g} days."
                )

    async def _unblock(self) -> None:
        """Let go on what waits for dead letters that are kept no more, or that need not be waited for any more."""
        async with self._database.read() as connection:
            rows = list(await connection.execute(_NEEDLESS.limit(_UNBLOCKED_AT_ONCE)))
        if not rows:
            return
        keys = {(LaneId(row.lane_id), int(row.order_key)) for row in rows if row.order_key is not None}
        async with self._database.write() as connection:
            await lanes.lock(connection, {lane_id for lane_id, _ in keys})
            ids = [row.id for row in rows]
            await connection.execute(delete(delivery).where(one_of(connection, delivery.c.id, ids), delivery.c.blocks))
            await unpark(connection, keys)

    async def _let_go(self) -> None:
        """Let go a few slices of what was parked where an order is kept no more."""
        async with self._database.read() as connection:
            left = list(await unordered.find_unordered(connection))
        for _ in range(_SLICES_A_SWEEP):
            if not left:
                return
            if await self._database.write_again(partial(unordered.let_go, lane_id=left[0])) < unordered.LET_GO_AT_ONCE:
                left.pop(0)


def sleeping_statement() -> Select[int]:
    """Build the search for lanes that sleep over something due; a test looks at its plan.

    One look at the index for each sleeping lane: a join over the outbox could read all of it.
    """
    return select(lane.c.id).where(lane.c.wake_at > now(), low_water.first_due() <= now())


def _failing_for_long(seconds: float) -> Select[Any]:
    return (
        select(lane.c.endpoint_id)
        .join(endpoint, endpoint.c.id == lane.c.endpoint_id)
        .where(
            lane.c.failing_since < now(-seconds),
            # Only what just failed: a failure and then silence is no failing for days, and neither is a pause.
            lane.c.last_failed_at > now(-_JUST_FAILED_SECONDS),
            lane.c.is_stopped.is_(False),
            endpoint.c.deleted_at.is_(None),
        )
        .limit(_LOOKED_AT_A_SWEEP)
    )


_NEEDLESS: Final = (
    select(delivery.c.id, delivery.c.lane_id, delivery.c.order_key)
    .join(endpoint, endpoint.c.id == delivery.c.endpoint_id)
    .where(
        delivery.c.blocks,
        or_(
            endpoint.c.on_dead == "skip",
            # Recorded under another order than the endpoint keeps now.
            endpoint.c.ordering == "none",
            (endpoint.c.ordering == "endpoint") != (delivery.c.order_key == ORDER_KEY_OF_ALL),
            ~exists().where(dead_letter.c.delivery_key == delivery.c.delivery_key).correlate(delivery),
        ),
    )
)
