"""F22: SQS as it may behave: short visibility, half of a delete refused, duplicates, lost answers, another queue."""

import asyncio
import time
from collections.abc import Callable

import asyncpg

from tests.bed import s3_messages, wiring
from tests.bed.aws import Aws
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge
from tests.bed.faults.producer import BUCKET, Change
from tests.bed.faults.sqs_proxy import SqsProxy
from tests.bed.faults.witness import Witness
from tests.bed.gateway import Gateway
from tests.bed.process import until

VISIBILITY_SECONDS = 6
# The gateway hides messages anew each third of that.
RHYTHM_SECONDS = VISIBILITY_SECONDS / 3
MESSAGES_A_SECOND = 10
PATH = "/all"


class Store:
    """Sends messages to a queue and keeps what SQS accepted; every fifth message is sent twice."""

    def __init__(self, aws: Aws, queue_url: str) -> None:
        self._aws, self._queue_url = aws, queue_url
        self.changes: list[Change] = []

    async def send_for(self, seconds: float) -> None:
        """Send for a while."""
        until_moment = time.monotonic() + seconds
        while time.monotonic() < until_moment:
            change = Change(key=f"{len(self.changes)}.jpg", number=1, sent_at=time.monotonic())
            body = s3_messages.message(s3_messages.record(BUCKET, change.key, size=change.number))
            for _ in range(2 if len(self.changes) % 5 == 0 else 1):
                await self._aws.send(self._queue_url, body)
            change.acknowledged_at = time.monotonic()
            self.changes.append(change)
            await asyncio.sleep(1 / MESSAGES_A_SECOND)


async def test_whatever_sqs_does_each_event_is_recorded_once(  # noqa: PLR0913, PLR0917 -- the parts of the bed
    postgres_url: str,
    aws: Aws,
    make_gateway: Callable[..., Gateway],
    witness: Witness,
    figures: Figures,
    scale: Scale,
) -> None:
    """Nothing is lost, no event has two rows, and what is held is hidden anew in time.

    In time is within a second of its rhythm; in the short form, which shares its machine, before it shows again.
    """
    span = scale.of(short=5, long=30)
    gateway = make_gateway(database_url=postgres_url)
    gateway.start()
    await gateway.ready(within=60)
    queue_url = await aws.create_queue(visibility_seconds=VISIBILITY_SECONDS)
    store = Store(aws, queue_url)
    async with SqsProxy(aws.endpoint_url) as proxy:
        endpoint = await wiring.add_webhook(gateway.api, witness.url(PATH))
        await witness.verify(PATH, endpoint["secret"])
        source = await _add_source(gateway, aws, proxy, queue_url)

        proxy.refuses_half = True
        await store.send_for(span)
        proxy.refuses_half = False
        async with asyncio.TaskGroup() as group:
            group.create_task(_hold_up(postgres_url, 2 * VISIBILITY_SECONDS))
            group.create_task(store.send_for(span))
        proxy.cuts_answers = True
        await store.send_for(span)
        proxy.cuts_answers = False
        await until(lambda: _is_empty(aws, queue_url), within=120, what="an empty queue")
        await _make_anew(gateway, aws, queue_url, source["id"])
        await store.send_for(span)
        await until(lambda: _have_arrived(witness, store), within=120, what="all that was accepted")
        await gateway.terminate()

    verdict = judge(store.changes, witness.sightings(), lambda _: [PATH])
    rows, lateness = await _event_rows(postgres_url), max(proxy.seen.gaps, default=0.0) - RHYTHM_SECONDS
    figures.report(
        "F22",
        {
            **verdict.figures(),
            "event rows": rows,
            "deletes refused": proxy.seen.refused,
            "answers cut": proxy.seen.cut,
            "hidden anew": len(proxy.seen.gaps),
            "latest by ms": 1000 * lateness,
        },
        {
            "nothing lost, nothing made up": verdict.is_right,
            "a row for each event": rows == len(store.changes),
            "hidden anew in time": lateness < (1.0 if scale.is_long else VISIBILITY_SECONDS - RHYTHM_SECONDS),
            "it all happened": min(proxy.seen.refused, proxy.seen.cut, len(proxy.seen.gaps)) > 0,
        },
    )


async def _add_source(gateway: Gateway, aws: Aws, proxy: SqsProxy, queue_url: str) -> dict[str, str]:
    config = {
        "queue_url": queue_url.replace(aws.endpoint_url, proxy.url),
        "region": aws.region,
        "endpoint_url": proxy.url,
        "wait_seconds": 1,
        "visibility_seconds": VISIBILITY_SECONDS,
    }
    source: dict[str, str] = await gateway.api.post("/sources", {"name": "queue", "kind": "sqs", "config": config})
    return source


async def _hold_up(database_url: str, seconds: float) -> None:
    """Keep anything from being recorded, for longer than a message is hidden."""
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE event IN ACCESS EXCLUSIVE MODE", timeout=30)
            await asyncio.sleep(seconds)
    finally:
        await connection.close(timeout=10)


async def _make_anew(gateway: Gateway, aws: Aws, queue_url: str, source_id: str) -> None:
    """Delete the queue, wait until the gateway has met that, and make one of the same name."""
    await aws.sqs.delete_queue(QueueUrl=queue_url)

    async def has_met_it() -> bool:
        await asyncio.sleep(0.2)
        return bool((await gateway.api.get(f"/sources/{source_id}"))["state"] == "failing")

    await until(has_met_it, within=30, what="the source fails")
    attributes = {"VisibilityTimeout": str(VISIBILITY_SECONDS)}
    await aws.sqs.create_queue(QueueName=queue_url.rpartition("/")[2], Attributes=attributes)  # type: ignore[arg-type]  # a literal name


async def _is_empty(aws: Aws, queue_url: str) -> bool:
    await asyncio.sleep(0.2)
    depth = await aws.depth(queue_url)
    return depth.visible + depth.in_flight == 0


async def _have_arrived(witness: Witness, store: Store) -> bool:
    await asyncio.sleep(0.2)
    return {each.key for each in store.changes} <= {each.key for each in witness.sightings()}


async def _event_rows(database_url: str) -> int:
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM event", timeout=30))
    finally:
        await connection.close(timeout=10)
