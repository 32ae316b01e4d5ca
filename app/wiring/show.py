"""Steps as text for people: one line each, and configurations and policies as unified differences. Pure."""

import difflib
import json
from collections.abc import Mapping
from typing import Any, assert_never

from app.wiring.plan import DAY_SECONDS, MakeQueue, MakeTopic, PutRule, SetQueue, SetTopicPolicy, Step, Subscribe
from app.wiring.plan_back import BackStep, DeleteQueue, TakeRule, Unsubscribe
from app.wiring.rules import ARNS, EVENT_BRIDGE, LISTS, Configuration


def line(step: Step | BackStep) -> str:  # noqa: PLR0911 -- one for each step there is
    """Tell one step: + made, ~ changed, - taken away."""
    match step:
        case MakeQueue():
            return f"+ queue {step.name}: {_attributes(step.attributes)}"
        case SetQueue():
            return f"~ queue {step.name}: {_names(step.attributes)}; {step.reason}"
        case MakeTopic():
            return f"+ topic {step.name}"
        case SetTopicPolicy():
            return f"~ topic {step.arn.rpartition(':')[2]}: policy; {step.reason}"
        case Subscribe():
            return f"+ subscription of the queue to {step.topic_arn}, raw"
        case PutRule():
            return f"~ bucket {step.bucket}: {step.rule}"
        case TakeRule():
            return f"- bucket {step.bucket}: {step.rule}"
        case Unsubscribe():
            return f"- subscription {step.arn}"
        case DeleteQueue():
            return f"- queue {step.name}, with about {step.messages} messages"
        case _:
            assert_never(step)


def short(step: Step | BackStep) -> str:
    """Tell one step that was told at length before."""
    return line(step).partition(": ")[0]


def details(step: Step | BackStep, *, policy_before: str = "") -> list[str]:
    """Give what a step writes, line by line, where that is more than a line tells."""
    match step:
        case PutRule() | TakeRule():
            return difference(step.before, step.after)
        case SetQueue(attributes={"Policy": policy}) | SetTopicPolicy(policy=policy):
            return _difference(_pretty(policy_before), _pretty(policy))
        case _:
            return []


def difference(before: Configuration, after: Configuration) -> list[str]:
    """Show what becomes of a notification configuration, whatever the order its rules come in."""
    return _difference(_lines(before), _lines(after))


def _difference(before: list[str], after: list[str]) -> list[str]:
    return list(difflib.unified_diff(before, after, "now", "then", n=3, lineterm=""))


def _lines(configuration: Configuration) -> list[str]:
    shown: dict[str, Any] = {}
    for target, name in LISTS.items():
        if configuration.get(name):
            shown[name] = sorted(configuration[name], key=lambda each: (each.get("Id") or "", each[ARNS[target]]))
    if configuration.get(EVENT_BRIDGE) is not None:
        shown[EVENT_BRIDGE] = configuration[EVENT_BRIDGE]
    return json.dumps(shown, indent=2).splitlines()


def _pretty(policy: str) -> list[str]:
    try:
        return json.dumps(json.loads(policy), indent=2).splitlines() if policy else []
    except ValueError:
        return policy.splitlines()


def _attributes(attributes: Mapping[str, str]) -> str:
    days = int(attributes["MessageRetentionPeriod"]) // DAY_SECONDS
    parts = [f"keeps messages {days} days", f"up to {int(attributes['MaximumMessageSize']) // 1024} KiB", "SSE-SQS"]
    if "ReceiveMessageWaitTimeSeconds" in attributes:
        parts.append(f"long poll {attributes['ReceiveMessageWaitTimeSeconds']} s")
    if "VisibilityTimeout" in attributes:
        parts.append(f"visibility {attributes['VisibilityTimeout']} s")
    if "RedrivePolicy" in attributes:
        redrive = json.loads(attributes["RedrivePolicy"])
        name = redrive["deadLetterTargetArn"].rpartition(":")[2]
        parts.append(f"to {name} after {redrive['maxReceiveCount']} receives")
    return ", ".join(parts)


def _names(attributes: Mapping[str, str]) -> str:
    return ", ".join(
        "policy" if name == "Policy" else f"{name} = {value}" for name, value in sorted(attributes.items())
    )
