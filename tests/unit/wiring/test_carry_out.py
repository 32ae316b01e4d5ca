"""Writing a bucket's configuration, which has no compare-and-swap: what happens between looking and putting."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from app.aws.access import Access
from app.domain.errors import SettingsError, SourceError
from app.wiring.calls import CallRefused, Calls
from app.wiring.carry_out import carry_back, carry_out
from app.wiring.plan import Plan, plan_connect
from app.wiring.plan_back import plan_disconnect
from app.wiring.rules import rules_of
from tests.unit.wiring.worlds import ACCOUNT, WISH, bucket, connected, rule, snapshot

UNVALIDATED = "Unable to validate the following destination configurations"


class FakeS3:
    """A bucket's notification configuration, with what happens at each put."""

    def __init__(self, *, refusals: int = 0, after_put: Callable[["FakeS3"], None] = lambda _: None) -> None:
        self.configuration: dict[str, Any] = {}
        self.puts: list[dict[str, Any]] = []
        self._refusals = refusals
        self._after_put = after_put

    async def get_bucket_notification_configuration(self, **asked: Any) -> dict[str, Any]:
        """Give what is there, as the library does."""
        assert asked["ExpectedBucketOwner"] == ACCOUNT.id
        return {**self.configuration, "ResponseMetadata": {}}

    async def put_bucket_notification_configuration(self, **asked: Any) -> None:
        """Take a configuration in place of the old one, or refuse it as S3 does before it knows a new policy."""
        self.puts.append(asked)
        if len(self.puts) <= self._refusals:
            error = {"Error": {"Code": "InvalidArgument", "Message": UNVALIDATED}}
            raise ClientError(cast("Any", error), "PutBucketNotificationConfiguration")
        self.configuration = asked["NotificationConfiguration"]
        self._after_put(self)


class Pauses:
    """A sleep that passes at once and is remembered."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        """Remember the span."""
        self.seconds.append(seconds)


def _calls(s3: FakeS3) -> Calls:
    return Calls(access=Access(), account=ACCOUNT, s3=cast("Any", s3), sqs=cast("Any", None), sns=cast("Any", None))


def _plan() -> Plan:
    """Give the plan of a wiring that lacks nothing but the rule."""
    world = connected(snapshot())
    return plan_connect(snapshot(queue=world.queue, dead_letter_queue=world.dead_letter_queue), WISH)


async def test_a_rule_that_came_in_between_is_kept() -> None:
    """What somebody put in after the plan was made is carried along."""
    s3 = FakeS3()
    s3.configuration = {
        "QueueConfigurations": [rule("late", events=["s3:ObjectAcl:Put"])],
        "EventBridgeConfiguration": {},
    }

    await carry_out(_calls(s3), WISH, _plan(), done=lambda _: None, sleep=Pauses())

    assert next(each.id for each in rules_of(s3.configuration)) == "late"
    assert len(rules_of(s3.configuration)) == 2
    assert s3.configuration["EventBridgeConfiguration"] == {}


async def test_an_overlap_that_came_in_between_is_refused() -> None:
    """Nothing is put over somebody's new rule for the same events."""
    s3 = FakeS3()
    s3.configuration = {"QueueConfigurations": [rule("late")]}

    with pytest.raises(SettingsError, match="late"):
        await carry_out(_calls(s3), WISH, _plan(), done=lambda _: None, sleep=Pauses())

    assert s3.puts == []


async def test_a_policy_that_is_not_known_yet_is_waited_for() -> None:
    """S3 looks at the target at once, and SQS takes a while to know a policy everywhere."""
    s3, pauses = FakeS3(refusals=3), Pauses()

    await carry_out(_calls(s3), WISH, _plan(), done=lambda _: None, sleep=pauses)

    assert len(s3.puts) == 4
    assert pauses.seconds[:3] == [1.0, 2.0, 4.0]
    assert len(rules_of(s3.configuration)) == 1


async def test_a_target_that_is_never_valid_is_told_in_s3s_words() -> None:
    """After a minute it is not going to be."""
    with pytest.raises(CallRefused, match=UNVALIDATED):
        await carry_out(_calls(FakeS3(refusals=100)), WISH, _plan(), done=lambda _: None, sleep=Pauses())


async def test_another_tool_that_writes_at_the_same_time_is_told() -> None:
    """What is read afterwards is not what was put: our rule, or somebody's, was lost."""

    def overwrite(s3: FakeS3) -> None:
        s3.configuration = {"QueueConfigurations": [rule("other-tool")]}

    with pytest.raises(SourceError, match="another tool"):
        await carry_out(_calls(FakeS3(after_put=overwrite)), WISH, _plan(), done=lambda _: None, sleep=Pauses())


async def test_the_way_back_does_not_ask_for_the_targets_of_others() -> None:
    """A rule of others whose queue is gone must not keep ours from being taken out."""
    world = connected(
        snapshot(bucket=bucket({"QueueConfigurations": [rule("dead", prefix="x", events=["s3:ObjectAcl:Put"])]}))
    )
    s3 = FakeS3()
    s3.configuration = dict(world.bucket.configuration)
    steps = plan_disconnect(world, WISH).steps[:1]

    await carry_back(_calls(s3), steps, done=lambda _: None, sleep=Pauses())

    assert [each.id for each in rules_of(s3.configuration)] == ["dead"]
    assert s3.puts[0]["SkipDestinationValidation"] is True
