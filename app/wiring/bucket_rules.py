"""A bucket's notification configuration as a value: whose rule is whose, which two clash, what a new one makes of it.

Putting a configuration replaces all of it, so everything of others is carried along as it came. Pure.
Amazon S3 user guide, "Configuring event notifications using object key name filtering".
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Configuration = Mapping[str, Any]
"""As AWS gives and takes it, without `ResponseMetadata`."""

QUEUES: Final = "QueueConfigurations"
TOPICS: Final = "TopicConfigurations"
FUNCTIONS: Final = "LambdaFunctionConfigurations"
# The list a rule stands in, and the member that names where it sends to.
_LISTS: Final = {QUEUES: "QueueArn", TOPICS: "TopicArn", FUNCTIONS: "LambdaFunctionArn"}
_OURS: Final = "bucketpost-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: which events of which keys go where. `kind` is the list it stands in."""

    id: str
    kind: str
    destination_arn: str
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""

    def text(self) -> str:
        """Show it on one line."""
        keys = f"{self.prefix}*{self.suffix}"
        return f"{self.id or '(no id)'}: {', '.join(self.events)} of {keys} to {self.destination_arn}"


def our_rule(destination_arn: str, *, kind: str, events: Sequence[str], prefix: str = "", suffix: str = "") -> Rule:
    """Make the rule of a wiring. Its id follows from where and what, so that it is found again."""
    told = f"{destination_arn}\x00{prefix}\x00{suffix}".encode()
    return Rule(
        id=f"{_OURS}{hashlib.sha256(told).hexdigest()[:16]}",
        kind=kind,
        destination_arn=destination_arn,
        events=tuple(sorted(events)),
        prefix=prefix,
        suffix=suffix,
    )


def rules_of(configuration: Configuration) -> list[Rule]:
    """Read every rule, in the order of the lists."""
    return [
        Rule(
            id=each.get("Id", ""),
            kind=kind,
            destination_arn=each[destination],
            events=tuple(sorted(each["Events"])),
            prefix=_filter_value(each, "prefix"),
            suffix=_filter_value(each, "suffix"),
        )
        for kind, destination in _LISTS.items()
        for each in configuration.get(kind, ())
    ]


def is_ours(rule: Rule) -> bool:
    """Tell whether a rule was made by a wiring."""
    return rule.id.startswith(_OURS)


def clash(one: Rule, other: Rule) -> bool:
    """Tell whether S3 refuses two rules beside one another: the same event, overlapping prefixes and suffixes."""
    return (
        _events_meet(one.events, other.events)
        and _overlap(one.prefix, other.prefix)
        and _overlap(one.suffix[::-1], other.suffix[::-1])
    )


def clashing(rule: Rule, configuration: Configuration) -> list[Rule]:
    """Give the rules that S3 would not let stand beside a new one; the one it takes the place of is none."""
    return [each for each in rules_of(configuration) if each.id != rule.id and clash(rule, each)]


def merged(configuration: Configuration, rule: Rule) -> Configuration:
    """Put a rule in, in the place of an earlier one with its id; all else stays as it is."""
    left = without(configuration, rule.id)
    return {**left, rule.kind: [*left.get(rule.kind, ()), _as_aws(rule)]}


def without(configuration: Configuration, rule_id: str) -> Configuration:
    """Take a rule out; all else stays as it is, lists that become empty go."""
    result = dict(configuration)
    for kind in _LISTS:
        if kind in result:
            result[kind] = [each for each in result[kind] if each.get("Id") != rule_id]
            if not result[kind]:
                del result[kind]
    return result


def has(configuration: Configuration, rule: Rule) -> bool:
    """Tell whether just this rule stands there."""
    return rule in rules_of(configuration)


def difference(before: Configuration, after: Configuration) -> list[str]:
    """Show what changes, a line a rule: `+` comes, `-` goes, two blanks stay."""
    old, new = rules_of(before), rules_of(after)
    lines = [f"  {each.text()}" if each in new else f"- {each.text()}" for each in old]
    lines += [f"+ {each.text()}" for each in new if each not in old]
    if "EventBridgeConfiguration" in before:
        lines.append("  EventBridge: on")
    return lines


def _as_aws(rule: Rule) -> dict[str, Any]:
    filters = [
        {"Name": name, "Value": value} for name, value in (("prefix", rule.prefix), ("suffix", rule.suffix)) if value
    ]
    return {
        "Id": rule.id,
        _LISTS[rule.kind]: rule.destination_arn,
        "Events": list(rule.events),
        **({"Filter": {"Key": {"FilterRules": filters}}} if filters else {}),
    }


def _filter_value(rule: Mapping[str, Any], name: str) -> str:
    # AWS gives the names back with a capital.
    rules = rule.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    return next((str(each.get("Value", "")) for each in rules if each.get("Name", "").lower() == name), "")


def _events_meet(one: Iterable[str], other: Iterable[str]) -> bool:
    theirs = list(other)
    return any(_is_within(mine, each) or _is_within(each, mine) for mine in one for each in theirs)


def _is_within(event: str, family: str) -> bool:
    return event == family or (family.endswith(":*") and event.startswith(family[:-1]))


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)
