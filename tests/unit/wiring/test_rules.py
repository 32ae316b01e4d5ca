"""Notification configurations: what S3 calls an overlap, and that nothing of others is ever lost."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wiring import rules
from app.wiring.rules import Rule, fulfils, is_same, overlap, rules_of, wanted_rule, with_rule, without_rule
from app.wiring.wish import Wish
from tests.unit.wiring import worlds

WORDS = ["", "a", "b", "aa", "ab", "ba", "bb"]
KEYS = ["".join(letters) for length in range(5) for letters in product("ab", repeat=length)]
EVENTS = {
    "s3:ObjectCreated:*": {"s3:ObjectCreated:Put", "s3:ObjectCreated:Copy"},
    "s3:ObjectCreated:Put": {"s3:ObjectCreated:Put"},
    "s3:ObjectCreated:Copy": {"s3:ObjectCreated:Copy"},
    "s3:ObjectRemoved:*": {"s3:ObjectRemoved:Delete"},
    "s3:LifecycleTransition": {"s3:LifecycleTransition"},
}


def _rule(**fields: Any) -> Rule:
    return Rule(**{"id": "r", "target": "queue", "arn": "q", "events": frozenset({"s3:ObjectCreated:*"}), **fields})


def test_filters_overlap_as_a_search_through_all_keys_says() -> None:
    """Two filters overlap exactly where some key, long enough, matches both."""
    matched = {
        (prefix, suffix): {key for key in KEYS if key.startswith(prefix) and key.endswith(suffix)}
        for prefix in WORDS
        for suffix in WORDS
    }

    for one, other in product(matched, repeat=2):
        expected = bool(matched[one] & matched[other])

        found = overlap(_rule(prefix=one[0], suffix=one[1]), _rule(prefix=other[0], suffix=other[1]))

        assert expected == found, (one, other)


@pytest.mark.parametrize("one", EVENTS)
@pytest.mark.parametrize("other", EVENTS)
def test_event_names_overlap_where_one_event_is_meant_by_both(one: str, other: str) -> None:
    """A wildcard means its whole family, in either rule."""
    expected = bool(EVENTS[one] & EVENTS[other])

    assert expected == overlap(_rule(events=frozenset({one})), _rule(events=frozenset({other})))


def test_s3s_own_examples_of_overlap() -> None:
    """The user guide's: jpg overlaps pg; images/ with .jpg and .png do not."""
    assert overlap(_rule(suffix="jpg"), _rule(suffix="pg"))
    assert not overlap(_rule(prefix="images/", suffix=".jpg"), _rule(prefix="images/", suffix=".png"))
    assert not overlap(_rule(prefix="images/"), _rule(prefix="logs/"))


_foreign = st.builds(
    lambda id_, kind, events, prefix: (
        kind,
        worlds.rule(
            f"f-{id_}", kind=kind, arn=f"arn:{kind}:{id_}", events=events, **({"prefix": prefix} if prefix else {})
        ),
    ),
    st.integers(0, 10_000),
    st.sampled_from(["Queue", "Topic", "LambdaFunction"]),
    st.lists(st.sampled_from(sorted(EVENTS)), min_size=1, unique=True),
    st.sampled_from(WORDS),
)
_configurations = st.builds(
    lambda given, bridge: {
        **{f"{kind}Configurations": [each for of, each in given if of == kind] for kind in {of for of, _ in given}},
        **({"EventBridgeConfiguration": {}} if bridge else {}),
    },
    st.lists(_foreign, max_size=6, unique_by=lambda each: each[1]["Id"]),
    st.booleans(),
)
_wishes = st.builds(
    Wish,
    bucket=st.just("photos"),
    queue=st.sampled_from(["one", "two"]),
    prefix=st.sampled_from(WORDS),
    suffix=st.sampled_from(WORDS),
)


@given(_configurations, st.lists(st.tuples(_wishes, st.sampled_from(["queue", "topic"])), min_size=1, max_size=4))
def test_no_rule_of_others_is_ever_lost(configuration: dict[str, Any], steps: list[tuple[Wish, Any]]) -> None:
    """Putting rules of ours in, changing and taking them out again leaves all others byte for byte, in their order."""
    changed: Any = configuration

    for wish, target in steps:
        ours = wanted_rule(wish, target=target, arn="arn:ours")
        changed = with_rule(changed, ours)
        assert [each for each in rules_of(changed) if each.id == ours.id] == [ours]
        assert with_rule(changed, ours) == changed
    for wish, _ in steps:
        changed = without_rule(changed, rules.rule_id(queue=wish.queue, prefix=wish.prefix, suffix=wish.suffix))

    assert configuration == changed


def test_sameness_ignores_order_and_spelling() -> None:
    """AWS gives rules and events back in an order of its own, and Prefix for prefix."""
    one = {
        "QueueConfigurations": [
            worlds.rule("a", prefix="x"),
            worlds.rule("b", events=["s3:ObjectRemoved:*", "s3:ObjectAcl:Put"]),
        ]
    }
    other = {
        "QueueConfigurations": [
            worlds.rule("b", events=["s3:ObjectAcl:Put", "s3:ObjectRemoved:*"]),
            worlds.rule("a", prefix="x"),
        ]
    }
    other["QueueConfigurations"][1]["Filter"]["Key"]["FilterRules"][0]["Name"] = "prefix"

    assert is_same(one, other)
    assert not is_same(one, {**one, "EventBridgeConfiguration": {}})
    assert not is_same(one, {"TopicConfigurations": one["QueueConfigurations"]})


def test_a_rule_under_another_id_fulfils_what_it_covers() -> None:
    """Somebody's rule that sends the same events, or more, to the same place does what ours would."""
    wanted = _rule(events=frozenset({"s3:ObjectCreated:Put"}))

    assert fulfils(_rule(id="hand-made"), wanted)
    assert not fulfils(wanted, _rule())
    assert not fulfils(_rule(prefix="a"), wanted)
    assert not fulfils(_rule(arn="elsewhere"), wanted)


def test_the_id_is_stable_and_tells_the_queue() -> None:
    """The id is the same in every version, since the next run and disconnect find the rule by it."""
    assert rules.rule_id(queue="uploads", prefix="images/", suffix=".jpg") == "bucketpost-uploads-b4db85a4"
    assert rules.queue_of(_rule(id="bucketpost-my-queue-ed98ea26")) == "my-queue"
