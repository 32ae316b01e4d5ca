"""connect, disconnect, doctor and aws policy as an operator runs them, against S3, SQS and SNS.

Where moto is not AWS: it takes overlapping rules and targets that are closed or not there, tells nobody of the
EventBridge flag, sends the test event to every target at each write, and lets anybody do anything.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from types_aiobotocore_s3.type_defs import NotificationConfigurationTypeDef

from tests.bed import wiring
from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.process import until
from tests.bed.receiver import Receiver

MakeGateway = Callable[..., Gateway]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


async def _run(gateway: Gateway, *arguments: str) -> Ran:
    gateway._commands += 1
    command = gateway._program(arguments, f"command-{gateway._commands}")
    command.start()
    status = await command.end(within=90)
    assert "Traceback" not in command.stderr()
    return Ran(status=status, out=command.stdout(), err=command.stderr())


@pytest.fixture
async def bucket(aws: Aws) -> str:
    """Make a bucket without rules."""
    return await aws.create_bucket()


@pytest.fixture
def named(bucket: str) -> str:
    """Give a name for the test's own queue."""
    return bucket.replace("bucket", "uploads")


async def test_from_nothing_to_a_delivered_webhook_and_nothing_twice(  # noqa: PLR0913, PLR0917 -- the parts of the scene
    database_url: str, aws: Aws, bucket: str, named: str, receiver: Receiver, make_gateway: MakeGateway
) -> None:
    """Connect makes all and hears the test event, an upload then arrives; the second run changes nothing."""
    foreign: NotificationConfigurationTypeDef = {
        "QueueConfigurations": [
            {
                "Id": "theirs",
                "QueueArn": await aws.queue_arn(await aws.create_queue()),
                "Events": ["s3:ObjectCreated:Put"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "logs/"}]}},
            }
        ]
    }
    await aws.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=foreign)
    gateway = make_gateway(database_url=database_url)
    wire = ("connect", f"s3://{bucket}", "--queue", named, "--prefix", "images/", "--endpoint-url", aws.endpoint_url)

    first = await _run(gateway, *wire)
    gateway.start()
    await gateway.ready()
    endpoint = await wiring.add_webhook(gateway.api, receiver.url("/hook"))
    receiver.verify("/hook", endpoint["secret"])
    await aws.put_object(bucket, "images/cat.jpg")
    [request] = await receiver.wait_for(1, path="/hook", within=30)
    before = await aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    second = await _run(gateway, *wire)
    after = await aws.s3.get_bucket_notification_configuration(Bucket=bucket)

    assert (first.status, first.err) == (0, "")
    assert f"+ queue {named}-dead" in first.out
    assert '+      "Id": "bucketpost-' in first.out
    assert "test event came through" in first.out
    assert json.loads(request.body)["data"]["key"] == "images/cat.jpg"
    assert (second.status, second.err) == (0, "")
    assert "Nothing to change" in second.out
    assert before["QueueConfigurations"] == after["QueueConfigurations"]
    assert after["QueueConfigurations"][0] == foreign["QueueConfigurations"][0]
    [source] = (await gateway.api.get("/sources"))["data"]
    assert source["config"]["endpoint_url"] == aws.endpoint_url
    assert source["test_event_at"] is not None


async def test_connect_beside_a_running_gateway(
    database_url: str, aws: Aws, bucket: str, named: str, make_gateway: MakeGateway
) -> None:
    """Whoever of the two receives the test event, the command sees it."""
    gateway = make_gateway(database_url=database_url)
    gateway.start()
    await gateway.ready()

    ran = await _run(gateway, "connect", f"s3://{bucket}", "--queue", named, "--endpoint-url", aws.endpoint_url)

    assert (ran.status, ran.err) == (0, "")
    assert "test event came through" in ran.out
    assert (await gateway.terminate()).status == 0


