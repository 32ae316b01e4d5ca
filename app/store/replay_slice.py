"""A slice of a replay: owes again what was owed before, or what a newer subscription never was.

It takes some events in the order they were recorded and owes what the job wants of them, in one transaction with the
place it has come to: a job goes on where it stood, whoever does the next slice. When to do one is replaying.py's.

**What commits late.** An event is dated before it is committed, and matched by the subscriptions of when its
transaction began. So a job begins when no transaction is left that began before the job was made; till then it might
pass such an event unseen. What came between the two moments was matched by a set-up that may be older than the job, so
the job looks at it too, and owes what nobody owed.

**Below live traffic.** A job stops before the first event that it owes on a lane that is behind, but for a few now and
then, so that it comes to its end however busy the lane is.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.domain.configuration import Configuration
from app.domain.identity import order_key, replayed_key
from app.domain.ids import EndpointId, LaneId, ReplayId, TenantId
from app.domain.order import FAMILY_BYTES
from app.store import history, lanes, open_transactions
from app.store.columns import now, one_of
from app.store.history import Debt
from app.store.low_water import first_due
from app.store.outbox_schema import dead_letter, delivery, lane
from app.store.place import Place
from app.store.replay import Replay, job_of
from app.store.replay_walk import WALKED_AT_ONCE, Span, Walked, walk
from app.store.replay_wanted import Candidate, find_wanted
from app.store.schema import replay

# A lane is behind when something that could have been sent has waited for so long.
BEHIND_SECONDS: Final = 2.0
# What a job may owe on lanes that are behind: so many events when it has stood still for so long.
HELD_EVENTS: Final = 10
HELD_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a slice did: the lanes that owe something now, whether the job is done, or has to wait."""

    looked_at: int = 0
    owed: int = 0
    lanes: frozenset[LaneId] = frozenset()
    is_last: bool = False
    waits: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """What a slice does of what it could, and the endpoint for whose lane it does no more."""

    walked: Walked
    wanted: Sequence[Candidate]
    held_by: EndpointId | None


async def do_slice(
    connection: AsyncConnection,
    replay_id: ReplayId,
    known: Configuration,
    *,
    limit: int,
    most_walked: int = WALKED_AT_ONCE,
) -> Slice | None:
    """Look at the next events of a job and owe what it wants of them; None when the job is not running."""
    found = await connection.execute(
        select(replay, (replay.c.updated_at <= now(-HELD_SECONDS)).label("is_overdue"))
        .where(replay.c.id == replay_id, replay.c.state == "running")
        .with_for_update()
    )
    row = found.one_or_none()
    if row is None:
        return None
    job = job_of(row)
    begun_at = job.begun_at or await _begin(connection, job)
    if begun_at is None:
        return Slice(waits=True)
    place = None if row.after_at is None else Place(at=row.after_at, id=row.after_id)
    span = Span(tenant_id=job.tenant_id, wanted=job.wanted.events, after=place, until=begun_at)
    walked = await walk(connection, span, limit=limit, most_walked=most_walked)
    wanted = [
        each
        for each in await find_wanted(connection, job.tenant_id, walked.rows, job.wanted, known)
        if each.stored.recorded_at <= job.created_at or each.state.status is None
    ]
    share = await _hold_back(connection, walked, wanted, is_overdue=row.is_overdue)
    await _owe(connection, job, share.wanted)
    await _move_on(connection, job, share)
    return Slice(
        looked_at=len(share.walked.rows),
        owed=len(share.wanted),
        lanes=frozenset(each.endpoint.lane_id for each in share.wanted),
        is_last=share.walked.is_end,
        waits=share.held_by is not None,
    )


async def _begin(connection: AsyncConnection, job: Replay) -> datetime | None:
    if await open_transactions.may_commit(connection, begun_before=job.created_at):
        return None
    begun = await connection.execute(
        update(replay).where(replay.c.id == job.id).values(begun_at=now()).returning(replay.c.begun_at)
    )
    moment: datetime = begun.scalar_one()
    return moment


