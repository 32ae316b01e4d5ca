"""A bucket's notification configuration: whose rule is which, what overlaps, and how one is added or taken out.

Putting one replaces all of it, so what belongs to others is carried along byte for byte. Pure.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.wiring.wish import Wish

Configuration = Mapping[str, Any]
"""As the AWS library gives and takes it, without its ResponseMetadata."""

Target = Literal["queue", "topic", "function"]

LISTS: Final[Mapping[Target, str]] = {
    "queue": "QueueConfigurations",
    "topic": "TopicConfigurations",
    "function": "LambdaFunctionConfigurations",
}
ARNS: Final[Mapping[Target, str]] = {"queue": "QueueArn", "topic": "TopicArn", "function": "LambdaFunctionArn"}
EVENT_BRIDGE: Final = "EventBridgeConfiguration"
OURS: Final = "bucketpost-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: these events of keys that begin and end so go to this target."""

    id: str
    target: Target
    arn: str
    events: frozenset[str]
    prefix: str = ""
    suffix: str = ""

    @property
    def is_ours(self) -> bool:
        """Tell whether `connect` made it, by its id."""
        return self.id.startswith(OURS)

    def __str__(self) -> str:
        keys = f" of {self.prefix}*{self.suffix}" if self.prefix or self.suffix else ""
        return f"rule {self.id or '(without an id)'} ({', '.join(sorted(self.events))}{keys} to {self.arn})"


def rule_id(*, queue: str, prefix: str = "", suffix: str = "") -> str:
    """Give the id of our rule for a queue and a filter: always the same, so that it is found again."""
    told = f"{queue}\0{prefix}\0{suffix}".encode()
    return f"{OURS}{queue}-{hashlib.sha256(told).hexdigest()[:8]}"


def queue_of(rule: Rule) -> str:
    """Give the name of the queue that a rule of ours was made for, from its id."""
    return rule.id.removeprefix(OURS).rpartition("-")[0]


def wanted_rule(wish: Wish, *, target: Target, arn: str) -> Rule:
    """Give the rule that a wish comes down to."""
    return Rule(
        id=rule_id(queue=wish.queue, prefix=wish.prefix, suffix=wish.suffix),
        target=target,
        arn=arn,
        events=frozenset(wish.events),
        prefix=wish.prefix,
        suffix=wish.suffix,
    )


def rules_of(configuration: Configuration) -> list[Rule]:
    """Read every rule, whoever made it."""
    return [_rule(target, given) for target, name in LISTS.items() for given in configuration.get(name) or ()]


def has_event_bridge(configuration: Configuration) -> bool:
    """Tell whether the bucket's events also go to EventBridge: an empty block that is there."""
    return configuration.get(EVENT_BRIDGE) is not None


def with_rule(configuration: Configuration, rule: Rule) -> dict[str, Any]:
    """Give the configuration with this rule in place of any of its id, in its place, and all else as it was."""
    name = LISTS[rule.target]
    present = list(configuration.get(name) or ())
    places = [place for place, given in enumerate(present) if given.get("Id") == rule.id]
    changed = configuration if places else without_rule(configuration, rule.id)
    for place in places:
        present[place] = _given(rule)
    return {**changed, name: present if places else [*present, _given(rule)]}


def without_rule(configuration: Configuration, id_: str) -> dict[str, Any]:
    """Give the configuration without the rule of this id, and all else as it was."""
    changed = dict(configuration)
    for name in LISTS.values():
        if name in changed:
            kept = [given for given in changed[name] or () if given.get("Id") != id_]
            if kept:
                changed[name] = kept
            else:
                del changed[name]
    return changed


def is_same(one: Configuration, other: Configuration) -> bool:
    """Tell whether two configurations mean the same, in whatever order and spelling."""
    return has_event_bridge(one) == has_event_bridge(other) and set(rules_of(one)) == set(rules_of(other))


def fulfils(rule: Rule, wanted: Rule) -> bool:
    """Tell whether a rule, under whatever id, sends all that the wanted one would to the same place."""
    return (rule.target, rule.arn, rule.prefix, rule.suffix) == (
        wanted.target,
        wanted.arn,
        wanted.prefix,
        wanted.suffix,
    ) and all(any(_covers(each, event) for each in rule.events) for event in wanted.events)


def overlapping(rules: Sequence[Rule], wanted: Rule) -> list[Rule]:
    """Give the rules beside which S3 refuses the wanted one; one of its own id would be replaced, and is none."""
    return [each for each in rules if each.id != wanted.id and overlap(each, wanted)]


def overlap(one: Rule, other: Rule) -> bool:
    """Tell whether S3 refuses two rules in one bucket: some event type in both, and keys that match both.

    Whatever the targets. A key that is long enough has any beginning with any end, so prefixes and suffixes are
    judged apart: two prefixes meet when one begins the other, two suffixes when one ends the other.
    """
    return (
        any(_covers(this, that) or _covers(that, this) for this in one.events for that in other.events)
        and (one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix))
        and (one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix))
    )


def _covers(wide: str, narrow: str) -> bool:
    return wide == narrow or (wide.endswith(":*") and narrow.startswith(wide[:-1]))


def _rule(target: Target, given: Mapping[str, Any]) -> Rule:
    filters = ((given.get("Filter") or {}).get("Key") or {}).get("FilterRules") or ()
    # AWS gives "Prefix" back for "prefix".
    values = {str(each.get("Name", "")).lower(): str(each.get("Value", "")) for each in filters}
    return Rule(
        id=given.get("Id") or "",
        target=target,
        arn=given.get(ARNS[target]) or "",
        events=frozenset(given.get("Events") or ()),
        prefix=values.get("prefix", ""),
        suffix=values.get("suffix", ""),
    )


def _given(rule: Rule) -> dict[str, Any]:
    given: dict[str, Any] = {"Id": rule.id, ARNS[rule.target]: rule.arn, "Events": sorted(rule.events)}
    filters = [
        {"Name": name, "Value": value} for name, value in (("prefix", rule.prefix), ("suffix", rule.suffix)) if value
    ]
    if filters:
        given["Filter"] = {"Key": {"FilterRules": filters}}
    return given
