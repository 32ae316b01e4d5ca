"""Dead-letter queues over REST: what is answered, and what is said when the provider will not or cannot answer."""

import json

import pytest

from tests.bed.aws import ENVIRONMENT, Aws
from tests.integration.api.conftest import Api


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


async def _source(api: Api, queue_url: str, endpoint_url: str) -> str:
    config = {"queue_url": queue_url, "region": "us-east-1", "endpoint_url": endpoint_url}
    made = await api.ask.post("/v1/sources", {"name": "uploads", "kind": "sqs", "config": config})
    return f"{made.headers['location']}/dead-letter-queues"


async def test_dead_letters_are_listed_and_moved_back(api_on_both: Api, aws: Aws) -> None:
    """The list shows the queue of the redrive policy; after the redrive it is empty, and the source's queue is not."""
    api = api_on_both
    dead_url = await aws.create_queue()
    dead_arn = await aws.queue_arn(dead_url)
    policy = {"deadLetterTargetArn": dead_arn, "maxReceiveCount": 5}
    queue_url = await aws.create_queue(RedrivePolicy=json.dumps(policy))
    await aws.send(dead_url, "dead")
    path = await _source(api, queue_url, aws.endpoint_url)

    listed = await api.ask.get(path)
    redriven = await api.ask.post(f"{path}/redrive", None)

    queue = {"queue_url": dead_url, "queue_arn": dead_arn, "max_receive_count": 5, "retention_seconds": 345600}
    assert (listed.status, listed.body) == (200, {"data": [{**queue, "depth": 1, "redrive": None}]})
    redrive = {"state": "completed", "moved": 1, "failed": 0, "to_move": 1}
    assert (redriven.status, redriven.body) == (202, {"data": [{**queue, "depth": 0, "redrive": redrive}]})
    assert (await aws.depth(queue_url)).visible == 1


async def test_without_a_dead_letter_queue_there_is_nothing_to_redrive(api: Api, aws: Aws) -> None:
    """The list is empty, the redrive a conflict that says what is missing."""
    path = await _source(api, await aws.create_queue(), aws.endpoint_url)

    listed = await api.ask.get(path)
    redriven = await api.ask.post(f"{path}/redrive", None)

    assert (listed.status, listed.body) == (200, {"data": []})
    assert (redriven.status, redriven.body["code"]) == (409, "wrong_state")
    assert "redrive policy" in redriven.body["detail"]


async def test_what_the_provider_refuses_is_said_in_its_words(api: Api, aws: Aws) -> None:
    """A queue that is not there is a bad gateway, with the code and the message of the provider."""
    path = await _source(api, f"{await aws.create_queue()}-that-is-not-there", aws.endpoint_url)

    for answer in (await api.ask.get(path), await api.ask.post(f"{path}/redrive", None)):
        assert (answer.status, answer.body["code"]) == (502, "source_refused")
        assert "NonExistentQueue: The specified queue does not exist" in answer.body["detail"]


async def test_a_provider_that_is_away_is_asked_again_later(api: Api) -> None:
    """Nothing listens there: the answer says where, and when to ask again."""
    path = await _source(api, "http://127.0.0.1:9/1/q", "http://127.0.0.1:9")

    answer = await api.ask.get(path)

    assert (answer.status, answer.body["code"]) == (503, "source_unavailable")
    assert "127.0.0.1:9" in answer.body["detail"]
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("source_id", ["src_aaaaaaaaaaaaaaaaaaaaaaaaaa", "nonsense"])
async def test_an_unknown_source_has_no_dead_letters(api: Api, source_id: str) -> None:
    """Whatever is asked of it is not found."""
    path = f"/v1/sources/{source_id}/dead-letter-queues"

    assert [(await api.ask.get(path)).status, (await api.ask.post(f"{path}/redrive", None)).status] == [404, 404]
