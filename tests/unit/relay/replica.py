"""What is set up in these tests, and relays that run over one fake outbox."""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Final, Self

from app.domain.configuration import Configuration, Endpoint, Late, OnDead, Ordering
from app.domain.delivery import Owed
from app.domain.event import Event, StoredEvent
from app.domain.ids import DEFAULT_TENANT, DeliveryKey, EndpointId, EventId, LaneId, ReplicaId, SubscriptionId
from app.domain.ports import Destination
from app.relay.relay import Relay
from app.relay.tools import is_stopped
from tests.unit.relay.fake_outbox import FakeOutbox, ReplicaOutbox
from tests.unit.relay.virtual_time import now, until

DAY: Final = datetime(2026, 3, 1, tzinfo=UTC)
# A drain that takes longer is a failed test, which ends it by force.
DRAIN_SECONDS: Final = 600.0
SUBSCRIPTION: Final = SubscriptionId(b"s" * 16)
_rows = itertools.count(1)


def endpoint_id(lane_id: int) -> EndpointId:
    """Give the endpoint of a lane."""
    return EndpointId(lane_id.to_bytes(16, "big"))


def make_endpoint(  # noqa: PLR0913 -- what tests vary
    lane_id: int = 1,
    *,
    max_in_flight: int = 8,
    schedule_seconds: tuple[float, ...] = (1.0,) * 9,
    kind: str = "fake",
    ordering: Ordering = "none",
    on_dead: OnDead = "skip",
    reorder_window_seconds: float = 0.0,
    late: Late = "deliver",
) -> Endpoint:
    """Set up an endpoint with its lane's number."""
    return Endpoint(
        id=endpoint_id(lane_id),
        tenant_id=DEFAULT_TENANT,
        lane_id=LaneId(lane_id),
        name=f"endpoint {lane_id}",
        kind=kind,
        config={},
        secret=None,
        ordering=ordering,
        on_dead=on_dead,
        reorder_window_seconds=reorder_window_seconds,
        late=late,
        max_in_flight=max_in_flight,
        schedule_seconds=schedule_seconds,
        created_at=DAY,
        updated_at=DAY,
    )


def make_owed(lane_id: int = 1, *, is_kept: bool = True, tries: int = 0, order_key: int | None = None) -> Owed:
    """Owe one more delivery; without `is_kept` its event has been pruned."""
    row_id = next(_rows)
    key = row_id.to_bytes(16, "big")
    return Owed(
        row_id=row_id,
        lane_id=LaneId(lane_id),
        key=DeliveryKey(key),
        endpoint_id=endpoint_id(lane_id),
        subscription_id=SUBSCRIPTION,
        format="standard",
        tries=tries,
        failures=tries,
        owed_at=DAY,
        age_seconds=0.0,
        order_key=order_key,
        stored=_stored(key) if is_kept else None,
    )


def make_many(count: int, lane_id: int = 1) -> list[Owed]:
    """Owe several."""
    return [make_owed(lane_id) for _ in range(count)]


class SetUp:
    """The configuration as one process knows it (`known`) and as the database has it (`committed`)."""

    def __init__(self, outbox: FakeOutbox, endpoints: Iterable[Endpoint]) -> None:
        """Set endpoints and their lanes up."""
        self._outbox = outbox
        self.refreshes = 0
        self.epoch = 1
        self.committed: dict[EndpointId, Endpoint] = {}
        for endpoint in endpoints:
            self.put(endpoint)
            outbox.add_lane(endpoint.lane_id, endpoint.id)
        self.known = dict(self.committed)

    def put(self, endpoint: Endpoint) -> None:
        """Add or change one, and let the process know."""
        self.committed[endpoint.id] = endpoint
        self.epoch += 1
        if endpoint.lane_id in self._outbox.lanes:
            self._outbox.lanes[endpoint.lane_id].is_stopped = is_stopped(endpoint)
        self.known = dict(self.committed)

    def delete(self, endpoint: Endpoint) -> None:
        """Take one out; what it owed may no longer be sent."""
        del self.committed[endpoint.id]
        self.epoch += 1
        self.known = dict(self.committed)
        self._outbox.deleted_endpoints.add(endpoint.id)

    def configuration(self) -> Configuration:
        """Give what the process knows."""
        return Configuration(epoch=self.epoch, endpoints=self.known, subscriptions={}, sources={})

    async def refresh(self) -> Configuration:
        """Read it anew."""
        self.refreshes += 1
        await asyncio.sleep(self._outbox.latency_seconds)
        self.known = dict(self.committed)
        return self.configuration()


