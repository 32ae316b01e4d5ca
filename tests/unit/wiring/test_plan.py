"""Plans: from nothing, from half, from everything; what is refused; and the way back."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import SettingsError
from app.wiring import policy as policies
from app.wiring import show
from app.wiring.plan import MakeQueue, PutRule, SetQueue, SetTopicPolicy, plan_connect
from app.wiring.plan_back import DeleteQueue, TakeRule, Unsubscribe, plan_disconnect
from app.wiring.rules import rules_of
from app.wiring.snapshot import Snapshot, Topic
from app.wiring.wish import Wish
from tests.unit.wiring.worlds import (
    DEAD_ARN,
    FOREIGN_ARN,
    QUEUE_ARN,
    TOPIC_ARN,
    WISH,
    after,
    bucket,
    connected,
    queue,
    rule,
    snapshot,
)

OVER_TOPIC = replace(WISH, topic="told")
THEIRS: dict[str, Any] = {
    "QueueConfigurations": [rule("theirs", prefix="logs/")],
    "LambdaFunctionConfigurations": [rule("code", kind="LambdaFunction", events=["s3:ObjectAcl:Put"])],
    "EventBridgeConfiguration": {},
}
OURS = replace(WISH, prefix="images/")


def test_from_nothing_all_is_made_in_order() -> None:
    """The dead-letter queue comes before the queue that names it, the policy before the rule that needs it."""
    plan = plan_connect(snapshot(), WISH)

    dead, made, opened, put = plan.steps
    assert isinstance(dead, MakeQueue)
    assert isinstance(made, MakeQueue)
    assert isinstance(opened, SetQueue)
    assert isinstance(put, PutRule)
    assert int(dead.attributes["MessageRetentionPeriod"]) > int(made.attributes["MessageRetentionPeriod"])
    assert int(made.attributes["MaximumMessageSize"]) >= 65_536
    assert json.loads(made.attributes["RedrivePolicy"]) == {"deadLetterTargetArn": DEAD_ARN, "maxReceiveCount": 10}
    assert made.attributes["SqsManagedSseEnabled"] == "true"
    [statement] = json.loads(opened.attributes["Policy"])["Statement"]
    assert statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:photos"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }
    assert put.after["QueueConfigurations"][0]["QueueArn"] == QUEUE_ARN


_worlds = st.builds(
    lambda configuration, has_queue, has_dead, has_topic, size: snapshot(
        bucket=bucket(configuration),
        queue=queue(MaximumMessageSize=size) if has_queue else None,
        dead_letter_queue=queue("uploads-dead") if has_dead else None,
        topic=Topic(arn=TOPIC_ARN, attributes={}) if has_topic else None,
    ),
    st.sampled_from([{}, THEIRS]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["1024", "65536", "1048576"]),
)
_wishes = st.builds(
    Wish,
    bucket=st.just("photos"),
    queue=st.just("uploads"),
    topic=st.sampled_from([None, "told"]),
    prefix=st.just("images/"),
    suffix=st.sampled_from(["", ".jpg"]),
    events=st.sampled_from([("s3:ObjectCreated:*",), ("s3:ObjectRemoved:Delete", "s3:ObjectCreated:Put")]),
)


@given(_worlds, st.lists(_wishes, min_size=1, max_size=3))
def test_the_second_plan_is_empty(world: Snapshot, wishes: list[Wish]) -> None:
    """Whatever was there before, after a plan is carried out the next one for the same wish has no steps."""
    for wish in wishes:
        try:
            plan = plan_connect(world, wish)
        except SettingsError:
            continue
        world = after(world, plan)

        assert plan_connect(world, wish).steps == ()


@given(_worlds, _wishes)
def test_disconnect_gives_the_bucket_back_as_it_was(world: Snapshot, wish: Wish) -> None:
    """Rules and policies are as before connect; a second disconnect has no steps."""
    back = after(connected(world, wish), plan_disconnect(connected(world, wish), wish))

    assert world.bucket.configuration == back.bucket.configuration
    assert policies.statements_of(back.queue.policy if back.queue else "") == []
    assert not back.topic or not back.topic.subscriptions
    assert plan_disconnect(back, wish).steps == ()


def test_rules_of_others_stay_and_are_not_in_the_way() -> None:
    """A rule beside ours, a function's and the EventBridge flag are all there afterwards."""
    then = connected(snapshot(bucket=bucket(THEIRS)), OURS).bucket.configuration

    assert then["QueueConfigurations"][0] == THEIRS["QueueConfigurations"][0]
    assert len(then["QueueConfigurations"]) == 2
    assert then["LambdaFunctionConfigurations"] == THEIRS["LambdaFunctionConfigurations"]
    assert then["EventBridgeConfiguration"] == {}


