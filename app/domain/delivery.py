"""One event owed to one endpoint through one subscription, and the claim under which a replica works it off."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from app.domain.configuration import Format
from app.domain.event import StoredEvent
from app.domain.identity import ORDER_KEY_OF_ALL
from app.domain.ids import DeliveryKey, EndpointId, LaneId, SubscriptionId, public_id
from app.domain.outcome import Outcome
from app.domain.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How a lane fares: failures in a row over all its deliveries, and how long an attempt takes on average."""

    failures: int = 0
    latency_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A claim on a lane, with an end and a fence: the number that tells this claim from every later one.

    `health` is how the lane fared when it was claimed, `failing_seconds` for how long by then; `is_on_trial` when it
    was suspended in its present failures: one attempt at a time tells whether its receiver is back; `is_recovering`
    while what came in an outage that is over is played back.
    """

    lane_id: LaneId
    endpoint_id: EndpointId
    fence: int
    health: Health = Health()
    failing_seconds: float = 0.0
    is_on_trial: bool = False
    is_recovering: bool = False


# Of one object, of which only one is under way at a time, a look hands out no more, and none once a lane has so many in
# memory: they would keep out the others.
AT_HAND_LIMIT: Final = 64


def at_hand_limit(order_key: int | None) -> float:
    """Tell how many deliveries with this order key may be handed out at once: all where there are no other objects."""
    return float("inf") if order_key in (None, ORDER_KEY_OF_ALL) else AT_HAND_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class InOrder:
    """How an ordered lane is read: by arrival, or by place where `is_reordered`; `with_marks`, those too.

    `crowded`: the order keys of which enough is at hand, each with a row that is; no more of these is wanted.
    """

    is_reordered: bool = False
    with_marks: bool = False
    crowded: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """A delivery still owed, as the outbox hands it to the relay.

    `row_id` is its place in the outbox; `tries` all tries so far; `failures` those of the present schedule.
    `owed_at`: since when it is owed, as created or anew; `age_seconds` since then, by the database's clock, when it was
    handed out.
    `order_key` is shared by deliveries of the lane that must go one after the other.
    `place` is the event's, noted when it was recorded for an endpoint that minds places; None for what a person asked
    for since, and its family alone where others of its object waited for that. `mark` is the newest place that the
    receiver had of its object when this was handed out.
    One that `is_late` is older than that, and to be sent with a word about it.
    `stored` is None when the event is no longer kept: then it is dead with reason `expired`.
    """

    row_id: int
    lane_id: LaneId
    key: DeliveryKey
    endpoint_id: EndpointId
    subscription_id: SubscriptionId
    format: Format
    tries: int
    failures: int
    owed_at: datetime
    age_seconds: float
    order_key: int | None = None
    place: bytes | None = None
    mark: bytes | None = None
    is_late: bool = False
    stored: StoredEvent | None

    @property
    def idempotency_key(self) -> str:
        """The one key of this event and subscription: `webhook-id`, `Idempotency-Key`, `idempotency-key`."""
        return public_id("dlv", self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What may go of an ordered lane, and whether that is all that could be had now."""

    rows: Sequence[Owed]
    is_all: bool


def crowded_by(rows: Iterable[Owed]) -> Mapping[int, int]:
    """Tell of which objects enough is at hand where these rows are, in the order they go, each with its first row."""
    of_object: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        if row.order_key is not None:
            of_object[row.order_key].append(row.row_id)
    return {key: row_ids[0] for key, row_ids in of_object.items() if len(row_ids) >= at_hand_limit(key)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What is to be written down of one try of one owed delivery.

    `outcome` is None for an ending without a try (attempt number 0). `started_seconds_ago` dates the try's start
    against the database's clock at the moment of settling. `health` is how the lane fares with this, where
    that changed. A dead one that `blocks` keeps back those that come after it until somebody sees to it. `reached` is
    the place that the receiver has come to with this, where its endpoint looks for late ones.
    """

    lease: Lease
    owed: Owed
    outcome: Outcome | None
    verdict: Verdict
    started_seconds_ago: float
    health: Health | None = None
    blocks: bool = False
    reached: bytes | None = None


# So many lanes on trial a replica takes on at most, well more than may be tried at once: those it can only keep waiting
# would take the places of healthy ones.
TRIALS_HELD: Final = 128
# Longer than a lane on trial waits for its one attempt and for what comes of it.
LONGEST_TRIAL_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSurvey:
    """What a replica sees of the lanes, at one moment, by the database's clock.

    `waiting`: lanes without a valid lease that have something due, those on trial as far as this replica may have them.
    `awake`: lanes this replica holds that have something due. `active`: lanes leased by anyone or waiting, those on
    trial as far as all replicas may have them. `replicas`: live ones, this one included; `rank`: how many of them come
    before this one. `suspended`: lanes that nobody may have for now.
    """

    waiting: int
    awake: frozenset[LaneId]
    active: int
    replicas: int
    rank: int = 0
    suspended: int = 0
