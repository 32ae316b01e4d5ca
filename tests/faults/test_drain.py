"""F10: a rolling restart: SIGTERM to each replica in turn, with everything under way that can be.

Slow attempts, pushes whose bodies are still arriving, an SQS long poll. moto's SQS stands for AWS's.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from tests.bed import s3_messages
from tests.bed.aws import Aws
from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale, is_long
from tests.bed.faults.oracle import judge, percentile
from tests.bed.faults.producer import BUCKET, Change, Producer
from tests.bed.faults.witness import GOOD, Behaviour, Sighting, Witness
from tests.bed.gateway import Gateway
from tests.bed.ports import HOST
from tests.bed.process import Ended, until

ENDPOINTS = 12
KEYS_EACH = 12
# A little more than receivers take, so that every lane always has something due.
EVENTS_A_SECOND = 30
IN_FLIGHT = 6
SLOW = Behaviour(delay_seconds=1.0, delay_up_to_seconds=4.0)
GRACE_SECONDS = 25
LONG_POLL_SECONDS = 5
SLOW_PUSHES = 2
# From before the signal to well after it.
BODY_SECONDS = 4.0
PIECES = 8
PROBE_SECONDS = 0.01
# By then the signal was heard: nothing new is sent.
HEARD_SECONDS = 0.2


@dataclass(slots=True, kw_only=True)
class Drain:
    """What one stop showed: how it ended, when the signal went, and how late it still said that it was ready."""

    ended: Ended
    signalled_at: float
    last_ready_seconds: float


async def test_a_rolling_restart_goes_unnoticed(
    postgres_url: str,
    aws: Aws,
    make_cluster: Callable[..., Cluster],
    witness: Witness,
    figures: Figures,
) -> None:
    """Exit 0 within the grace; nothing lost, repeated or refused; the others go on with its lanes at once."""
    scale = Scale(is_long=is_long())
    cluster = make_cluster(postgres_url, env={"BUCKETPOST_SERVER__STOP_SECONDS": str(GRACE_SECONDS)})
    await cluster.start()
    await witness.behave("*", SLOW)
    paths = [f"/{number}" for number in range(ENDPOINTS)]
    await cluster.add_receivers(witness, paths, max_in_flight=IN_FLIGHT)
    queue_url = await _long_polled_queue(cluster, aws)
    # In turn, so that each receiver gets an even stream of them.
    keys = [f"{number}/{key}.jpg" for key in range(KEYS_EACH) for number in range(ENDPOINTS)]
    producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
    stop = asyncio.Event()
    drains: list[Drain] = []
    slow: list[tuple[Change, int | None]] = []
    queued: list[Change] = []

    async with asyncio.TaskGroup() as group:
        group.create_task(producer.run(stop))
        group.create_task(_send(aws, queue_url, queued, stop))
        await asyncio.sleep(4)
        for number in range(scale.of(short=3, long=20)):
            replica = cluster.replicas[number % len(cluster.replicas)]
            pushes = [
                group.create_task(_push_slowly(cluster, replica, f"{number % ENDPOINTS}/slow-{number}-{each}.jpg"))
                for each in range(SLOW_PUSHES)
            ]
            await asyncio.sleep(BODY_SECONDS / 4)
            drains.append(await _drain(cluster, replica))
            slow += [await each for each in pushes]
            replica.start()
            await replica.ready(within=60)
            cluster.stopped.discard(replica)
        stop.set()
    await witness.behave("*", GOOD)
    await until(lambda: _is_empty(aws, queue_url), within=60, what="the queue is empty")
    await cluster.drained(within=120)

    changes = [*producer.changes, *queued, *(change for change, _ in slow)]
    sightings = witness.sightings()
    verdict = judge(changes, sightings, lambda key: ["/" + key.partition("/")[0]], is_ordered=lambda _: False)
    gaps = [gap for each in drains for path in paths for gap in _gaps(sightings, path, each.signalled_at)]
    ready = max(each.last_ready_seconds for each in drains)
    figures.report(
        "F10",
        {
            "drains": len(drains),
            **verdict.figures(),
            "longest drain, seconds": max(each.ended.seconds for each in drains),
            "ready after the signal, seconds": ready,
            "slow pushes taken": sum(status == 200 for _, status in slow),
            "slow pushes refused": sum(status == 503 for _, status in slow),
            "from SQS": len(queued),
            "lanes at rest p50, seconds": percentile(gaps, 0.5),
            "at rest p99, seconds": percentile(gaps, 0.99),
        },
        {
            "nothing lost, nothing made up": verdict.is_right,
            "nothing repeated": verdict.duplicates == 0,
            "exit status 0": {each.ended.status for each in drains} == {0},
            "within the grace": max(each.ended.seconds for each in drains) <= GRACE_SECONDS,
            # A shared machine may run a process late; a quarter of a second is far below any probe's period.
            "not ready 100 ms after the signal": ready <= (0.1 if scale.is_long else 0.25),
            "pushes under way were taken": [status for _, status in slow] == [200] * len(slow),
            # Of all in a long run; a commit that takes seconds on a shared machine holds up every lane of its drain.
            "lanes go on elsewhere within 1 s": percentile(gaps, 0.99 if scale.is_long else 0.5) <= 1.0,
        },
    )


async def _long_polled_queue(cluster: Cluster, aws: Aws) -> str:
    queue_url = await aws.create_queue(visibility_seconds=10)
    config = {
        "queue_url": queue_url,
        "region": aws.region,
        "endpoint_url": aws.endpoint_url,
        "wait_seconds": LONG_POLL_SECONDS,
        "visibility_seconds": 10,
    }
    await cluster.first.api.post("/sources", {"name": "queue", "kind": "sqs", "config": config})
    return queue_url


async def _send(aws: Aws, queue_url: str, queued: list[Change], stop: asyncio.Event) -> None:
    """Put a change of a new object into the queue now and then; from then on it is owed."""
    while not stop.is_set():
        key = f"{len(queued) % ENDPOINTS}/queued-{len(queued)}.jpg"
        change = Change(key=key, number=1, sent_at=time.monotonic())
        await aws.send(queue_url, s3_messages.message(s3_messages.record(BUCKET, key, size=1)))
        change.acknowledged_at = time.monotonic()
        queued.append(change)
        await asyncio.sleep(0.5)


async def _push_slowly(cluster: Cluster, replica: Gateway, key: str) -> tuple[Change, int | None]:
    """Push a change of a new object whose body takes its time; gives the status, None where the connection broke."""
    change = Change(key=key, number=1, sent_at=time.monotonic())
    body = s3_messages.message(s3_messages.record(BUCKET, key, size=1)).encode()
    head = f"POST {cluster.push_path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {cluster.token}\r\n"
    reader, writer = await asyncio.open_connection(HOST, replica.port)
    try:
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        step = -(-len(body) // PIECES)
        for start in range(0, len(body), step):
            writer.write(body[start : start + step])
            await writer.drain()
            await asyncio.sleep(BODY_SECONDS / PIECES)
        found = re.match(rb"HTTP/1.1 (\d+)", await reader.readline())
    except OSError:
        return change, None
    finally:
        writer.close()
    status = int(found[1]) if found else None
    if status == 200:
        change.acknowledged_at = time.monotonic()
    return change, status


async def _drain(cluster: Cluster, replica: Gateway) -> Drain:
    """Send SIGTERM as an orchestrator does: it is asked whether it is ready all the while, and gets no new pushes."""
    cluster.stopped.add(replica)
    signalled_at = time.monotonic()
    stopping = asyncio.create_task(replica.terminate(within=GRACE_SECONDS + 5))
    last_ready = signalled_at
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(replica.url, timeout=timeout) as session:
        while not stopping.done():
            asked_at = time.monotonic()
            if await _says_ready(session):
                last_ready = asked_at
            await asyncio.sleep(PROBE_SECONDS)
    return Drain(ended=await stopping, signalled_at=signalled_at, last_ready_seconds=last_ready - signalled_at)


async def _says_ready(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("/readyz") as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _is_empty(aws: Aws, queue_url: str) -> bool:
    depth = await aws.depth(queue_url)
    return depth.visible == depth.in_flight == 0


def _gaps(sightings: Sequence[Sighting], path: str, signalled_at: float) -> list[float]:
    """Give for how long a receiver was asked nothing after what was under way at the signal had ended."""
    heard_at = signalled_at + HEARD_SECONDS
    here = [each for each in sightings if each.path == path]
    last = max((each.answered_at for each in here if each.at <= heard_at < each.answered_at), default=heard_at)
    following = [each.at for each in here if each.at > heard_at]
    return [max(0.0, min(following) - last)] if following else []
