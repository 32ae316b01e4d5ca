"""Rules of a bucket as values: nobody's rule is lost, and what S3 would refuse is known beforehand."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.wiring.bucket_rules import (
    QUEUES,
    TOPICS,
    Rule,
    clash,
    clashing,
    difference,
    has,
    is_ours,
    merged,
    our_rule,
    rules_of,
    without,
)

QUEUE = "arn:aws:sqs:eu-west-1:111122223333:events"
FOREIGN: dict[str, Any] = {
    "QueueConfigurations": [
        {
            "Id": "theirs",
            "QueueArn": "arn:aws:sqs:eu-west-1:111122223333:theirs",
            "Events": ["s3:ObjectRemoved:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "Prefix", "Value": "logs/"}]}},
        }
    ],
    "LambdaFunctionConfigurations": [
        {"Id": "thumbs", "LambdaFunctionArn": "arn:aws:lambda:eu-west-1:1:function:t", "Events": ["s3:ObjectTagging:*"]}
    ],
    "EventBridgeConfiguration": {},
}
words = st.text(alphabet="ab", max_size=3)


def rule(*events: str, prefix: str = "", suffix: str = "", number: int = 1) -> Rule:
    """Make a rule."""
    return Rule(id=f"rule-{number}", kind=QUEUES, destination_arn=QUEUE, events=events, prefix=prefix, suffix=suffix)


def test_a_rule_is_merged_in_and_nobodys_is_lost() -> None:
    """Everything of others is carried along as it came, EventBridge's switch too."""
    ours = our_rule(QUEUE, kind=QUEUES, events=["s3:ObjectCreated:*"], prefix="img/")

    after = merged(FOREIGN, ours)

    assert after["QueueConfigurations"][0] == FOREIGN["QueueConfigurations"][0]
    assert after["LambdaFunctionConfigurations"] == FOREIGN["LambdaFunctionConfigurations"]
    assert after["EventBridgeConfiguration"] == {}
    assert has(after, ours)
    assert without(after, ours.id) == FOREIGN


def test_merging_twice_changes_nothing_more() -> None:
    """The rule takes its own place."""
    ours = our_rule(QUEUE, kind=TOPICS, events=["s3:ObjectCreated:*"])

    assert merged(merged(FOREIGN, ours), ours) == merged(FOREIGN, ours)


def test_the_id_says_whose_and_which() -> None:
    """The same for the same place and keys, whatever the events; another for others."""
    one = our_rule(QUEUE, kind=QUEUES, events=["s3:ObjectCreated:*"])

    assert is_ours(one)
    assert not is_ours(rule("s3:ObjectCreated:*"))
    assert one.id == our_rule(QUEUE, kind=QUEUES, events=["s3:ObjectRemoved:*"]).id
    assert one.id != our_rule(QUEUE, kind=QUEUES, events=["s3:ObjectCreated:*"], prefix="a").id


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        (rule("s3:ObjectCreated:*"), rule("s3:ObjectCreated:Put"), True),
        (rule("s3:ObjectCreated:Put"), rule("s3:ObjectCreated:Post"), False),
        (rule("s3:ObjectCreated:*"), rule("s3:ObjectRemoved:*"), False),
        (rule("s3:ObjectCreated:*", prefix="img/"), rule("s3:ObjectCreated:*", prefix="img/2026/"), True),
        (rule("s3:ObjectCreated:*", prefix="img/"), rule("s3:ObjectCreated:*", prefix="doc/"), False),
        (rule("s3:ObjectCreated:*", suffix="jpg"), rule("s3:ObjectCreated:*", suffix="pg"), True),
        (rule("s3:ObjectCreated:*", suffix=".jpg"), rule("s3:ObjectCreated:*", suffix=".png"), False),
        (rule("s3:ObjectCreated:*", suffix=".jpg"), rule("s3:ObjectCreated:*", prefix="img/"), True),
        (
            rule("s3:ObjectCreated:*", prefix="a", suffix=".x"),
            rule("s3:ObjectCreated:*", prefix="a", suffix=".y"),
            False,
        ),
    ],
)
def test_which_rules_s3_refuses_beside_one_another(one: Rule, other: Rule, refused: bool) -> None:  # noqa: FBT001
    """The same event, and overlapping prefixes and suffixes; both ways round."""
    assert clash(one, other) is refused
    assert clash(other, one) is refused


@given(words, words, words, words)
@settings(deadline=None)
def test_rules_that_do_not_clash_share_no_key(prefix: str, suffix: str, other_prefix: str, other_suffix: str) -> None:
    """Held against every short key: where both would take one, they clash."""
    one = rule("s3:ObjectCreated:Put", prefix=prefix, suffix=suffix)
    other = rule("s3:ObjectCreated:Put", prefix=other_prefix, suffix=other_suffix)
    keys = ("".join(each) for length in range(7) for each in itertools.product("ab", repeat=length))
    shared = any(
        key.startswith(prefix) and key.endswith(suffix) and key.startswith(other_prefix) and key.endswith(other_suffix)
        for key in keys
    )

    assert clash(one, other) or not shared


def test_only_what_clashes_is_named() -> None:
    """Not the rule itself, and not those that can stand beside it."""
    ours = our_rule(QUEUE, kind=QUEUES, events=["s3:ObjectRemoved:Delete"], prefix="logs/a")

    assert [each.id for each in clashing(ours, merged(FOREIGN, ours))] == ["theirs"]


def test_the_difference_shows_what_comes_goes_and_stays() -> None:
    """A line a rule."""
    ours = our_rule(QUEUE, kind=QUEUES, events=["s3:ObjectCreated:*"])

    lines = difference(FOREIGN, merged(FOREIGN, ours))

    assert [line[0] for line in lines] == [" ", " ", "+", " "]
    assert "EventBridge" in lines[-1]


def test_filters_are_read_whatever_their_case() -> None:
    """AWS gives `Prefix` back for `prefix`."""
    assert [each.prefix for each in rules_of(FOREIGN)] == ["logs/", ""]
