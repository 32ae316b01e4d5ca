"""What every runner of the process works with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.domain.configuration import Configuration, Endpoint
from app.domain.ports import Outbox
from app.relay.attempts import Attempts
from app.relay.leases import Leases
from app.relay.memory import Memory
from app.relay.outage import Outage
from app.relay.settler import Settler
from app.relay.slots import Slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """One for the process. `slots` and `memory` are what its lanes share."""

    outbox: Outbox
    leases: Leases
    attempts: Attempts
    slots: Slots
    memory: Memory
    settler: Settler
    outage: Outage
    configuration: Callable[[], Configuration]
    refresh: Callable[[], Awaitable[Configuration]]
    monotonic: Callable[[], float]
    random: Callable[[], float]


def is_stopped(endpoint: Endpoint) -> bool:
    """Tell whether an endpoint gets nothing for now."""
    return endpoint.is_paused or endpoint.disabled_at is not None
