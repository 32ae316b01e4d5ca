"""F18: the network between one of two replicas and PostgreSQL freezes: nothing arrives, nothing is refused."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg

from app.store.database import COMMAND_SECONDS
from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge
from tests.bed.faults.producer import Producer
from tests.bed.faults.proxy import ChaosProxy, to_postgres
from tests.bed.faults.witness import Behaviour, Witness
from tests.bed.gateway import Gateway
from tests.bed.postgres import EmbeddedPostgres
from tests.bed.process import until

ENDPOINTS: Final = 10
KEYS_EACH: Final = 5
EVENTS_A_SECOND: Final = 50
IN_FLIGHT: Final = 8
# So few that hardly ever five objects fail in a row by chance, which would open a breaker.
FAILING_SHARE: Final = 0.1
LEASE_SECONDS: Final = 4
# A statement, and the request to cancel it that goes the same way, each end in their time.
LONGEST_SECONDS: Final = 2 * COMMAND_SECONDS + 1
# Notes for each failed try that is written down who writes it and who holds its lane at that moment. The far replica
# has a role of its own, so each writer must meet one owner only: itself.
NOTE_WRITERS: Final = (
    "CREATE ROLE far SUPERUSER LOGIN",
    "CREATE TABLE written (writer name, owner bytea)",
    """CREATE FUNCTION note_writer() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO written SELECT session_user, owner FROM lane WHERE id = NEW.lane_id;
    RETURN NULL;