class Replica:
    """One relay, running from `async with` on, drained at its end."""

    def __init__(  # noqa: PLR0913 -- what a relay takes
        self,
        shared: FakeOutbox,
        set_up: SetUp,
        destination: Destination,
        *,
        name: str = "a",
        max_in_flight: int = 512,
        logs_delivered: bool = False,
        random: Callable[[], float] = lambda: 0.5,
    ) -> None:
        """Take the shared outbox, the set-up, where it all goes, and the name of this life."""
        self.name = ReplicaId(name.encode())
        self.outbox: ReplicaOutbox = shared.for_replica(name)
        self.stop = asyncio.Event()
        destinations: Mapping[str, Destination] = {"fake": destination}
        self.relay = Relay(
            outbox=self.outbox,
            destinations=destinations,
            configuration=set_up.configuration,
            refresh=set_up.refresh,
            max_in_flight=max_in_flight,
            lease_seconds=shared.lease_seconds,
            logs_delivered=logs_delivered,
            random=random,
            monotonic=now,
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> asyncio.Task[None]:
        """The running relay."""
        assert self._task is not None
        return self._task

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._task is not None and not self._task.done()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.relay.run(self.stop))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.wait([self.task], timeout=DRAIN_SECONDS)
        self.task.cancel()
        await asyncio.wait([self.task], timeout=DRAIN_SECONDS)
        assert self.task.done()
        if not self.task.cancelled():
            self.task.result()

    async def crash(self) -> None:
        """End it as a kill would: nothing is given back."""
        self.outbox.moving.clear()
        self.task.cancel()
        await asyncio.wait([self.task])


def one_lane(
    *, max_in_flight: int = 8, lease_seconds: float = 10.0, schedule_seconds: tuple[float, ...] = (1.0,) * 9
) -> tuple[FakeOutbox, SetUp]:
    """Set up lane 1 and its endpoint."""
    return lanes(1, max_in_flight=max_in_flight, lease_seconds=lease_seconds, schedule_seconds=schedule_seconds)


def lanes(
    count: int,
    *,
    max_in_flight: int = 8,
    lease_seconds: float = 10.0,
    schedule_seconds: tuple[float, ...] = (1.0,) * 9,
) -> tuple[FakeOutbox, SetUp]:
    """Set up lanes 1 to `count`, each with its endpoint."""
    outbox = FakeOutbox(lease_seconds=lease_seconds)
    endpoints = [
        make_endpoint(each, max_in_flight=max_in_flight, schedule_seconds=schedule_seconds)
        for each in range(1, count + 1)
    ]
    return outbox, SetUp(outbox, endpoints)


async def all_ended(outbox: FakeOutbox, *, within_seconds: float = 120.0) -> None:
    """Wait until nothing is owed."""
    await until(lambda: not outbox.debts, within_seconds=within_seconds)


def _stored(key: bytes) -> StoredEvent:
    event = Event(
        id=EventId(key),
        day=date(2026, 3, 1),
        type="s3:ObjectCreated:Put",
        change="created",
        bucket="uploads",
        key=b"a.pdf",
        received_key="a.pdf",
        version_id=None,
        size=1,
        etag=None,
        sequencer=None,
        time=DAY,
        region=None,
        actor=None,
        source_ip=None,
        request_id=None,
        host_id=None,
        extra=None,
        dialect="aws",
        record=b"{}",
    )
    return StoredEvent(event=event, source_id=None, recorded_at=DAY)
