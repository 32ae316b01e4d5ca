"""Which subscriptions an event owes a delivery: filters compiled once an epoch, matched in memory.

Semantics: absent or empty members match all; buckets are globs with `*` and `?`; event names are S3's, with or without
`s3:`, with S3's wildcards; prefix and suffix compare the decoded key's bytes, case-sensitive. Overlap is allowed.
Operator events are taken by filters that name them, whatever else those say: no wildcard of S3's means them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from app.domain.change import canonical_name
from app.domain.configuration import Filter, Subscription
from app.domain.event import Event
from app.domain.filter_index import FilterIndex
from app.domain.operator_event import KNOWN_OPERATOR_EVENTS, is_operator_name, names_operator_event

# Amazon S3's `Event` enum; the families of other stores are known by their wildcard.
KNOWN_EVENTS: Final = frozenset(
    {
        "ReducedRedundancyLostObject",
        "ObjectCreated:*",
        "ObjectCreated:Put",
        "ObjectCreated:Post",
        "ObjectCreated:Copy",
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectRemoved:*",
        "ObjectRemoved:Delete",
        "ObjectRemoved:DeleteMarkerCreated",
        "ObjectRestore:*",
        "ObjectRestore:Post",
        "ObjectRestore:Completed",
        "ObjectRestore:Delete",
        "Replication:*",
        "Replication:OperationFailedReplication",
        "Replication:OperationNotTracked",
        "Replication:OperationMissedThreshold",
        "Replication:OperationReplicatedAfterThreshold",
        "LifecycleTransition",
        "IntelligentTiering",
        "ObjectAcl:Put",
        "LifecycleExpiration:*",
        "LifecycleExpiration:Delete",
        "LifecycleExpiration:DeleteMarkerCreated",
        "ObjectTagging:*",
        "ObjectTagging:Put",
        "ObjectTagging:Delete",
        "ObjectAnnotation:*",
        "ObjectAnnotation:Put",
        "ObjectAnnotation:Delete",
        "ObjectRetention:Put",
        "*",
    }
)


EVERYTHING: Final = Filter()


def unknown_events(names: Iterable[str]) -> list[str]:
    """Give the names that neither S3 nor the gateway knows, as they were written."""
    return [name for name in names if canonical_name(name) not in KNOWN_EVENTS and name not in KNOWN_OPERATOR_EVENTS]


def matches(wanted: Filter, event: Event) -> bool:
    """Tell whether a filter takes an event: the plain definition, against which the index is tested."""
    if event.is_operator_event:
        return names_operator_event(wanted.events, event.type)
    return (
        (not wanted.buckets or any(glob_matches(glob, event.bucket) for glob in wanted.buckets))
        and (not wanted.events or any(_name_matches(name, event.type) for name in wanted.events))
        and event.key.startswith(_raw(wanted.key_prefix))
        and event.key.endswith(_raw(wanted.key_suffix))
    )


def why_not(wanted: Filter, event: Event) -> str | None:
    """Say why a filter does not take an event, naming the first member that does not; None when it takes it."""
    if event.is_operator_event:
        is_taken = matches(wanted, event)
        return None if is_taken else f"The filter does not name {event.type}: operator events go to those that do."
    if not matches(replace(EVERYTHING, buckets=wanted.buckets), event):
        return f"The bucket {event.bucket} is none of: {', '.join(wanted.buckets)}."
    if not matches(replace(EVERYTHING, events=wanted.events), event):
        return f"The event {event.type} is none of: {', '.join(wanted.events)}."
    if not matches(replace(EVERYTHING, key_prefix=wanted.key_prefix), event):
        return f"The key does not begin with {wanted.key_prefix}"
    if not matches(replace(EVERYTHING, key_suffix=wanted.key_suffix), event):
        return f"The key does not end with {wanted.key_suffix}"
    return None


def glob_matches(glob: str, text: str) -> bool:
    """Match `*` (any run) and `?` (one character) in time linear in each `*`: no regular expression, no blow-up."""
    at, star, resume, place = 0, -1, 0, 0
    while place < len(text):
        if at < len(glob) and glob[at] == "*":
            star, resume = at, place
            at += 1
        elif at < len(glob) and glob[at] in ("?", text[place]):
            at += 1
            place += 1
        elif star >= 0:
            resume += 1
            at, place = star + 1, resume
        else:
            return False
    return all(character == "*" for character in glob[at:])


class Matcher:
    """The subscriptions of one epoch, found by what their filters ask for: for what stores say, not the gateway."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        """Index them; the order of the answers is that of the ids."""
        in_order = sorted(subscriptions, key=lambda each: each.id)
        self._in_order: Sequence[Subscription] = in_order
        self._index = FilterIndex((place, each.filter) for place, each in enumerate(in_order))

    def match(self, event: Event) -> Sequence[Subscription]:
        """Give every subscription that takes the event."""
        candidates = [self._in_order[place] for place in sorted(set(self._index.candidates(event)))]
        return [each for each in candidates if matches(each.filter, event)]


def _name_matches(wanted: str, event_type: str) -> bool:
    wanted, name = canonical_name(wanted), canonical_name(event_type)
    if is_operator_name(wanted):
        return False  # a store may say any name, and must not pass for the gateway
    if wanted.endswith("*"):
        return name.startswith(wanted[:-1])
    return name == wanted


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
