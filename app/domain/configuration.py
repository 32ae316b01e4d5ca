"""What operators and users set up: endpoints, subscriptions, sources, and the snapshot of them at one epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

from app.domain.ids import EndpointId, LaneId, SourceId, SubscriptionId, TenantId

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

Format = Literal["standard", "s3", "cloudevents", "cloudevents-binary"]
Ordering = Literal["none", "key", "endpoint"]
OnDead = Literal["skip", "block"]
Late = Literal["deliver", "mark", "drop"]
"""What becomes of an event of an object whose receiver has a newer one already: sent, sent with a mark, not sent."""
Consequence = Literal["deliver", "retry", "retry_briefly", "die", "disable"]
"""What follows from an answer: it counts as delivered; it is tried again by the whole schedule, or five times; the
delivery is dead; the endpoint is disabled too."""
SourceState = Literal["starting", "ok", "failing"]
Profile = Literal["auto", "aws", "minio", "rustfs", "ceph", "versitygw"]

PROFILES: Final[tuple[Profile, ...]] = get_args(Profile)

# Longer than the default schedule takes at its slowest, so that by default the count decides.
DEFAULT_MAX_AGE_SECONDS: Final = 5 * 86_400.0
# Standard Webhooks 1.0, "Retries": after each failure, then the delivery is dead. Seconds.
DEFAULT_SCHEDULE_SECONDS: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A registered target: `config` is its kind's own, `secret` a webhook's raw signing key, `lane_id` its queue.

    `reorder_window_seconds`: how long one of `ordering: key` waits for older ones of its object that come later.
    `answers` says what follows from an answer, by code (`"404"`) or class (`"4xx"`), where it is not the table's rule.
    `max_age_seconds`: a delivery older than that is not tried again. `rate_limit_per_second`: over all replicas.
    A disabled or paused endpoint gets nothing; what it is owed stays owed.
    """

    id: EndpointId
    tenant_id: TenantId
    lane_id: LaneId
    name: str
    kind: str
    config: Mapping[str, JSON]
    secret: bytes | None
    ordering: Ordering = "none"
    on_dead: OnDead = "skip"
    reorder_window_seconds: float = 0.0
    late: Late = "deliver"
    timeout_seconds: float = 15.0
    max_in_flight: int = 8
    rate_limit_per_second: float | None = None
    schedule_seconds: tuple[float, ...] = DEFAULT_SCHEDULE_SECONDS
    max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS
    answers: Mapping[str, Consequence] = field(default_factory=dict)
    is_paused: bool = False
    disabled_at: datetime | None = None
    disabled_reason: str | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def minds_places(self) -> bool:
        """Whether it matters where the store puts an event among those of its object."""
        return self.ordering == "key" and (self.reorder_window_seconds > 0 or self.late != "deliver")

    @property
    def aim(self) -> tuple[object, ...]:
        """Give what a receiver's answer hangs on: how one fared with another aim says nothing of this one."""
        return self.config, self.timeout_seconds, self.answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which events a subscription takes; an empty member matches all. Shapes as in the REST API."""

    buckets: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    key_prefix: str = ""
    key_suffix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Which events go to which endpoint, and in which format."""

    id: SubscriptionId
    tenant_id: TenantId
    name: str
    endpoint_id: EndpointId
    filter: Filter = field(default_factory=Filter)
    format: Format
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where messages come from, and how it fares. `token_hash` is the SHA-256 of a push source's token."""

    id: SourceId
    tenant_id: TenantId
    name: str
    kind: str
    config: Mapping[str, JSON]
    token_hash: bytes | None = None
    is_paused: bool = False
    state: SourceState = "starting"
    last_error: str | None = None
    last_received_at: datetime | None = None
    last_event_at: datetime | None = None
    test_event_at: datetime | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def setup(self) -> tuple[TenantId, str, Mapping[str, JSON]]:
        """What it is opened by: a change of this, and of nothing else, opens it anew."""
        return self.tenant_id, self.kind, dict(self.config)

    @property
    def profile(self) -> Profile:
        """Which store's ways its messages follow where they do not say so themselves."""
        profile = self.config.get("profile")
        return next((each for each in PROFILES if each == profile), "auto")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything set up, as it stood at one epoch; deleted rows are not in it."""

    epoch: int
    endpoints: Mapping[EndpointId, Endpoint]
    subscriptions: Mapping[SubscriptionId, Subscription]
    sources: Mapping[SourceId, Source]
