"""Asks each source's queue for its ARN, its dead-letter queue and its key: what the gateway's own policy is made of."""

from app.aws.access import Access
from app.aws.clients import client
from app.domain.errors import GatewayError
from app.wiring.calls import CALL_SECONDS, called
from app.wiring.iam import ReadQueue, queue_arn
from app.wiring.snapshot import Queue


async def own_queue(url: str, access: Access) -> tuple[ReadQueue, str | None]:
    """Give what a policy must name of a queue, and why it could not be asked, if so: then it is what the URL says.

    A dead-letter queue that could not be asked for is named as connect would name it.
    """

    async def ask() -> Queue:
        async with client("sqs", access, read_seconds=CALL_SECONDS) as sqs:
            found = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return Queue(url=url, attributes=found.get("Attributes", {}))

    try:
        queue = await called("sqs:GetQueueAttributes", ask, access=access)
    except GatewayError as error:
        arn = queue_arn(url, region=access.region)
        return ReadQueue(arn=arn, dead_letter_arn=f"{arn}-dead", role_arn=access.role_arn), str(error)
    return (
        ReadQueue(
            arn=queue.arn or queue_arn(url, region=access.region),
            dead_letter_arn=queue.dead_letter_arn or None,
            key=queue.key or None,
            role_arn=access.role_arn,
        ),
        None,
    )
