"""The gateway's own events, for those who operate it: named like any other, taken only by filters that name them.

When one is told, and that it is told once, is the store's business.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from app.domain.configuration import JSON
from app.domain.event import OPERATOR_DIALECT, Event
from app.domain.identity import operator_event_id
from app.domain.ids import TenantId

OperatorEventType = Literal["gateway.endpoint.disabled", "gateway.delivery.dead", "gateway.source.stalled"]

_PREFIX: Final = "gateway."
_ANY: Final = ".*"
KNOWN_OPERATOR_EVENTS: Final = frozenset(
    {*get_args(OperatorEventType), "gateway.*", "gateway.endpoint.*", "gateway.delivery.*", "gateway.source.*"}
)


def operator_event(
    tenant_id: TenantId, event_type: OperatorEventType, *, about: str, at: datetime, data: Mapping[str, JSON]
) -> Event:
    """Make the event of something that happened to one thing at one moment: the same for the same three.

    It has no bucket; its key is the id of what it tells of, so that events of one thing keep their order.
    """
    text = json.dumps(data, separators=(",", ":"))
    return Event(
        id=operator_event_id(tenant_id, event_type, about, at),
        day=at.astimezone(UTC).date(),
        type=event_type,
        change="other",
        bucket="",
        key=about.encode(),
        received_key="",
        version_id=None,
        size=None,
        etag=None,
        sequencer=None,
        time=at,
        region=None,
        actor=None,
        source_ip=None,
        request_id=None,
        host_id=None,
        extra=text,
        dialect=OPERATOR_DIALECT,
        record=text.encode(),
    )


def is_operator_name(name: str) -> bool:
    """Tell whether an event's name, or a filter's, is of the gateway's own."""
    return name.startswith(_PREFIX)


def names_operator_event(names: Iterable[str], event_type: str) -> bool:
    """Tell whether a filter's names hold an operator event: by its name, or by a family of the gateway's own."""
    return any(
        is_operator_name(name) and (name == event_type or (name.endswith(_ANY) and event_type.startswith(name[:-1])))
        for name in names
    )