async def _hold_back(
    connection: AsyncConnection, walked: Walked, wanted: Sequence[Candidate], *, is_overdue: bool
) -> _Share:
    """Stop before the first event that is owed on a lane that is behind."""
    behind = await _behind(connection, {each.endpoint.lane_id for each in wanted})
    first = next((each for each in wanted if each.endpoint.lane_id in behind), None)
    if first is None:
        return _Share(walked=walked, wanted=wanted, held_by=None)
    free = next(place for place, row in enumerate(walked.rows) if row.id == first.stored.event.id)
    walked = walked.cut(free or (HELD_EVENTS if is_overdue else 0))
    ids = {each.id for each in walked.rows}
    left = [each for each in wanted if each.stored.event.id in ids]
    return _Share(walked=walked, wanted=left, held_by=first.endpoint.id)


async def _behind(connection: AsyncConnection, among: Collection[LaneId]) -> Collection[LaneId]:
    """Tell which lanes that may be served have had something due for long."""
    found = await connection.execute(
        select(lane.c.id).where(
            one_of(connection, lane.c.id, among),
            lane.c.is_stopped.is_(False),
            lane.c.breaker_until <= now(),
            first_due() < now(-BEHIND_SECONDS),
        )
    )
    return {LaneId(each) for each in found.scalars()}


async def _owe(connection: AsyncConnection, job: Replay, wanted: Sequence[Candidate]) -> None:
    if not wanted:
        return
    # First the lanes, as everywhere.
    await lanes.lock(connection, {each.endpoint.lane_id for each in wanted})
    if not job.new_keys:
        keys = [each.key for each in wanted]
        await connection.execute(delete(dead_letter).where(one_of(connection, dead_letter.c.delivery_key, keys)))
        # One that blocks keeps its row, and goes before those that wait for it: see retry.py.
        await connection.execute(
            update(delivery)
            .where(one_of(connection, delivery.c.delivery_key, keys), delivery.c.blocks)
            .values(**_unblocked())
        )
        await history.reopen(connection, [_debt(job.tenant_id, each) for each in wanted])
    else:
        for each in wanted:
            # It takes the place of the dead one, which those behind it waited for; that one stays dead.
            await connection.execute(
                update(delivery)
                .where(delivery.c.delivery_key == each.key, delivery.c.blocks)
                .values(delivery_key=replayed_key(each.key, job.id), tries=0, created_at=now(), **_unblocked())
            )
    choose = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    await connection.execute(
        choose(delivery)
        .values(failures=0, blocks=False, due_at=now(), owed_at=now(), created_at=now())
        .on_conflict_do_nothing(),
        [_row(job, each) for each in wanted],
    )


async def _move_on(connection: AsyncConnection, job: Replay, share: _Share) -> None:
    walked = share.walked
    place = {} if walked.place is None else {"after_at": walked.place.at, "after_id": walked.place.id}
    await connection.execute(
        update(replay)
        .where(replay.c.id == job.id)
        .values(
            looked_at=replay.c.looked_at + sum(each.recorded_at <= job.created_at for each in walked.rows),
            owed=replay.c.owed + len(share.wanted),
            held_by=share.held_by,
            **place,
            # Where it stands still, that tells since when.
            **({"updated_at": now()} if walked.has_moved else {}),
            **({"state": "done", "ended_at": now()} if walked.is_end else {}),
        )
    )


def _unblocked() -> dict[str, Any]:
    return {
        "blocks": False,
        "failures": 0,
        "place": func.substr(delivery.c.place, 1, FAMILY_BYTES),
        "due_at": now(),
        "owed_at": now(),
    }


def _row(job: Replay, candidate: Candidate) -> dict[str, Any]:
    occurred = candidate.stored.event
    return {
        "tenant_id": job.tenant_id,
        "lane_id": candidate.endpoint.lane_id,
        "delivery_key": replayed_key(candidate.key, job.id) if job.new_keys else candidate.key,
        "endpoint_id": candidate.endpoint.id,
        "subscription_id": candidate.subscription.id,
        "event_day": occurred.day,
        "event_id": occurred.id,
        "order_key": order_key(candidate.endpoint.ordering, occurred.bucket, occurred.key),
        "tries": 0 if job.new_keys else candidate.state.tries,
    }


def _debt(tenant_id: TenantId, candidate: Candidate) -> Debt:
    return Debt(
        tenant_id=tenant_id,
        key=candidate.key,
        endpoint_id=candidate.endpoint.id,
        subscription_id=candidate.subscription.id,
        event_day=candidate.stored.event.day,
        event_id=candidate.stored.event.id,
        tries=0,
        created_at=candidate.stored.recorded_at,
    )