@pytest.mark.parametrize(
    ("theirs", "way_out"),
    [
        ({"QueueConfigurations": [rule("theirs")]}, "fan out"),
        ({"LambdaFunctionConfigurations": [rule("theirs", kind="LambdaFunction", suffix="g")]}, "fan out"),
        ({"TopicConfigurations": [rule("theirs", kind="Topic", arn=TOPIC_ARN)]}, "sns subscribe"),
        ({"QueueConfigurations": [rule("bucketpost-other-12345678")]}, "disconnect it first"),
    ],
)
def test_an_overlap_is_refused_with_a_way_out(theirs: dict[str, Any], way_out: str) -> None:
    """The rule in the way is named, and what to do about it."""
    with pytest.raises(SettingsError, match=way_out) as refusal:
        plan_connect(snapshot(bucket=bucket(theirs)), replace(WISH, suffix=".jpg"))

    assert rules_of(theirs)[0].id in str(refusal.value)
    assert "Nothing was changed" in str(refusal.value)


def test_a_rule_made_by_hand_that_does_the_same_is_left_alone() -> None:
    """Somebody's own rule to our queue needs no second one, which S3 would refuse."""
    by_hand = {"QueueConfigurations": [rule("by-hand", arn=QUEUE_ARN, events=[*WISH.events, "s3:ObjectAcl:Put"])]}

    plan = plan_connect(snapshot(bucket=bucket(by_hand)), WISH)

    assert not plan.puts_rule
    assert any("by-hand" in each for each in plan.notes)


def test_other_events_change_the_rule_in_its_place() -> None:
    """The same queue and filter with other events is the same rule, changed."""
    world = connected(snapshot())
    fewer = replace(WISH, events=("s3:ObjectCreated:*",))

    [step] = plan_connect(world, fewer).steps

    assert isinstance(step, PutRule)
    assert [each.events for each in rules_of(step.after)] == [frozenset({"s3:ObjectCreated:*"})]


def test_a_queue_of_others_keeps_its_attributes() -> None:
    """Only what does not do for S3's events is changed of a queue that was there."""
    fine = plan_connect(snapshot(queue=queue(VisibilityTimeout="1")), WISH)
    small = plan_connect(snapshot(queue=queue(MaximumMessageSize="1024")), WISH)

    assert [set(each.attributes) for each in fine.steps if isinstance(each, SetQueue)] == [{"Policy"}]
    assert [set(each.attributes) for each in small.steps if isinstance(each, SetQueue)] == [
        {"MaximumMessageSize"},
        {"Policy"},
    ]


def test_a_dead_letter_queue_that_keeps_too_short_is_mended() -> None:
    """One of our name with less retention than the queue to be made keeps for longer afterwards."""
    [mended, *_] = plan_connect(snapshot(dead_letter_queue=queue("uploads-dead")), WISH).steps

    assert isinstance(mended, SetQueue)
    assert mended.attributes == {"MessageRetentionPeriod": "1209600"}


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (snapshot(queue=queue(KmsMasterKeyId="alias/aws/sqs")), "SqsManagedSseEnabled=true"),
        (snapshot(topic=Topic(arn=TOPIC_ARN, attributes={"KmsMasterKeyId": "alias/aws/sns"})), "set-topic-attributes"),
        (snapshot(bucket=bucket(region="us-east-2")), "us-east-2"),
    ],
)
def test_what_could_never_work_is_refused(seen: Snapshot, told: str) -> None:
    """A key of AWS's own and another region are refused with what mends it."""
    with pytest.raises(SettingsError, match=told):
        plan_connect(seen, OVER_TOPIC)


def test_a_customers_key_is_told_what_it_needs() -> None:
    """The key's policy cannot be seen to from here, so its statement is shown."""
    notes = plan_connect(snapshot(queue=queue(KmsMasterKeyId="alias/mine")), WISH).notes

    assert any("kms:GenerateDataKey" in each and "s3.amazonaws.com" in each for each in notes)


