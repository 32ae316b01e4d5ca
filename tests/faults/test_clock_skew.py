"""F20: one replica's clock is wrong: ahead, behind, a day off, and set again and again.

What of the clock the bed shifts, and what not, is said in tests/bed/faults/skewed/sitecustomize.py.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Figures, Scale
from tests.bed.faults.oracle import judge
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Behaviour, Sighting, Witness
from tests.bed.gateway import Gateway
from tests.bed.process import REPOSITORY, until

SKEWED = REPOSITORY / "tests" / "bed" / "faults" / "skewed"
ENDPOINTS = 12
KEYS_EACH = 4
EVENTS_A_SECOND = 40
FAILING_SHARE = 0.3
RETRY_SECONDS = 1.5
# What a schedule's spans may be shortened or lengthened by, app/domain/verdict.py.
JITTER = 0.2
# A retry starts with the sweep at the latest; the rest is for a machine that has others to serve too.
LATE_SECONDS = 4.0
# Standard Webhooks' receivers refuse what is five minutes off; a signature of ours is off by what a request takes.
SIGNED_WITHIN_SECONDS = 5.0
DAY_SECONDS = 86_400.0
OFFSETS = (90.0, -90.0, DAY_SECONDS)
STEPS = (-DAY_SECONDS, 3_600.0, 0.0, -90.0, 7 * DAY_SECONDS)
SKEW = "bucketpost_clock_skew_seconds"
DELIVERED = 'bucketpost_attempts_total{kind="webhook",outcome="delivered"}'


async def test_a_wrong_clock_changes_nothing(
    postgres_url: str, make_cluster: Callable[..., Cluster], witness: Witness, figures: Figures, scale: Scale
) -> None:
    """Leases hold, retries come on time and none early, signatures are dated rightly, and the skew is told."""
    cluster = make_cluster(postgres_url, replicas=2)
    await cluster.start()
    clock = cluster.first.directory / "clock"
    _set(clock, OFFSETS[0])
    wrong = await cluster.add("wrong", env={"PYTHONPATH": f"{SKEWED}:{REPOSITORY}", "BED_CLOCK": str(clock)})
    await witness.behave("*", Behaviour(failing_share=FAILING_SHARE))
    paths = [f"/{number}" for number in range(ENDPOINTS)]
    await cluster.add_receivers(witness, paths, ordering="key", schedule=(RETRY_SECONDS,) * 20)
    keys = [f"{number}/{key}.jpg" for number in range(ENDPOINTS) for key in range(KEYS_EACH)]
    producer = Producer(cluster.urls, cluster.token, keys, rate=EVENTS_A_SECOND)
    stop = asyncio.Event()

    async with asyncio.TaskGroup() as group:
        group.create_task(producer.run(stop))
        for offset in OFFSETS:
            _set(clock, offset)
            await until(lambda each=offset: _tells(wrong, each), within=30, what=f"{SKEW} tells of {offset} s")  # type: ignore[misc]  # bound at once
            await asyncio.sleep(scale.of(short=2, long=30))
        for turn in range(scale.of(short=12, long=120)):
            _set(clock, STEPS[turn % len(STEPS)])
            await asyncio.sleep(0.5)
        stop.set()
    await cluster.drained(within=60)

    sightings = witness.sightings()
    verdict = judge(producer.changes, sightings, lambda key: ["/" + key.partition("/")[0]])
    spans = _retry_spans(sightings)
    lost = int(sum([await each.figure("bucketpost_leases_lost_total") for each in cluster.replicas]))
    by_wrong = int(await wrong.figure(DELIVERED))
    off = max(abs(each.signed_seconds_ago) for each in sightings)
    told = [len(each.logged("clock.skewed")) for each in cluster.replicas]
    figures.report(
        "F20",
        {
            **verdict.figures(),
            "delivered by the wrong one": by_wrong,
            "leases lost": lost,
            "retries": len(spans),
            "shortest wait": min(spans),
            "longest wait": max(spans),
            "signatures off by up to": off,
        },
        {
            "nothing lost, nothing out of order, nothing made up": verdict.is_right,
            "leases unaffected": lost == verdict.duplicates == 0,
            "the wrong one delivers too": by_wrong > 0,
            "no retry is early": min(spans) >= RETRY_SECONDS * (1 - JITTER),
            "retries are on time": max(spans) <= RETRY_SECONDS * (1 + JITTER) + LATE_SECONDS,
            "signatures go by the right time": off <= SIGNED_WITHIN_SECONDS,
            "the wrong one says that it is, the others do not": told[-1] >= 1 and not any(told[:-1]),
        },
    )


def _set(clock: Path, seconds: float) -> None:
    # In one step: who reads a file that is just being written finds it empty.
    fresh = clock.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.replace(clock)


async def _tells(replica: Gateway, offset: float) -> bool:
    return abs(await replica.figure(SKEW) - offset) < 5


def _retry_spans(sightings: Sequence[Sighting]) -> list[float]:
    """Give how long each retry came after the answer before it, which receivers here give at once."""
    attempts: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    for each in sightings:
        attempts[each.path, each.key, each.number].append(each.at)
    return [later - earlier for moments in attempts.values() for earlier, later in pairwise(moments)]
