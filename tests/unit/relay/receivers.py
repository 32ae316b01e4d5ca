"""Many receivers behind one destination: each lane's answers and takes its time as a test says, second by second."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from app.domain.configuration import Endpoint
from app.domain.delivery import Owed
from app.domain.outcome import Outcome
from tests.unit.relay.fake_destination import DELIVERED, FAILED
from tests.unit.relay.virtual_time import now


class Receivers:
    """`takes` and `answer` tell, by lane, how long a send takes and what it gives; all that is asked is noted."""

    def __init__(
        self,
        *,
        takes: Callable[[int], float] = lambda _: 0.01,
        answer: Callable[[int], Outcome] = lambda _: DELIVERED,
    ) -> None:
        """Take how they behave."""
        self.takes = takes
        self.answer = answer
        self.asked: list[tuple[float, int]] = []
        self.in_flight: Counter[int] = Counter()
        self.most_in_flight: Counter[int] = Counter()

    @property
    def batch_limit(self) -> int:
        """See the port."""
        return 1

    async def send(self, endpoint: Endpoint, batch: Sequence[Owed]) -> Sequence[Outcome]:
        """See the port."""
        lane = int(endpoint.lane_id)
        self.asked.append((now(), lane))
        self.in_flight[lane] += 1
        self.most_in_flight[lane] = max(self.most_in_flight[lane], self.in_flight[lane])
        try:
            await asyncio.sleep(self.takes(lane))
        finally:
            self.in_flight[lane] -= 1
        return [self.answer(lane)] * len(batch)

    async def aclose(self) -> None:
        """See the port."""

    def times(self, lane: int) -> list[float]:
        """Give when a lane's receiver was asked."""
        return [at for at, its in self.asked if its == lane]

    def a_second(self, *, since: float) -> Counter[int]:
        """Count what was asked in each second from a moment on."""
        return Counter(int(at - since) for at, _ in self.asked if at >= since)


def failing_until(moment: float) -> Callable[[int], Outcome]:
    """Answer 503 up to a moment, and 200 from then on."""
    return lambda _: FAILED if now() < moment else DELIVERED
