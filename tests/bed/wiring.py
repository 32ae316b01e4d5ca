"""What most tests set up through REST: an endpoint with a subscription, and a source."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bed.api_client import ApiClient
from tests.bed.aws import Aws

FAST_RETRIES = (0.2, 0.2, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0, 5.0, 5.0)


async def add_webhook(
    api: ApiClient,
    url: str,
    *,
    schedule: Sequence[float] = FAST_RETRIES,
    wanted: Mapping[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Register a webhook and a subscription to all, or to what the filter takes; gives the endpoint and its secret."""
    endpoint: dict[str, Any] = await api.post(
        "/endpoints",
        {
            "name": url,
            "kind": "webhook",
            "config": {"url": url},
            "retry": {"schedule_seconds": list(schedule)},
            **fields,
        },
    )
    await add_subscription(api, endpoint, wanted=wanted)
    return endpoint


async def add_topic(
    api: ApiClient, bootstrap_servers: str, topic: str, *, schedule: Sequence[float] = FAST_RETRIES, **fields: Any
) -> dict[str, Any]:
    """Register a Kafka topic and a subscription to all; gives the endpoint."""
    endpoint: dict[str, Any] = await api.post(
        "/endpoints",
        {
            "name": topic,
            "kind": "kafka",
            "config": {"bootstrap_servers": bootstrap_servers, "topic": topic},
            "retry": {"schedule_seconds": list(schedule)},
            **fields,
        },
    )
    await add_subscription(api, endpoint)
    return endpoint


async def add_subscription(
    api: ApiClient, endpoint: Mapping[str, Any], *, wanted: Mapping[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """Subscribe an endpoint to all, or to what the filter takes."""
    body = {"name": endpoint["name"], "endpoint_id": endpoint["id"], "filter": dict(wanted or {}), **fields}
    subscription: dict[str, Any] = await api.post("/subscriptions", body)
    return subscription


async def add_queue(api: ApiClient, aws: Aws, queue_url: str, **fields: Any) -> dict[str, Any]:
    """Register a queue; short spans, because moto's long poll outlives a killed client and swallows a message."""
    config = {
        "queue_url": queue_url,
        "region": aws.region,
        "endpoint_url": aws.endpoint_url,
        "wait_seconds": 1,
        "visibility_seconds": 2,
    }
    body = {"name": queue_url, "kind": "sqs", "config": config, **fields}
    source: dict[str, Any] = await api.post("/sources", body)
    return source
