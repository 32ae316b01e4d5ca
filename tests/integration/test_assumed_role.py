"""A role assumed at a real STS over a socket: who signs what is read off the wire."""

import re

import pytest

from app.domain.errors import SourceError
from app.sources.sqs import SqsSource
from app.sources.sqs_config import SqsConfig
from tests.bed.aws import ENVIRONMENT, Aws
from tests.bed.relay import relayed

SIGNED_BY = re.compile(rb"Credential=(\w+)/\d{8}/us-east-1/(\w+)/")


async def test_a_queue_is_read_as_the_assumed_role(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own key signs one call, to STS; every call to the queue is signed with the role's."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    sent: list[bytes] = []
    queue_url = await aws.create_queue()
    await aws.send(queue_url, "for the role")
    async with relayed(aws.endpoint_url, seen=sent.append) as url:
        source = SqsSource(
            SqsConfig.model_validate(
                {
                    "queue_url": queue_url,
                    "region": "us-east-1",
                    "endpoint_url": url,
                    "wait_seconds": 1,
                    "role_arn": "arn:aws:iam::123456789012:role/reader",
                    "external_id": "tenant-7",
                }
            )
        )

        messages = await source.receive()
        left = await source.ack(messages)
        await source.aclose()

    (own, first), *others = SIGNED_BY.findall(b"".join(sent))
    assert ([each.body for each in messages], list(left)) == ([b"for the role"], [])
    assert (own, first) == (b"testing", b"sts")
    assert {service for _, service in others} == {b"sqs"}
    [key] = {key for key, _ in others}
    assert key.startswith(b"ASIA")
    assert b"ExternalId=tenant-7" in b"".join(sent)


async def test_an_sts_that_is_away_is_a_source_error(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the address at which the role was to be assumed."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    source = SqsSource(
        SqsConfig.model_validate(
            {
                "queue_url": await aws.create_queue(),
                "region": "us-east-1",
                "endpoint_url": "http://127.0.0.1:9",
                "role_arn": "arn:aws:iam::123456789012:role/reader",
            }
        )
    )

    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9"):
        await source.receive()
    await source.aclose()
