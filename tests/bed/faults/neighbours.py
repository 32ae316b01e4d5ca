"""A hundred receivers that are well, watched before and while others get into trouble."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bed.faults.cluster import Cluster
from tests.bed.faults.figures import Scale
from tests.bed.faults.oracle import Verdict, judge, percentile
from tests.bed.faults.producer import Producer
from tests.bed.faults.witness import Witness
from tests.bed.gateway import Gateway
from tests.bed.process import until

COUNT = 100
# What the healthy may take longer because of the others: half as long again, or a quarter of a second.
FACTOR, GRACE_SECONDS = 1.5, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the healthy saw for a while, and how much of one core the gateway used meanwhile."""

    verdict: Verdict
    cpu_share: float

    @property
    def p50(self) -> float:
        """Give the median of the time from the acknowledgement to the success, in seconds."""
        return percentile(self.verdict.latencies, 0.5)

    @property
    def p99(self) -> float:
        """Give the 99th percentile of it."""
        return percentile(self.verdict.latencies, 0.99)

    def claims(self, baseline: "Watched", scale: Scale) -> dict[str, bool]:
        """Give what must hold. How long things take is claimed in a long run only: a short one shares its machine."""
        bound = max(FACTOR * baseline.p99, baseline.p99 + GRACE_SECONDS)
        timed = {"the healthy notice nothing (p99)": self.p99 <= bound} if scale.is_long else {}
        return {"nothing lost, nothing made up": self.verdict.is_right, **timed}

    def figures(self, baseline: "Watched") -> dict[str, object]:
        """Give what every line of these experiments shows."""
        return {
            **self.verdict.figures(),
            "p50 ms before": 1000 * baseline.p50,
            "p50 ms meanwhile": 1000 * self.p50,
            "p99 ms before": 1000 * baseline.p99,
            "p99 ms meanwhile": 1000 * self.p99,
            "CPU % of a core before": 100 * baseline.cpu_share,
            "CPU % meanwhile": 100 * self.cpu_share,
        }


class Neighbours:
    """The healthy receivers of an experiment on one replica: about an event a second for each in a long run."""

    def __init__(self, cluster: Cluster, witness: Witness, scale: Scale) -> None:
        self._cluster, self._witness = cluster, witness
        self._events_a_second = scale.of(short=40, long=100)
        self._paths = [f"/well-{number}" for number in range(COUNT)]
        self._rounds = 0

    async def move_in(self, *, host: str | None = None) -> None:
        """Register them; by a name of this machine where one is given."""
        await self._cluster.add_receivers(self._witness, self._paths, host=host)

    async def watch(self, seconds: float) -> Watched:
        """Send them events for so long, and wait until all have arrived."""
        self._rounds += 1
        keys = [f"{path.removeprefix('/')}/{self._rounds}.jpg" for path in self._paths]
        producer = Producer(self._cluster.urls, self._cluster.token, keys, rate=self._events_a_second)
        began_at, used = time.monotonic(), _cpu_seconds(self._cluster.first)
        await producer.run_for(seconds)
        cpu_share = (_cpu_seconds(self._cluster.first) - used) / (time.monotonic() - began_at)

        def verdict() -> Verdict:
            of_these = [each for each in self._witness.sightings() if each.key in keys]
            return judge(producer.changes, of_these, lambda key: ["/" + key.partition("/")[0]])

        async def have_arrived() -> bool:
            await asyncio.sleep(0.2)
            return verdict().lost == 0

        await until(have_arrived, within=60, what="all that the healthy receivers are owed")
        return Watched(verdict=verdict(), cpu_share=cpu_share)


async def metric(gateway: Gateway, name: str) -> float:
    """Read one of a gateway's metrics by its name and labels, as they are written; 0 when it is not there yet."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", await gateway.metrics(), re.MULTILINE)
    return float(found[1]) if found else 0.0


@asynccontextmanager
async def sampled(gateway: Gateway, name: str, *, every: float = 0.2) -> AsyncIterator[list[float]]:
    """Read a metric again and again; the list that is given grows meanwhile."""
    values: list[float] = []

    async def sample() -> None:
        while True:
            values.append(await metric(gateway, name))
            await asyncio.sleep(every)

    task = asyncio.create_task(sample())
    try:
        yield values
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _cpu_seconds(gateway: Gateway) -> float:
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