END $$""",
    """CREATE TRIGGER note_writer AFTER UPDATE OF tries ON delivery FOR EACH ROW WHEN (NEW.tries > OLD.tries)
    EXECUTE FUNCTION note_writer()""",
)
OWNERS: Final = "SELECT writer, count(DISTINCT owner), count(*) FROM written GROUP BY writer"
# What looks as if something were due there, and is not held by anybody else than the one that started last.
LEFT: Final = """
SELECT count(*) FROM lane
WHERE wake_at <= clock_timestamp() AND breaker_until <= clock_timestamp() AND NOT is_stopped
AND (lease_until <= clock_timestamp() OR owner = (SELECT id FROM replica ORDER BY started_at DESC LIMIT 1))
"""
# Senders turn to the other replica by then.
SENT_TO_SECONDS: Final = 1.0


@dataclass(slots=True, kw_only=True)
class _Seen:
    """What was seen over all freezes, in seconds at worst."""

    noticed: float = 0.0
    moved: float = 0.0
    at_work_again: float = 0.0
    probes: int = 0
    unhealthy: int = 0


async def test_a_frozen_network_stops_one_replica_for_as_long_as_it_lasts(
    own_postgres: EmbeddedPostgres,
    make_cluster: Callable[..., Cluster],
    witness: Witness,
    figures: Figures,
    scale: Scale,
) -> None:
    """The other takes its lanes; it says that it lives all the while, and is at work again 9 s after the thaw.

    In short form the bounds are wider, for machines that others use: the lanes may take 4 s more, and one probe of
    twenty may go unanswered for a second. The proxy passes on what it held back when it thaws, also to connections
    that were given up meanwhile.
    """
    spans = (1, 5, 15, 60) if scale.is_long else (1, 5, 15)
    env = {"BUCKETPOST_DELIVERY__LEASE_SECONDS": str(LEASE_SECONDS)}
    cluster = make_cluster(own_postgres.url, replicas=1, env=env)
    seen = _Seen()
    async with ChaosProxy(to_postgres(own_postgres.data)) as network:
        await cluster.start()
        for statement in NOTE_WRITERS:
            await _on(own_postgres, statement)
        far = await cluster.add("far", database_url=f"postgresql://far@127.0.0.1:{network.port}/postgres")
        await witness.behave("*", Behaviour(failing_share=FAILING_SHARE, delay_up_to_seconds=0.2))
        paths = [f"/{number}" for number in range(ENDPOINTS)]
        dead = await cluster.add_receivers(witness, paths, ordering="key", max_in_flight=IN_FLIGHT)
        keys = [f"{number}/{key}.jpg" for number in range(ENDPOINTS) for key in range(KEYS_EACH)]
        producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
        stop = asyncio.Event()

        async with asyncio.TaskGroup() as group:
            sending = group.create_task(producer.run(stop))
            for seconds in spans:
                await _freeze(network, cluster, own_postgres, seconds, seen)
                await _work_again(own_postgres, far, seen)
            network.cut()
            await _work_again(own_postgres, far, seen)
            stop.set()
            await sending
        await cluster.drained(within=120)
        given_up = await cluster.given_up(dead)
        owners = {row[0]: row[1:] for row in await _on(own_postgres, OWNERS)}

    wanted = lambda key: ["/" + key.partition("/")[0]]  # noqa: E731
    verdict = judge(producer.changes, witness.sightings(), wanted, given_up=given_up)
    bound = (len(spans) + 1) * ENDPOINTS * IN_FLIGHT
    figures.report(
        "F18",
        {
            "freezes, seconds": "/".join(map(str, spans)),
            **verdict.figures(),
            "bound of duplicates": bound,
            "failed tries written by the far one": owners["far"][1],
            "and by the other": owners["postgres"][1],
            "noticed within, seconds": seen.noticed,
            "lanes moved within, seconds": seen.moved,
            "at work after the thaw within, seconds": seen.at_work_again,
            "probes of its health": seen.probes,
            "answers": dict(sorted(producer.tally.statuses.items())),
            "unanswered": producer.tally.unanswered,
        },
        {
            "nothing lost, nothing out of order, nothing made up": verdict.is_right,
            "repeated at most what was under way": verdict.duplicates <= bound,
            "each writes failed tries down under its own leases only": [each[0] for each in owners.values()] == [1, 1],
            "no statement is waited for longer than 9 s": seen.noticed <= LONGEST_SECONDS,
            "the lanes are the other's within the lease and 2 s": seen.moved
            <= LEASE_SECONDS + scale.of(short=6, long=2),
            "at work again within 9 s of the thaw": seen.at_work_again <= LONGEST_SECONDS,
            "it says all the while that it lives": seen.unhealthy <= scale.of(short=seen.probes // 20, long=0),
            "200 or 503, nothing else": set(producer.tally.statuses) <= {200, 503},
        },
    )


async def _freeze(network: ChaosProxy, cluster: Cluster, server: EmbeddedPostgres, seconds: float, seen: _Seen) -> None:
    far = cluster.replicas[-1]
    await until(lambda: _holds_lanes(far), within=30, what="the far replica holds lanes")
    lost_before = len(_lost(far))
    frozen_at, frozen_on = time.monotonic(), datetime.now(UTC)
    network.freeze()
    probing = asyncio.create_task(_probe(far, seen))
    await asyncio.sleep(min(SENT_TO_SECONDS, seconds))
    cluster.stopped.add(far)
    moved = None
    while (since := time.monotonic() - frozen_at) < seconds:
        if moved is None and since > LEASE_SECONDS and not (await _on(server, LEFT))[0][0]:
            moved = since
        await asyncio.sleep(0.1)
    cluster.stopped.discard(far)
    probing.cancel()
    network.thaw()
    if seconds > LONGEST_SECONDS:
        seen.moved = max(seen.moved, seconds if moved is None else moved)
        lost = _lost(far)[lost_before:]
        seen.noticed = max(seen.noticed, (lost[0] - frozen_on).total_seconds() if lost else seconds)


async def _probe(replica: Gateway, seen: _Seen) -> None:
    while True:
        seen.probes += 1
        seen.unhealthy += await replica.status_of("/healthz") != 200
        await asyncio.sleep(0.2)


async def _work_again(server: EmbeddedPostgres, far: Gateway, seen: _Seen) -> None:
    """Wait until the far replica has given a sign of life to the database and holds lanes."""
    since = time.monotonic()
    connection = await asyncpg.connect(server.url, timeout=10)
    try:
        now = await connection.fetchval("SELECT clock_timestamp()")

        async def is_at_work() -> bool:
            lives = await connection.fetchval("SELECT min(seen_at) > $1 FROM replica", now)
            return bool(lives) and await _holds_lanes(far)

        await until(is_at_work, within=60, what="the far replica works again")
    finally:
        await connection.close(timeout=10)
    seen.at_work_again = max(seen.at_work_again, time.monotonic() - since)


async def _holds_lanes(replica: Gateway) -> bool:
    return await replica.lanes_held() > 0


def _lost(replica: Gateway) -> list[datetime]:
    return [datetime.fromisoformat(each["timestamp"]) for each in replica.logged("store.lost")]


async def _on(server: EmbeddedPostgres, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(server.url, timeout=10)
    try:
        return list(await connection.fetch(statement))
    finally:
        await connection.close(timeout=10)