def test_over_a_topic_the_queue_lets_only_the_topic_in() -> None:
    """S3 may publish, the topic may send, the queue is subscribed, and the rule names the topic."""
    world = connected(snapshot(), OVER_TOPIC)

    assert world.queue is not None
    assert world.topic is not None
    assert policies.senders(world.queue.policy, policies.S3) == []
    assert policies.senders(world.queue.policy, policies.SNS) == [TOPIC_ARN]
    assert policies.senders(world.topic.policy, policies.S3) == ["arn:aws:s3:*:*:photos"]
    assert [each.endpoint for each in world.topic.subscriptions] == [QUEUE_ARN]
    assert [each.arn for each in rules_of(world.bucket.configuration)] == [TOPIC_ARN]


def test_a_second_filter_keeps_the_policy_on_the_first_ones_way_out() -> None:
    """Two rules of one bucket share a statement: it goes with the last of them."""
    jpg, png = replace(WISH, suffix=".jpg"), replace(WISH, suffix=".png")
    world = connected(connected(snapshot(), jpg), png)

    first = plan_disconnect(world, jpg)
    second = plan_disconnect(after(world, first), png)

    assert [type(each) for each in first.steps] == [TakeRule]
    assert [type(each) for each in second.steps] == [TakeRule, SetQueue]
    assert "may still send" in str(first.keeps_source)
    assert second.keeps_source is None


def test_a_topic_others_publish_to_keeps_its_subscription() -> None:
    """Another bucket's events go on to the queue over the topic."""
    world = connected(snapshot(), OVER_TOPIC)
    assert world.topic is not None
    other = policies.publishes_to_topic("other", topic_arn=TOPIC_ARN, account="123456789012")
    shared = replace(world.topic, attributes={"Policy": policies.with_statement(world.topic.policy, other)})

    plan = plan_disconnect(replace(world, topic=shared), OVER_TOPIC)

    assert [type(each) for each in plan.steps] == [TakeRule, SetTopicPolicy]
    assert not [each for each in plan.steps if isinstance(each, Unsubscribe)]
    assert plan.keeps_source is not None


def test_a_source_stays_while_messages_wait() -> None:
    """What is in the queue is still to be delivered."""
    waiting = queue(ApproximateNumberOfMessages="2", ApproximateNumberOfMessagesNotVisible="1")

    assert "3 messages" in str(plan_disconnect(snapshot(queue=waiting), WISH).keeps_source)
    assert plan_disconnect(snapshot(queue=queue()), WISH).keeps_source is None


def test_a_queue_is_deleted_only_alone() -> None:
    """Its own empty dead-letter queue goes with it; a queue that others send to is refused."""
    world = connected(snapshot())
    assert world.queue is not None
    other = policies.sends_to_queue("other", queue_arn=QUEUE_ARN, account="123456789012")
    policy = policies.with_statement(world.queue.policy, other)
    shared = replace(world.queue, attributes={**world.queue.attributes, "Policy": policy})

    plan = plan_disconnect(world, WISH, deletes_queue=True)

    assert [each.name for each in plan.steps if isinstance(each, DeleteQueue)] == ["uploads", "uploads-dead"]
    with pytest.raises(SettingsError, match="other may send"):
        plan_disconnect(replace(world, queue=shared), WISH, deletes_queue=True)


def test_what_is_not_found_is_told_with_what_is_there() -> None:
    """A wrong prefix shows the rules there are for the queue."""
    world = connected(snapshot(bucket=bucket(THEIRS)), OURS)

    notes = plan_disconnect(world, replace(OURS, prefix="image/")).notes

    assert any("images/*" in each for each in notes)
    assert not any(FOREIGN_ARN in each for each in notes)


def test_a_difference_shows_only_what_changes() -> None:
    """Rules of others appear as context at most, never as changed, whatever their order."""
    before = {"QueueConfigurations": [rule("b", prefix="b/"), rule("a", prefix="a/")]}
    put = plan_connect(snapshot(bucket=bucket(before)), OURS).steps[-1]

    lines = show.details(put)

    assert not [each for each in lines if each.startswith("-") and each != "--- now" and each.strip("- ,}")]
    assert any("bucketpost-uploads" in each and each.startswith("+") for each in lines)
    assert show.difference(before, {"QueueConfigurations": before["QueueConfigurations"][::-1]}) == []