async def test_over_a_topic_and_back(
    sqlite_url: str, aws: Aws, bucket: str, named: str, make_gateway: MakeGateway
) -> None:
    """The test event comes over the topic; disconnect leaves the bucket and the queue as if nothing had been."""
    gateway = make_gateway(database_url=sqlite_url)
    at = ("--queue", named, "--topic", f"{named}-told", "--endpoint-url", aws.endpoint_url)
    topic_arn = f"arn:aws:sns:{aws.region}:123456789012:{named}-told"

    wired = await _run(gateway, "connect", f"s3://{bucket}", *at)
    subscriptions = (await aws.sns.list_subscriptions_by_topic(TopicArn=topic_arn))["Subscriptions"]
    again = await _run(gateway, "connect", f"s3://{bucket}", *at)
    shown = await _run(gateway, "disconnect", f"s3://{bucket}", *at, "--dry-run")
    left = await aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    back = await _run(gateway, "disconnect", f"s3://{bucket}", *at)
    back_again = await _run(gateway, "disconnect", f"s3://{bucket}", *at)

    assert (wired.status, again.status) == (0, 0)
    assert len(subscriptions) == 1
    assert "Nothing to change" in again.out
    assert "dry run" in shown.out
    assert left["TopicConfigurations"][0]["TopicArn"] == topic_arn
    assert (back.status, back_again.status) == (0, 0)
    assert "done  - source" in back.out
    assert "Nothing to change" in back_again.out
    configuration = await aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    assert not configuration.get("TopicConfigurations")
    assert not (await aws.sns.list_subscriptions_by_topic(TopicArn=topic_arn))["Subscriptions"]
    url = (await aws.sqs.get_queue_url(QueueName=named))["QueueUrl"]
    attributes = (await aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
    assert "Statement" not in attributes.get("Policy", "")


async def test_a_dry_run_changes_nothing(aws: Aws, bucket: str, named: str, make_gateway: MakeGateway) -> None:
    """All is shown, and there is neither a queue nor a rule nor a database afterwards."""
    gateway = make_gateway()

    ran = await _run(
        gateway, "connect", f"s3://{bucket}", "--queue", named, "--dry-run", "--endpoint-url", aws.endpoint_url
    )

    assert (ran.status, ran.err) == (0, "")
    assert f"+ queue {named}" in ran.out
    assert "dry run" in ran.out
    configuration = await aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    assert not configuration.get("QueueConfigurations")
    assert not (await aws.sqs.list_queues(QueueNamePrefix=named)).get("QueueUrls")
    assert not list(gateway.directory.glob("*.db"))


async def test_an_overlap_is_refused_before_anything_is_made(aws: Aws, named: str, make_gateway: MakeGateway) -> None:
    """The rule in the way is named, status 2, and no queue was made."""
    bucket = await aws.create_bucket(queue_url=await aws.create_queue())

    ran = await _run(make_gateway(), "connect", f"s3://{bucket}", "--queue", named, "--endpoint-url", aws.endpoint_url)

    assert ran.status == 2
    assert "S3 refuses a second one" in ran.err
    assert not (await aws.sqs.list_queues(QueueNamePrefix=named)).get("QueueUrls")


async def test_a_test_event_that_never_comes_is_told(
    sqlite_url: str, aws: Aws, bucket: str, named: str, make_gateway: MakeGateway
) -> None:
    """Somebody else's rule does it all, so none is written and no test event comes: status 1, all stays wired."""
    url = (await aws.sqs.create_queue(QueueName=named))["QueueUrl"]
    await aws.s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "Id": "by-hand",
                    "QueueArn": await aws.queue_arn(url),
                    "Events": [
                        "s3:ObjectCreated:*",
                        "s3:ObjectRemoved:*",
                        "s3:ObjectRestore:*",
                        "s3:LifecycleExpiration:*",
                    ],
                }
            ]
        },
    )
    await aws.take(url, 1)
    gateway = make_gateway(database_url=sqlite_url)

    ran = await _run(
        gateway, "connect", f"s3://{bucket}", "--queue", named, "--wait", "2", "--endpoint-url", aws.endpoint_url
    )

    assert ran.status == 1
    assert "by-hand" in ran.out
    assert "All is wired and stays so" in ran.err


async def test_the_doctor_finds_drift_and_what_is_missing(
    sqlite_url: str, aws: Aws, bucket: str, named: str, make_gateway: MakeGateway
) -> None:
    """Healthy is status 0; a rule another tool took out, a queue too small and no policy are status 1 with a remedy."""
    gateway = make_gateway(database_url=sqlite_url)
    at = ("--endpoint-url", aws.endpoint_url)
    await _run(gateway, "connect", f"s3://{bucket}", "--queue", named, *at)
    url = (await aws.sqs.get_queue_url(QueueName=named))["QueueUrl"]

    healthy = await _run(gateway, "doctor", f"s3://{bucket}", *at)
    everywhere = await _run(gateway, "doctor")
    await aws.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    attributes = (await aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]))["Attributes"]
    # moto forgets a policy that is not given along.
    await aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={**attributes, "MaximumMessageSize": "1024"})
    ill = await _run(gateway, "doctor", "--json")
    mended = await _run(gateway, "connect", f"s3://{bucket}", "--queue", named, *at)
    well = await _run(gateway, "doctor", "--json")

    assert (healthy.status, everywhere.status) == (0, 0)
    assert "is as it should be" in healthy.out
    found = {each["code"]: each for each in json.loads(ill.out)["findings"]}
    assert ill.status == 1
    assert "bucketpost connect" in found["rule_gone"]["mend"]
    assert "MaximumMessageSize" in found["message_size"]["mend"]
    assert found["unversioned"]["severity"] == "info"
    assert mended.status == 0
    assert well.status == 0, well.out


async def test_the_doctor_tells_of_a_queue_that_is_gone(
    sqlite_url: str, aws: Aws, bucket: str, named: str, make_gateway: MakeGateway
) -> None:
    """Its source cannot be read, and the rule sends to nowhere."""
    gateway = make_gateway(database_url=sqlite_url)
    at = ("--endpoint-url", aws.endpoint_url)
    await _run(gateway, "connect", f"s3://{bucket}", "--queue", named, *at)
    await aws.sqs.delete_queue(QueueUrl=(await aws.sqs.get_queue_url(QueueName=named))["QueueUrl"])

    ran = await _run(gateway, "doctor", f"s3://{bucket}", *at)

    assert ran.status == 1
    assert "does not exist" in ran.out
    assert f"bucketpost disconnect s3://{bucket} --queue {named}" in ran.out


