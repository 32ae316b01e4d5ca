"""Cloudflare R2's notifications: every action, and what is refused."""

import json
from typing import Any

import pytest

from app.domain.event import Change
from tests.unit.decode.samples import event_of, refusal_of


def _bytes(**changes: Any) -> bytes:
    notification = {
        "account": "3f4b7e3dcab231cbfdaa90a6a28bd548",
        "action": "PutObject",
        "bucket": "my-bucket",
        "object": {"key": "a+b%20c", "size": 5, "eTag": "c846ff7a18f28c2e262116d6e8719ef0"},
        "eventTime": "2024-05-24T19:36:44.379Z",
    }
    return json.dumps(notification | changes).encode()


@pytest.mark.parametrize(
    ("action", "name", "change"),
    [
        ("PutObject", "ObjectCreated:Put", "created"),
        ("CopyObject", "ObjectCreated:Copy", "created"),
        ("CompleteMultipartUpload", "ObjectCreated:CompleteMultipartUpload", "created"),
        ("DeleteObject", "ObjectRemoved:Delete", "removed"),
        ("LifecycleDeletion", "LifecycleExpiration:Delete", "removed"),
        ("PolishObject", "PolishObject", "other"),
    ],
)
def test_each_action_becomes_s3s_name(action: str, name: str, change: Change) -> None:
    """An action that is not known is its own name."""
    event = event_of(_bytes(action=action))

    assert (event.type, event.change, event.dialect) == (f"s3:{name}", change, "r2")


def test_keys_are_plain_and_the_record_is_the_whole_notification() -> None:
    """Nothing is decoded, nothing is cut."""
    event = event_of(_bytes())

    assert (event.key, event.record) == (b"a+b%20c", _bytes())


def test_two_accounts_may_have_a_bucket_of_one_name() -> None:
    """So the account tells changes apart."""
    assert event_of(_bytes()).id != event_of(_bytes(account="other")).id


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bucket": {"name": "b"}}, "The message gives an object for bucket, not text."),
        ({"object": {"size": 5}}, "The message gives no object.key."),
        ({"object": "k"}, "The message gives text for object, not an object."),
        ({"action": "a\nb"}, "The message gives the action 'a\\nb', which is no name."),
        ({"eventTime": 5}, "The message gives a number for eventTime, not text."),
        ({"account": []}, "The message gives an array for account, not text."),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    """The bytes are the whole notification's."""
    body = _bytes(**changes)

    refusal = refusal_of(body)

    assert (refusal.reason, refusal.raw) == (reason, body)
