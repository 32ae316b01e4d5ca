"""What the model keeps of each delivery and each lane."""

from dataclasses import dataclass, field
from typing import Literal

from app.domain.delivery import InOrder
from app.domain.ids import LaneId, ReplicaId, SubscriptionId
from tests.faults.lanes.stage import Terms

Status = Literal["pending", "delivered", "dead", "cancelled"]


@dataclass(slots=True, kw_only=True)
class Debt:
    """A delivery, as it should be. `wait` is how long it may not be tried.

    `told` is the place of its event, `place` the one that counts for its turn: nothing overtakes by what a person asked
    for. `tick` is when it was recorded: what has the same was recorded within a window.
    """

    lane_id: LaneId
    subscription_id: SubscriptionId
    told: bytes | None
    place: bytes | None
    tick: int
    row_id: int = 0
    order_key: int | None = None
    status: Status = "pending"
    tries: int = 0
    failures: int = 0
    history: int = 0
    blocks: bool = False
    is_old: bool = False
    is_late: bool = False
    wait: float = 0.0
    accepted_under: list[tuple[LaneId, int]] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ModelLane:
    """A lane, as it should be."""

    terms: Terms
    owner: ReplicaId | None = None
    fence: int = 0
    is_leased: bool = False
    is_stopped: bool = False
    suspended: float = 0.0
    # Of a deleted endpoint: the claim there was, and when that was.
    last_fence: int | None = None
    deleted_at: int = 0
    is_gone: bool = False

    @property
    def is_free(self) -> bool:
        """Whether anybody may lease it, if it is awake."""
        return not self.is_leased and not self.is_stopped and self.suspended <= 0 and not self.is_gone

    @property
    def is_deleted(self) -> bool:
        """Whether its endpoint was deleted."""
        return self.last_fence is not None

    @property
    def by_turn(self) -> bool:
        """Whether what is older may overtake."""
        return self.terms.window_seconds > 0

    @property
    def in_order(self) -> InOrder | None:
        """How a holder reads it."""
        if self.terms.ordering == "none":
            return None
        return InOrder(is_reordered=self.by_turn, with_marks=self.terms.late != "deliver")
