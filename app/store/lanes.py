"""Lanes: who holds them, until when, and whether they look as if something is due. What they owe is in owed.py.

A lane is held while it names its owner and the fence of that claim: a claim that ran out but that nobody took since is
still good. Whoever locks several lanes does it in the order of their ids.
"""

import functools
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Float,
    FromClause,
    Integer,
    LargeBinary,
    Row,
    Select,
    and_,
    bindparam,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningUpdate, Update

from app.domain.delivery import TRIALS_HELD, Health, LaneSurvey, Lease
from app.domain.ids import EndpointId, LaneId, ReplicaId
from app.store import low_water, replicas
from app.store.columns import FAR, now, one_of, one_of_named
from app.store.lane_health import counts_as_trial, is_on_trial
from app.store.outbox_schema import lane
from app.store.owed import next_due

# A replica that gave no sign of life for this part of a lease has missed one, and its own leases are about to end: its
# share is then the others' by the time its lanes are free.
LIVE_SHARE: Final = 0.75
_LYING_DOWN_MILLISECONDS: Final = 500


async def survey(connection: AsyncConnection, replica: ReplicaId, *, lease_seconds: float) -> LaneSurvey:
    """Count what waits, what is active and who lives; changes nothing."""
    count, mine = _survey_statements(replica, lease_seconds)
    counts = (await connection.execute(count)).one()
    awake = (await connection.execute(mine)).scalars() if counts.mine else ()
    return LaneSurvey(
        waiting=counts.waiting + min(counts.waiting_on_trial, max(0, TRIALS_HELD - counts.mine_on_trial)),
        awake=frozenset(LaneId(each) for each in awake),
        active=counts.active + min(counts.active_on_trial, TRIALS_HELD * counts.replicas),
        replicas=counts.replicas,
        rank=counts.rank,
        suspended=counts.suspended,
    )


@functools.lru_cache(maxsize=16)
def _survey_statements(replica: ReplicaId, lease_seconds: float) -> tuple[Select[*tuple[Any, ...]], Select[int]]:
    # Built once: each replica asks twenty times a second.
    is_leased, is_awake = lane.c.lease_until > now(), lane.c.wake_at <= now()
    is_mine = and_(lane.c.owner == replica, is_leased, is_awake)
    is_active, on_trial = or_(is_leased, _is_waiting()), counts_as_trial()
    count = select(
        func.count().filter(_is_waiting(), ~on_trial).label("waiting"),
        func.count().filter(_is_waiting(), on_trial).label("waiting_on_trial"),
        func.count().filter(is_active, ~on_trial).label("active"),
        func.count().filter(is_active, on_trial).label("active_on_trial"),
        func.count().filter(lane.c.owner == replica, is_leased, on_trial).label("mine_on_trial"),
        func.count().filter(is_mine).label("mine"),
        func.count().filter(lane.c.breaker_until > now()).label("suspended"),
        replicas.count_live(LIVE_SHARE * lease_seconds).label("replicas"),
        replicas.count_live(LIVE_SHARE * lease_seconds, before=replica).label("rank"),
    ).select_from(lane)
    return count, select(lane.c.id).where(is_mine)


async def lease(
    connection: AsyncConnection, replica: ReplicaId, *, limit: int, lease_seconds: float
) -> Sequence[Lease]:
    """Claim waiting lanes, longest unserved first; those another replica is just looking at are passed over."""
    found = await connection.execute(_waiting_statement(), {"replica": replica, "places": limit})
    in_order = list(found.scalars())
    if not in_order:
        return ()
    taken = await connection.execute(
        _take_statement(connection.dialect.name), {"lanes": in_order, "replica": replica, "seconds": lease_seconds}
    )
    claimed = {row.id: _lease(row) for row in taken}
    return [claimed[each] for each in in_order]


def waiting_statement(replica: ReplicaId, limit: int) -> Select[int]:
    """Give the search for lanes to lease, which locks what it finds, for a test to look at its plan."""
    return _waiting_statement().params(replica=replica, places=limit)


@functools.cache
def _waiting_statement() -> Select[int]:
    """Build that search: of lanes on trial as many as the replica has room for, however long they have waited."""
    others = lane.alias("others")
    is_mine = and_(others.c.owner == bindparam("replica", type_=LargeBinary), others.c.lease_until > now())
    # Those it holds come first, so that what is left of the places is for those that wait.
    with_a_place = (
        select(others.c.id)
        .where(or_(is_mine, _is_waiting(others)), counts_as_trial(others))
        .order_by(others.c.lease_until <= now(), others.c.last_served, others.c.id)
        .limit(TRIALS_HELD)
    )
    return (
        select(lane.c.id)
        .where(_is_waiting(), or_(~counts_as_trial(), lane.c.id.in_(with_a_place)))
        .order_by(lane.c.last_served, lane.c.id)
        .limit(bindparam("places", type_=Integer))
        .with_for_update(key_share=True, skip_locked=True)
    )


