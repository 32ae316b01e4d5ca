"""`bucketpost connect` and its kin over the wire: from nothing to a delivered webhook, and back."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.bed.aws import Aws
from tests.bed.gateway import Gateway
from tests.bed.process import BedError
from tests.bed.receiver import Receiver
from tests.bed.wiring import add_webhook

MakeGateway = Callable[..., Gateway]


@pytest.fixture
async def bucket(aws: Aws) -> str:
    """Make a bucket with a rule of somebody else."""
    queue_url = await aws.create_queue()
    return await aws.create_bucket(queue_url=queue_url, events=("s3:ObjectTagging:*",))


async def configuration_of(aws: Aws, bucket: str) -> dict[str, Any]:
    """Read the bucket's rules."""
    answer = await aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


async def connect(gateway: Gateway, aws: Aws, bucket: str, *options: str) -> str:
    """Run the command."""
    arguments = ("connect", f"s3://{bucket}", "--queue", f"{bucket}-events", "--endpoint-url", aws.endpoint_url)
    return await gateway.run(*arguments, *options, within=60)


async def test_from_nothing_to_a_webhook_and_a_second_run_changes_nothing(
    aws: Aws, receiver: Receiver, make_gateway: MakeGateway, bucket: str
) -> None:
    """One command beside a running gateway; a rule of others survives, and the next upload arrives."""
    gateway: Gateway = make_gateway()
    gateway.start()
    await gateway.ready()
    await add_webhook(gateway.api, receiver.url("/hook"))
    theirs = (await configuration_of(aws, bucket))["QueueConfigurations"]

    first = await connect(gateway, aws, bucket, "--events", "s3:ObjectCreated:*")
    after_first = await configuration_of(aws, bucket)
    second = await connect(gateway, aws, bucket, "--events", "s3:ObjectCreated:*")
    await aws.put_object(bucket, "cat.jpg")
    (request, *_) = await receiver.wait_for(1, path="/hook")

    assert "Connected" in first
    assert "Nothing to change at AWS." in second
    assert await configuration_of(aws, bucket) == after_first
    assert theirs[0] in after_first["QueueConfigurations"]
    assert len(after_first["QueueConfigurations"]) == 2
    assert json.loads(request.body)["data"]["key"] == "cat.jpg"
    (source,) = (await gateway.api.get("/sources"))["data"]
    assert source["test_event_at"] is not None


async def test_without_a_running_gateway_it_hears_by_itself(aws: Aws, make_gateway: MakeGateway, bucket: str) -> None:
    """The test event is received by the command, through a topic too; the gateway finds the source afterwards."""
    gateway: Gateway = make_gateway()

    said = await connect(gateway, aws, bucket, "--topic", f"{bucket}-topic", "--events", "s3:ObjectCreated:*")

    assert "Connected" in said
    (rule,) = (await configuration_of(aws, bucket))["TopicConfigurations"]
    assert rule["TopicArn"].endswith(f"{bucket}-topic")


async def test_a_dry_run_changes_nothing(aws: Aws, make_gateway: MakeGateway, bucket: str) -> None:
    """It shows the difference."""
    gateway: Gateway = make_gateway()
    before = await configuration_of(aws, bucket)

    said = await connect(gateway, aws, bucket, "--dry-run")

    assert "+ bucketpost-" in said
    assert await configuration_of(aws, bucket) == before


async def test_an_overlap_is_refused(aws: Aws, make_gateway: MakeGateway, bucket: str) -> None:
    """With status 2, and the rule that is in the way."""
    gateway: Gateway = make_gateway()

    with pytest.raises(BedError, match=r"status 2[\s\S]*overlap"):
        await connect(gateway, aws, bucket, "--events", "s3:ObjectTagging:Put")


async def test_disconnect_takes_back_what_connect_put(aws: Aws, make_gateway: MakeGateway, bucket: str) -> None:
    """The bucket's configuration is what it was, the source rests; once more there is nothing to undo."""
    gateway: Gateway = make_gateway()
    before = await configuration_of(aws, bucket)
    await connect(gateway, aws, bucket, "--events", "s3:ObjectCreated:*")
    arguments = ("disconnect", f"s3://{bucket}", "--queue", f"{bucket}-events", "--endpoint-url", aws.endpoint_url)

    first = await gateway.run(*arguments, within=60)
    second = await gateway.run(*arguments, within=60)

    assert "paused" in first
    assert "Nothing to undo." in second
    assert await configuration_of(aws, bucket) == before


async def test_the_doctor_and_the_policy(aws: Aws, make_gateway: MakeGateway, bucket: str) -> None:
    """A sound wiring has no error; one whose policy was taken away has one, with what mends it."""
    gateway: Gateway = make_gateway()
    await connect(gateway, aws, bucket, "--events", "s3:ObjectCreated:*")
    arguments = ("doctor", f"s3://{bucket}", "--endpoint-url", aws.endpoint_url, "--json")

    sound = json.loads(await gateway.run(*arguments, within=60))
    policy = json.loads(await gateway.run("aws", "policy", within=60))
    queue_url = (await aws.sqs.get_queue_url(QueueName=f"{bucket}-events"))["QueueUrl"]
    await aws.sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": ""})
    with pytest.raises(BedError, match="status 1"):
        await gateway.run(*arguments, within=60)

    assert "error" not in {each["severity"] for each in sound}
    assert policy["Statement"][0]["Resource"] == [await aws.queue_arn(queue_url)]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("connect", "photos", "--queue", "q"), 2, "write s3://BUCKET"),
        (("connect", "s3://photos", "--queue", "q.fifo"), 2, "FIFO"),
        (("connect", "s3://photos", "--queue", "q", "--endpoint-url", "http://127.0.0.1:1"), 1, "endpoint-url"),
        (("disconnect", "s3://photos", "--queue", "q", "--endpoint-url", "http://127.0.0.1:1"), 1, "endpoint-url"),
        (("doctor", "photos"), 2, "write s3://BUCKET"),
        (("aws", "policy"), 2, "no source at AWS"),
    ],
)
async def test_what_cannot_work_ends_with_a_sentence(
    make_gateway: MakeGateway, arguments: tuple[str, ...], status: int, said: str
) -> None:
    """No traceback."""
    gateway: Gateway = make_gateway()

    with pytest.raises(BedError, match=rf"status {status}[\s\S]*{said}") as ended:
        await gateway.run(*arguments, within=60)

    assert "Traceback" not in str(ended.value)