async def test_disconnect_takes_out_only_its_own(
    sqlite_url: str, aws: Aws, bucket: str, named: str, make_gateway: MakeGateway
) -> None:
    """A rule of others stays; with --delete-queue both queues and the source go."""
    foreign = await aws.queue_arn(await aws.create_queue())
    await aws.s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"Id": "theirs", "QueueArn": foreign, "Events": ["s3:ObjectAcl:Put"]}]
        },
    )
    gateway = make_gateway(database_url=sqlite_url)
    at = (f"s3://{bucket}", "--queue", named, "--endpoint-url", aws.endpoint_url)
    await _run(gateway, "connect", *at)

    ran = await _run(gateway, "disconnect", *at, "--delete-queue")

    assert (ran.status, ran.err) == (0, "")
    configuration = await aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    assert [each["Id"] for each in configuration["QueueConfigurations"]] == ["theirs"]
    assert not (await aws.sqs.list_queues(QueueNamePrefix=named)).get("QueueUrls")
    gateway.start()
    await gateway.ready()
    assert (await gateway.api.get("/sources"))["data"] == []


async def test_the_policy_is_json_alone_and_names_the_queue(
    sqlite_url: str, aws: Aws, bucket: str, named: str, make_gateway: MakeGateway
) -> None:
    """What is printed can be given to AWS as it is."""
    gateway = make_gateway(database_url=sqlite_url)
    empty = await _run(gateway, "aws", "policy")
    await _run(gateway, "connect", f"s3://{bucket}", "--queue", named, "--endpoint-url", aws.endpoint_url)

    ran = await _run(gateway, "aws", "policy")

    assert json.loads(empty.out)["Statement"] == []
    statements: dict[str, Any] = {each["Sid"]: each for each in json.loads(ran.out)["Statement"]}
    arn = f"arn:aws:sqs:{aws.region}:123456789012:{named}"
    assert statements["ReadQueues"]["Resource"] == [arn]
    assert statements["ReadDeadLetters"]["Resource"] == [f"{arn}-dead"]
    assert (ran.status, ran.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("connect", "photos", "--queue", "q"), 2, "s3://BUCKET"),
        (("connect", "s3://no-such-bucket-here", "--queue", "q"), 2, "There is no bucket"),
        (("connect", "s3://photos", "--queue", "q", "--region", "Mars 1"), 2, "--region"),
        (("disconnect", "s3://no-such-bucket-here", "--queue", "q"), 2, "There is no bucket"),
        (("doctor", "photos"), 2, "s3://BUCKET"),
    ],
)
async def test_wrong_input_is_one_sentence(
    aws: Aws, make_gateway: MakeGateway, arguments: tuple[str, ...], status: int, told: str
) -> None:
    """Wrong usage is status 2 and says what to write."""
    ran = await _run(make_gateway(), *arguments, "--endpoint-url", aws.endpoint_url)

    assert ran.status == status
    assert told in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("command", ["connect", "disconnect"])
async def test_an_endpoint_that_does_not_answer_is_one_sentence(command: str, make_gateway: MakeGateway) -> None:
    """Nobody there is status 1 and names the endpoint."""
    ran = await _run(make_gateway(), command, "s3://photos", "--queue", "q", "--endpoint-url", "http://127.0.0.1:1")

    assert ran.status == 1
    assert "127.0.0.1:1" in ran.err
    assert len(ran.err.splitlines()) == 1


async def test_no_credentials_is_one_sentence(aws: Aws, make_gateway: MakeGateway) -> None:
    """Status 1, and where credentials may come from."""
    gateway = make_gateway()
    gateway._env = {name: value for name, value in gateway._env.items() if not name.startswith("AWS_ACCESS_KEY")}

    ran = await _run(gateway, "connect", "s3://photos", "--queue", "q", "--endpoint-url", aws.endpoint_url)

    assert ran.status == 1
    assert "AWS_PROFILE" in ran.err


async def test_ctrl_c_while_waiting_leaves_all_wired(
    sqlite_url: str, aws: Aws, bucket: str, named: str, make_gateway: MakeGateway
) -> None:
    """The wait ends at once without a trace; the next run goes on from there."""
    gateway = make_gateway(database_url=sqlite_url)
    url = (await aws.sqs.create_queue(QueueName=named))["QueueUrl"]
    # Delayed, so that the test event does not end the wait.
    await aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "900"})
    at = ("connect", f"s3://{bucket}", "--queue", named, "--endpoint-url", aws.endpoint_url)
    command = gateway._program(at, "interrupted")
    command.start()

    async def is_waiting() -> bool:
        return "Waiting up to" in command.stdout()

    await until(is_waiting, within=60, what="the command waits", process=command)
    command.send(signal.SIGINT)
    status = await command.end(within=20)
    again = await _run(gateway, *at, "--dry-run")

    assert status == 130
    assert "Traceback" not in command.stderr()
    assert "Nothing to change" in again.out