@functools.cache
def _take_statement(dialect: str) -> ReturningUpdate[*tuple[Any, ...]]:
    return (
        update(lane)
        .where(one_of_named(dialect, lane.c.id, "lanes"))
        .values(
            owner=bindparam("replica", type_=LargeBinary),
            fence=lane.c.fence + 1,
            lease_until=now(bindparam("seconds", type_=Float)),
            last_served=now(),
        )
        .returning(
            lane.c.id,
            lane.c.endpoint_id,
            lane.c.fence,
            lane.c.failures,
            lane.c.failing_since,
            lane.c.latency_seconds,
            lane.c.recovering_until,
            lane.c.last_served,
            is_on_trial().label("is_on_trial"),
        )
    )


async def renew(
    connection: AsyncConnection,
    replica: ReplicaId,
    leases: Collection[Lease],
    *,
    lease_seconds: float,
    ending: Collection[int] = (),
) -> frozenset[tuple[LaneId, int]]:
    """Prolong claims and lock their lanes for the rest of the transaction; gives lane and fence of those still held.

    `ending`: rows that this transaction will take out, whoever holds their lanes; the lanes' marks go up past them.
    """
    renewed = await connection.execute(
        _renew_statement(connection.dialect.name),
        {
            "lanes": sorted({each.lane_id for each in leases}),
            "replica": replica,
            "seconds": lease_seconds,
            "ending": list(ending),
        },
    )
    # A lane leased anew by this replica is prolonged too; the older claim is lost all the same.
    held = {(LaneId(row.id), int(row.fence)) for row in renewed}
    return frozenset(held & {(each.lane_id, each.fence) for each in leases})


