"""What matching one event costs against 10,000 subscriptions, beside ten, in the same run. No database, no network.

The filters are of the usual kinds: a bucket each, globs over an environment's buckets, names of events, prefixes of a
tenant's keys, suffixes. Rounds alternate, medians are compared.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

from app.domain.configuration import Filter, Subscription
from app.domain.event import Event
from app.domain.ids import DEFAULT_TENANT, EndpointId, EventId, SubscriptionId
from app.domain.matching import Matcher

FEW = 10
MOST = 20
EVENTS = ("s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:ObjectRemoved:*", "s3:ObjectTagging:*")
NOW = datetime(2026, 11, 28, tzinfo=UTC)
EVENT = Event(
    id=EventId(b"e" * 16),
    day=NOW.date(),
    type="s3:ObjectCreated:Put",
    change="created",
    bucket="prod-7",
    key=b"tenants/42/photos/cat.jpg",
    received_key="tenants/42/photos/cat.jpg",
    version_id=None,
    size=1024,
    etag=None,
    sequencer=None,
    time=NOW,
    region=None,
    actor=None,
    source_ip=None,
    request_id=None,
    host_id=None,
    extra=None,
    dialect="aws",
    record=b"{}",
)


def _filter(random: Random, number: int) -> Filter:
    """Give a filter of one of the usual kinds."""
    events = random.choice(((), (random.choice(EVENTS),), tuple(random.sample(EVENTS, 2))))
    suffix = random.choice(("", "", ".jpg", ".csv"))
    match number % 5:
        case 0:
            return Filter(buckets=(f"prod-{random.randrange(1000)}",), events=events, key_suffix=suffix)
        case 1:
            return Filter(buckets=(f"prod-{random.randrange(1000)}", f"test-{number}"), key_prefix="photos/")
        case 2:
            return Filter(buckets=(f"*-{number}-logs", f"env{number}-*"), events=events)
        case 3:
            return Filter(buckets=("prod-*",), events=events, key_prefix=f"tenants/{number}/")
        case _:
            return Filter(events=events, key_prefix=f"tenants/{random.randrange(10_000)}/photos/", key_suffix=suffix)


def _subscriptions(count: int) -> Sequence[Subscription]:
    random = Random(7)  # noqa: S311 -- the same filters each time
    return [
        Subscription(
            id=SubscriptionId(number.to_bytes(16, "big")),
            tenant_id=DEFAULT_TENANT,
            name="bench",
            endpoint_id=EndpointId(b"e" * 16),
            filter=_filter(random, number),
            format="standard",
            created_at=NOW,
            updated_at=NOW,
        )
        for number in range(count)
    ]


def _microseconds(matcher: Matcher, events: Sequence[Event], repeats: int) -> float:
    began = time.perf_counter()
    for _ in range(repeats):
        for event in events:
            matcher.match(event)
    return (time.perf_counter() - began) / (repeats * len(events)) * 1e6


def _compare(count: int, rounds: int, seed: int) -> float:
    random = Random(seed)  # noqa: S311 -- the same events each time
    events = [
        replace(
            EVENT,
            bucket=random.choice((f"prod-{random.randrange(1000)}", f"env{random.randrange(10_000)}-x")),
            key=f"tenants/{random.randrange(10_000)}/photos/cat.jpg".encode(),
        )
        for _ in range(50)
    ]
    few, began = Matcher(_subscriptions(FEW)), time.perf_counter()
    many = Matcher(_subscriptions(count))
    print(f"{count:,} subscriptions put in order in {time.perf_counter() - began:.2f} s")
    of_few, of_many = [], []
    for _ in range(rounds):
        of_few.append(_microseconds(few, events, 20))
        of_many.append(_microseconds(many, events, 1))
    low, high = statistics.median(of_few), statistics.median(of_many)
    print(
        f"one event against {FEW}: {low:.1f} us, against {count:,}: {high:.1f} us, ratio {high / low:.1f} (<= {MOST})"
    )
    return high / low


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=10_000, help="subscriptions")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    sys.exit(_compare(chosen.count, chosen.rounds, chosen.seed) > MOST)
