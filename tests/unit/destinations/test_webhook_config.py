"""What the config of a webhook may say."""

from ipaddress import IPv4Network

import pytest
from pydantic import ValidationError

from app.destinations import KINDS
from app.destinations.webhook_config import WebhookConfig, check_header

URL = "https://example.com/hooks"
GOOD_HEADERS = {"Authorization": "Bearer abc", "X-Api_Key": "a b\tc", "!#$%&'*+.^`|~": "~!", "x-empty": ""}


def test_url_and_headers_are_taken_as_they_are() -> None:
    """Nothing else is needed."""
    assert WebhookConfig.model_validate({"url": URL}).headers == {}
    assert WebhookConfig.model_validate({"url": URL, "headers": GOOD_HEADERS}).model_dump() == {
        "url": URL,
        "headers": GOOD_HEADERS,
    }


def test_the_context_opens_private_networks() -> None:
    """Without it a literal private address is an error of `url`."""
    config = {"url": "http://127.0.0.1:8000/"}

    WebhookConfig.model_validate(config, context={"allow_cidrs": (IPv4Network("127.0.0.0/8"),)})
    with pytest.raises(ValidationError, match="private address") as caught:
        WebhookConfig.model_validate(config)

    assert caught.value.errors()[0]["loc"] == ("url",)


def test_unknown_fields_are_refused() -> None:
    """A misspelt one is not silently without effect."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        WebhookConfig.model_validate({"url": URL, "header": {}})


@pytest.mark.parametrize(
    "name",
    [
        *("", "X A", "X-A:", "X\r\nA", "X\x00", "Xé", "(x)", "x/y", "a" * 257, "x\n"),
        *("Host", "host", "Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "TE", "Trailer"),
        *("Transfer-Encoding", "Upgrade", "Content-Length", "Content-Encoding", "Content-Type", "Expect", "User-Agent"),
        *("webhook-id", "Webhook-Signature", "webhook-anything", "Idempotency-Key", "ce-id"),
        "Bucketpost-Late",
    ],
)
def test_header_names_that_are_not_theirs_are_refused(name: str) -> None:
    """What is no token, what frames the message, and what every request says by itself."""
    with pytest.raises(ValueError, match=r"header"):
        check_header(name, "value")


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\x00b", "é", " a", "a ", "\ta", "a\x7f", "x" * 4097, "a\n"])
def test_header_values_that_are_not_plain_are_refused(value: str) -> None:
    """And the error does not show them: they may be credentials."""
    with pytest.raises(ValidationError, match="printable ASCII") as caught:
        WebhookConfig.model_validate({"url": URL, "headers": {"X-A": value}})

    assert value not in str(caught.value)


def test_headers_are_few_and_named_once() -> None:
    """Whatever their case."""
    with pytest.raises(ValidationError, match="at most 50"):
        WebhookConfig.model_validate({"url": URL, "headers": {f"x-{n}": "" for n in range(51)}})
    with pytest.raises(ValidationError, match="once"):
        WebhookConfig.model_validate({"url": URL, "headers": {"X-A": "1", "x-a": "2"}})


def test_header_values_read_back_hidden() -> None:
    """Their names stay."""
    shown = KINDS["webhook"].public_config({"url": URL, "headers": {"Authorization": "Bearer abc"}})

    assert shown == {"url": URL, "headers": {"Authorization": "***"}}