@functools.cache
def _renew_statement(dialect: str) -> ReturningUpdate[int, int]:
    mine = (
        select(lane.c.id)
        .where(one_of_named(dialect, lane.c.id, "lanes"), lane.c.owner == bindparam("replica", type_=LargeBinary))
        .order_by(lane.c.id)
        .with_for_update(key_share=True)
        .cte("locked")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return (
        update(lane)
        .where(lane.c.id == mine.c.id)
        .values(lease_until=now(bindparam("seconds", type_=Float)), **low_water.raised(dialect, leave_out="ending"))
        .returning(lane.c.id, lane.c.fence)
    )


async def release(connection: AsyncConnection, replica: ReplicaId, leases: Collection[Lease]) -> None:
    """Give up claims that are still held; a newer claim of this replica on the same lane stays."""
    claims = {(each.lane_id, each.fence) for each in leases}
    dialect, its_lanes = connection.dialect.name, sorted({lane_id for lane_id, _ in claims})
    found = await connection.execute(_lock_statement(dialect), {"lanes": its_lanes})
    held = [row.id for row in found if row.owner == replica and (row.id, row.fence) in claims]
    await connection.execute(_free_statement(dialect), {"lanes": held})


async def lock(connection: AsyncConnection, lanes: Collection[LaneId]) -> None:
    """Lock lanes for the rest of the transaction, whoever holds them."""
    await connection.execute(_lock_statement(connection.dialect.name), {"lanes": sorted(lanes)})


@functools.cache
def _lock_statement(dialect: str) -> Select[*tuple[Any, ...]]:
    return (
        select(lane.c.id, lane.c.owner, lane.c.fence)
        .where(one_of_named(dialect, lane.c.id, "lanes"))
        .order_by(lane.c.id)
        .with_for_update(key_share=True)
    )


@functools.cache
def _free_statement(dialect: str) -> Update:
    return update(lane).where(one_of_named(dialect, lane.c.id, "lanes")).values(owner=None, lease_until=now())


async def lock_held(connection: AsyncConnection, replica: ReplicaId, claim: Lease) -> bool:
    """Lock a lane for the rest of the transaction; False when the claim is lost."""
    found = await connection.execute(select(lane.c.id).where(*_held(replica, claim)).with_for_update(key_share=True))
    return found.first() is not None


async def suspend(connection: AsyncConnection, replica: ReplicaId, claim: Lease, *, seconds: float) -> None:
    """Give up a claim that is still held, and let nobody have the lane before a span is over: the breaker."""
    await connection.execute(
        update(lane)
        .where(*_held(replica, claim))
        .values(owner=None, lease_until=now(), breaker_until=now(seconds), wake_at=now())
    )


async def release_all(connection: AsyncConnection, replica: ReplicaId) -> None:
    """Give up every claim of a replica."""
    found = await connection.execute(
        select(lane.c.id).where(lane.c.owner == replica).order_by(lane.c.id).with_for_update(key_share=True)
    )
    await connection.execute(_free_statement(connection.dialect.name), {"lanes": list(found.scalars())})


async def release_everyones(connection: AsyncConnection) -> None:
    """Give up every claim there is: for a database that one process serves, which holds its lock."""
    await connection.execute(update(lane).where(lane.c.owner.is_not(None)).values(owner=None, lease_until=now()))


async def lie_down(connection: AsyncConnection, replica: ReplicaId, claim: Lease) -> bool:
    """First half of resting: nothing wakes the lane but a hint. False when the claim is lost.

    To be committed before the second half looks: a delivery that commits later then finds a lane asleep, and wakes it.
    """
    asleep = await connection.execute(
        _lie_down_statement(connection.dialect.name),
        {"lane": claim.lane_id, "replica": replica, "its_fence": claim.fence},
    )
    return asleep.rowcount == 1


@functools.cache
def _lie_down_statement(dialect: str) -> Update:
    return (
        update(lane)
        .where(
            lane.c.id == bindparam("lane", type_=BigInteger),
            lane.c.owner == bindparam("replica", type_=LargeBinary),
            lane.c.fence == bindparam("its_fence", type_=BigInteger),
        )
        .values(wake_at=FAR, **low_water.raised(dialect))
    )


async def set_alarm(connection: AsyncConnection, replica: ReplicaId, claim: Lease) -> bool:
    """Second half of resting: wake when the next delivery is due. False when one is due already."""
    following = await next_due(connection, claim)
    if following is None:
        return True
    await connection.execute(
        update(lane).where(*_held(replica, claim), lane.c.wake_at > following.due_at).values(wake_at=following.due_at)
    )
    return not following.is_due


async def wake(connection: AsyncConnection, lanes: Collection[LaneId]) -> int:
    """Wake lanes that sleep, except those somebody has locked: the next sweep comes soon. Gives how many."""
    return await _wake(connection, _asleep(connection, lanes).with_for_update(key_share=True, skip_locked=True))


async def wake_surely(connection: AsyncConnection, lanes: Collection[LaneId]) -> None:
    """Wake lanes that sleep; for what they owe that has been committed. Waits for one that is just lying down.

    Not for long: who holds the row for longer has other trouble, and the sweep will find the lane.
    """
    if (await connection.execute(_asleep(connection, lanes))).first() is None:
        return
    if connection.dialect.name == "postgresql":
        await connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LYING_DOWN_MILLISECONDS}ms'")
    await _wake(connection, _asleep(connection, lanes).order_by(lane.c.id).with_for_update(key_share=True))


def _asleep(connection: AsyncConnection, lanes: Collection[LaneId]) -> Select[int]:
    return select(lane.c.id).where(one_of(connection, lane.c.id, sorted(lanes)), lane.c.wake_at > now())


async def _wake(connection: AsyncConnection, asleep: Select[int]) -> int:
    ids = list((await connection.execute(asleep)).scalars())
    if ids:
        await connection.execute(update(lane).where(one_of(connection, lane.c.id, ids)).values(wake_at=now()))
    return len(ids)


def _lease(row: Row[Any]) -> Lease:
    failing = timedelta(0) if row.failing_since is None else row.last_served - row.failing_since
    return Lease(
        lane_id=LaneId(row.id),
        endpoint_id=EndpointId(row.endpoint_id),
        fence=row.fence,
        health=Health(failures=row.failures, latency_seconds=row.latency_seconds),
        failing_seconds=max(0.0, failing.total_seconds()),
        is_on_trial=bool(row.is_on_trial),
        is_recovering=row.recovering_until is not None and row.recovering_until > row.last_served,
    )


def _is_waiting(among: FromClause = lane) -> ColumnElement[bool]:
    # The breaker has a column of its own: neither a hint nor the sweep may shorten it.
    return and_(
        among.c.lease_until <= now(),
        among.c.wake_at <= now(),
        among.c.breaker_until <= now(),
        among.c.is_stopped.is_(False),
    )


def _held(replica: ReplicaId, claim: Lease) -> tuple[ColumnElement[bool], ...]:
    return lane.c.id == claim.lane_id, lane.c.owner == replica, lane.c.fence == claim.fence
