"""A run through the quarantine, oldest first: in slices, within a bound of time, to be gone on with by its place.

Each thing is come to at most once a run, so a run ends: it covers what was there when it began. What is done with a
slice is told by the caller.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.ids import LaneId, QuarantineId, TenantId
from app.store.columns import one_of
from app.store.joined import Transactions
from app.store.outbox_schema import quarantine
from app.store.place import Place
from app.store.quarantine import Kept, QuarantineFilter, count_kept, find_oldest, newest_place

# A transaction a slice: none holds its locks for longer than a blink.
SLICE: Final = 100
RUN_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """What a run still has before it: what is kept after one place, None for the beginning, up to the last."""

    after: Place | None
    last: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became of a slice: how many things are gone and how many refused again, and the place it was read up to."""

    up_to: Place
    gone: int
    refused: int = 0
    lanes: frozenset[LaneId] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleared:
    """What became of a run: `remaining` things it did not come to, which it goes on with at `rest`."""

    gone: int = 0
    refused: int = 0
    remaining: int = 0
    rest: Extent | None = None
    lanes: frozenset[LaneId] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Which things are gone through, and where an earlier call got to; None begins anew."""

    tenant_id: TenantId
    wanted: QuarantineFilter
    extent: Extent | None = None


async def preview(database: Transactions, run: Run) -> int:
    """Count what a run would come to."""
    async with database.read() as connection:
        extent = await _extent(connection, run)
        return 0 if extent is None else await _count(connection, run, extent)


async def clear(
    database: Transactions,
    run: Run,
    work: Callable[[Sequence[Kept]], Awaitable[Step]],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Cleared:
    """Go through the quarantine until the end or until the time is over, one slice at least; a step must advance."""
    async with database.read() as connection:
        extent = await _extent(connection, run)
    cleared, ends_at = Cleared(), clock() + RUN_SECONDS
    while extent is not None:
        async with database.read() as connection:
            found = await find_oldest(
                connection,
                run.tenant_id,
                wanted=run.wanted,
                between=(extent.after, extent.last),
                limit=SLICE,
            )
        if not found:
            return cleared
        step = await work(found)
        extent = replace(extent, after=step.up_to)
        cleared = _sum(cleared, step)
        if clock() >= ends_at:
            return await _interrupted(database, run, extent, cleared)
    return cleared


async def discard(connection: AsyncConnection, tenant_id: TenantId, quarantine_id: QuarantineId) -> bool:
    """Delete one; False when there is none."""
    deleted = await connection.execute(
        delete(quarantine).where(quarantine.c.id == quarantine_id, quarantine.c.tenant_id == tenant_id)
    )
    return deleted.rowcount > 0


async def discard_all(database: Transactions, run: Run, *, clock: Callable[[], float] = time.monotonic) -> Cleared:
    """Delete what a filter takes, slice by slice."""

    async def work(found: Sequence[Kept]) -> Step:
        gone = await database.write_again(lambda connection: _discard_slice(connection, found))
        return Step(up_to=found[-1].place, gone=gone)

    return await clear(database, run, work, clock=clock)


async def claim(connection: AsyncConnection, ids: Sequence[QuarantineId]) -> frozenset[QuarantineId]:
    """Lock things until the transaction ends and tell which are still there; in one order, so that nobody deadlocks."""
    found = await connection.execute(
        select(quarantine.c.id)
        .where(one_of(connection, quarantine.c.id, ids))
        .order_by(quarantine.c.id)
        .with_for_update()
    )
    return frozenset(QuarantineId(each) for each in found.scalars())


async def remove(connection: AsyncConnection, ids: Sequence[QuarantineId]) -> None:
    """Delete things that were claimed."""
    if ids:
        await connection.execute(delete(quarantine).where(one_of(connection, quarantine.c.id, ids)))


async def _discard_slice(connection: AsyncConnection, found: Sequence[Kept]) -> int:
    there = await claim(connection, [each.id for each in found])
    await remove(connection, list(there))
    return len(there)


async def _extent(connection: AsyncConnection, run: Run) -> Extent | None:
    if run.extent is not None:
        return run.extent
    # By place, not by the clock: what comes in or is split off meanwhile comes after it.
    last = await newest_place(connection, run.tenant_id)
    return None if last is None else Extent(after=None, last=last)


async def _count(connection: AsyncConnection, run: Run, extent: Extent) -> int:
    return await count_kept(connection, run.tenant_id, wanted=run.wanted, between=(extent.after, extent.last))


async def _interrupted(database: Transactions, run: Run, extent: Extent, cleared: Cleared) -> Cleared:
    async with database.read() as connection:
        remaining = await _count(connection, run, extent)
    return replace(cleared, remaining=remaining, rest=extent if remaining else None)


def _sum(cleared: Cleared, step: Step) -> Cleared:
    return Cleared(
        gone=cleared.gone + step.gone, refused=cleared.refused + step.refused, lanes=cleared.lanes | step.lanes
    )
